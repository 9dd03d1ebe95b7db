"""The HTTP side of the admin plane: access control, validation of input, and errors as JSON."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from proxy.admin import dashboard
from proxy.admin.errors import Forbidden, Refusal, Unauthorized, Unavailable
from proxy.admin.gauges import Gauges
from proxy.admin.inputs import understood
from proxy.admin.live import Live
from proxy.admin.routes import API, ROUTES, Route
from proxy.admin.shown import as_json
from proxy.app import App
from proxy.settings import Admin, is_loopback
from proxy.telemetry.ledger import Ledger

log = logging.getLogger("nearhit.admin")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LIVE = f"{API}/live"
"""The only endpoint without a deadline: it runs until the listener leaves."""
ANSWER_S = 30.0
_READING = ("GET", "HEAD", "OPTIONS")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def admin_app(app: App) -> web.Application:
    plane = web.Application(middlewares=[_errors_as_json, _door(app.settings.admin), _settled(app.ledger)])
    app.metrics.registry.register(Gauges(app))
    for route in ROUTES:
        handler = _handler(route, app)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            plane.router.add_route(method, route.path, handler)
    plane.router.add_get(LIVE, Live(app).listen)
    plane.router.add_get("/metrics", _metrics(app))
    plane.router.add_get("/", dashboard.page)
    plane.router.add_get("/dashboard/{path:.+}", dashboard.file)
    return plane


def _handler(route: Route, app: App) -> Handler:
    dumps = as_json(app.settings.admin.show_text)

    async def handle(request: web.Request) -> web.StreamResponse:
        given = [understood(route.input, await _input(request))] if route.input else []
        answer = await route.view(app, *request.match_info.values(), *given)
        return web.json_response(answer, headers=_HEADERS, dumps=dumps)

    return handle


async def _input(request: web.Request) -> Any:
    if request.method in _READING:
        return {name: value for name, value in request.query.items() if value}  # `q=` counts as not given
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        raise Refusal("the body should be a JSON object") from None


def _metrics(app: App) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=await app.metrics.render(), headers={"Content-Type": content_type})

    return handle


# Access control


def _door(settings: Admin) -> Middleware:
    token = settings.token.get_secret_value().encode() if settings.token else b""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(API):
            _check_browser(request, any_name=bool(token))
            if token and not hmac.compare_digest(_bearer(request), token):
                raise Unauthorized("this needs the header Authorization: Bearer with the admin token")
        return await handler(request)

    return check


def _bearer(request: web.Request) -> bytes:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""


def _check_browser(request: web.Request, any_name: bool) -> None:
    """A browser on this machine sends us the requests of any page it shows. A page with a name that resolves
    to us (DNS rebinding) is recognised by `Host`, one that posts forms to us by `Origin`."""
    host = request.headers.get("Host", "")
    if host and not any_name and not is_loopback(_parsed(f"//{host}").hostname or ""):
        raise Forbidden("without admin.token the admin plane only answers to localhost and 127.0.0.1")
    origin = request.headers.get("Origin")
    if origin is not None and request.method not in _READING and _parsed(origin).netloc != host:
        raise Forbidden("another site's page may not change anything here")


def _parsed(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        raise Forbidden("Host or Origin is not an address") from None


def _settled(ledger: Ledger) -> Middleware:
    """Settles the ledger first, so that answers include all calls so far."""

    @web.middleware
    async def settle(request: web.Request, handler: Handler) -> web.StreamResponse:
        ledger.settle()
        return await handler(request)

    return settle


# Errors


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(None if request.path == LIVE else ANSWER_S):
            return await handler(request)
    except Refusal as refusal:
        return _error(refusal.status, str(refusal), refusal.headers)
    except web.HTTPException as error:
        return _error(error.status, error.reason, _allowed(error))
    except TimeoutError:
        return _error(Unavailable.status, f"this took longer than {ANSWER_S:g} s", Unavailable.headers)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _error(500, "this failed; the log says why", {})


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {name: error.headers[name] for name in ("Allow",) if name in error.headers}


def _error(status: int, message: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers={**_HEADERS, **headers})
