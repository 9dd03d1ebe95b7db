"""A client of the admin plane, for the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from proxy.settings import Settings, mask

ANSWER_S = 60.0
SILENT_S = 15.0
"""Longest silence between events, which come once a second."""


HIDDEN = "(hidden by admin.show_text)"
"""Shown in place of a text that the admin plane withholds."""


class AdminError(Exception):
    """The admin plane did not do it. `str()` is one line that says what to do."""


class BadOrder(AdminError):
    """The admin plane rejected the request as invalid (400)."""


class AdminClient:
    def __init__(self, settings: Settings, url: str | None = None) -> None:
        """`url`: of the admin plane; None: taken from the settings."""
        self._url = (url or _address(settings)).rstrip("/")
        token = settings.admin.token
        self._headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}

    def get(self, path: str) -> Any:
        return self._send("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        return self._send("POST", path, body)

    def events(self, path: str) -> Iterator[Any]:
        """The data of a stream of server-sent events, until it ends. Raises `AdminError`."""
        url = f"{self._url}/api/v1/{path}"
        try:
            with httpx.stream("GET", url, headers=self._headers, timeout=SILENT_S) as answer:
                if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                    answer.read()
                    _content(answer)
                    raise AdminError(f"{mask(url)} sends no events; does it run this version of nearhit?")
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line.removeprefix("data:"))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._silent(error) from None
        raise AdminError(f"{mask(self._url)} closed the connection")

    def _silent(self, error: Exception) -> AdminError:
        return AdminError(
            f"no answer from {mask(self._url)} ({_kind(error)}); start nearhit serve, or give the URL of its"
            " admin plane with --url"
        )

    def _send(self, method: str, path: str, body: Any) -> Any:
        url = f"{self._url}/api/v1/{path}"
        try:
            answer = httpx.request(method, url, json=body, headers=self._headers, timeout=ANSWER_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._silent(error) from None
        return _content(answer)


def _address(settings: Settings) -> str:
    host, port = settings.admin.host, settings.admin.port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _kind(error: Exception) -> str:
    return "nothing listens there" if isinstance(error, httpx.ConnectError) else type(error).__name__


def _content(answer: httpx.Response) -> Any:
    try:
        content = answer.json()
    except ValueError:
        raise AdminError(f"{mask(str(answer.url))} is not nearhit's admin plane; check --url") from None
    if answer.is_success:
        return content
    if answer.status_code == 401:
        raise AdminError(
            "the admin plane requires a token; set NEARHIT_ADMIN__TOKEN to the one it was started with"
        )
    raise (BadOrder if answer.status_code == 400 else AdminError)(_message(content))


def _message(content: Any) -> str:
    error = content.get("error") if isinstance(content, dict) else None
    return str(error.get("message", error)) if isinstance(error, dict) else "the admin plane refused"
