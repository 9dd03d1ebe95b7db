"""Passes on requests that are not cached, byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from proxy.errors import BadRequest, TooLarge, Unidentified
from proxy.relay import relay
from proxy.targets import model_in, target_of
from proxy.telemetry import report as reports
from proxy.upstreams.fleet import Backend, Fleet, first_to_answer
from proxy.upstreams.upstream import Answer, Head, forwarded

READ_S = 60.0
"""Seconds a caller may take to send the next part of its body."""
BUFFERED = 2**20
"""Bodies of up to this many bytes are read completely before they are sent, so that they can be sent again if
the connection is dropped."""


async def pass_through(
    request: web.BaseRequest,
    fleet: Fleet,
    identified: bool,
    json_bytes: int,
    body: bytes | None = None,
    extra: dict[str, str] | None = None,
) -> web.StreamResponse:
    """Relays the upstream's answer. `identified`: the caller sent credentials. `json_bytes`: largest JSON
    body that is read to find the model it names. `body`: if it has been read already. `extra`: headers to add
    to the answer. Raises `CallError`."""
    content: bytes | AsyncIterator[bytes] | None = body
    if body is None and request.can_read_body:
        content = await _content(request, json_bytes if fleet.asks_by_model else BUFFERED)
    model = await _model(request, content) if fleet.asks_by_model else ""
    # Without a model it may be any request, even one that must not be repeated, so there is no fallback.
    route = fleet.standing(model) if model and not isinstance(content, AsyncIterator) else [fleet.of(model)]

    @asynccontextmanager
    async def send(backend: Backend) -> AsyncIterator[Answer]:
        headers, sent = headers_for(request, backend, identified), content
        if isinstance(content, bytes):
            sent = await asyncio.to_thread(backend.body, model, content) if model else content
        elif content is not None and request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        target = backend.target(model, target_of(request))
        async with backend.upstream.send(request.method, target, headers, sent) as answer:
            yield answer

    async with first_to_answer(route, send) as (_, answer):
        told = answer.head.headers
        if extra is not None:
            reports.add(told, extra)
        return await relay(request, Head(answer.head.status, answer.head.reason, told), answer.chunks())


def headers_for(request: web.BaseRequest, backend: Backend, identified: bool) -> CIMultiDict[str]:
    """The headers to send upstream. Raises `Unidentified` if a caller without credentials would use our own
    key."""
    if backend.key is not None and not identified:
        raise Unidentified("This call has no key; send one, so that it is known whose call it is")
    return backend.with_key(forwarded(request.headers), target_of(request))


async def _content(request: web.BaseRequest, json_bytes: int) -> bytes | AsyncIterator[bytes]:
    """The body: read completely if it is small or may name the model, else as it arrives."""
    json_typed = request.content_type == "application/json"
    longest = json_bytes if json_typed else BUFFERED
    if (request.content_length or BUFFERED + 1) <= longest:
        return await read_body(request, longest)
    return _incoming(request)


async def _model(request: web.BaseRequest, content: bytes | AsyncIterator[bytes] | None) -> str:
    """The model that a call names in its path or its JSON, or ""."""
    if named := model_in(target_of(request).partition("?")[0]):
        return named
    if not isinstance(content, bytes) or "Content-Encoding" in request.headers:
        return ""
    try:
        told = await asyncio.to_thread(json.loads, content)
    except (ValueError, RecursionError):
        return ""
    model = told.get("model") if isinstance(told, dict) else None
    return model if isinstance(model, str) else ""


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body. Raises `TooLarge` as soon as it is certain to exceed `limit` bytes, and `BadRequest` if
    it does not arrive in time."""
    _bound(request.content_length or 0, limit)
    if request.content.is_eof():
        # As for most requests, it arrived together with the head: there is nothing to wait for.
        body = request.content.read_nowait()
        _bound(len(body), limit)
        return body
    parts, size = [], 0
    async for part in _incoming(request):
        parts.append(part)
        size += len(part)
        _bound(size, limit)
    return b"".join(parts)


def _bound(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"The body of this request is larger than the {limit} bytes that are allowed")


async def _incoming(request: web.BaseRequest) -> AsyncIterator[bytes]:
    _go_on(request)
    while True:
        try:
            async with asyncio.timeout(READ_S):
                part = await request.content.readany()
        except TimeoutError as error:
            raise BadRequest("The body of this request did not arrive in time") from error
        if not part:
            return
        yield part


def _go_on(request: web.BaseRequest) -> None:
    """Tells a caller that is waiting for it to send its body (RFC 9110, section 10.1.1). Not for HTTP/1.0,
    where it would be taken for the answer."""
    waits = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11
    if waits and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
