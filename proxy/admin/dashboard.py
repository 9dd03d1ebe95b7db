"""Serves the dashboard's files unchanged: there is no build step, and nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from mimetypes import guess_type
from pathlib import Path

from aiohttp import ETag, web

FOLDER = Path(__file__).parents[1] / "dashboard"
_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
}
"""No text that callers wrote may run as a script."""


@dataclass(frozen=True, slots=True)
class File:
    body: bytes
    kind: str
    etag: str


def _files() -> Iterator[tuple[str, File]]:
    for path in sorted(FOLDER.rglob("*.*")):
        body = path.read_bytes()
        kind = guess_type(path.name)[0] or "application/octet-stream"
        yield path.relative_to(FOLDER).as_posix(), File(body, kind, blake2b(body, digest_size=8).hexdigest())


FILES = dict(_files())
"""Read once, at import, so that no request has to wait for it: a hundred kilobytes."""


async def page(request: web.Request) -> web.StreamResponse:
    return _answer(request, FILES["index.html"])


async def file(request: web.Request) -> web.StreamResponse:
    found = FILES.get(request.match_info["path"])
    if found is None:
        raise web.HTTPNotFound
    return _answer(request, found)


def _answer(request: web.Request, found: File) -> web.StreamResponse:
    known = request.if_none_match or ()
    if any(each.value == found.etag for each in known):
        response = web.Response(status=304, headers=_HEADERS)
    else:
        response = web.Response(
            body=found.body, headers=_HEADERS | {"Content-Type": f"{found.kind}; charset=utf-8"}
        )
    response.etag = ETag(found.etag)
    return response
