"""Requests that are none of the cache's business, passed on byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from multidict import CIMultiDict

from proxy import report as reports
from proxy.errors import BadRequest, TooLarge
from proxy.relay import relay
from proxy.upstream import Head, Upstream, forwarded

READ_S = 60.0
"""Seconds that a caller may take for the next part of its body."""
BUFFERED = 2**20
"""Bodies up to so many bytes are read before they are sent, so that a dropped connection can be tried
again."""


async def pass_through(
    request: web.BaseRequest,
    upstream: Upstream,
    body: bytes | None = None,
    extra: CIMultiDict[str] | None = None,
) -> web.StreamResponse:
    """`body` where it was read already; `extra` are headers to add to the answer."""
    headers = forwarded(request.headers)
    content: bytes | AsyncIterator[bytes] | None = body
    if body is None and request.can_read_body:
        if (request.content_length or BUFFERED + 1) <= BUFFERED:
            content = await read_body(request, BUFFERED)
        else:
            content = _incoming(request)
            if request.content_length is not None:
                headers["Content-Length"] = str(request.content_length)
    async with upstream.send(request.method, target_of(request), headers, content) as answer:
        told = answer.head.headers
        if extra is not None:
            reports.add(told, extra)
        return await relay(request, Head(answer.head.status, answer.head.reason, told), answer.chunks())


def target_of(request: web.BaseRequest) -> str:
    """Path and query as they came, whichever form of target the request line has (RFC 9112, section 3.2)."""
    return request.raw_path if request.raw_path.startswith("/") else request.rel_url.raw_path_qs


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """Raises `TooLarge` as soon as that is certain."""
    if (request.content_length or 0) > limit:
        raise TooLarge(f"The body of this request is larger than the {limit} bytes that are allowed")
    parts, size = [], 0
    async for part in _incoming(request):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise TooLarge(f"The body of this request is larger than the {limit} bytes that are allowed")
    return b"".join(parts)


async def _incoming(request: web.BaseRequest) -> AsyncIterator[bytes]:
    if request.content.is_eof():
        # It came along with its head, as most do: there is nothing to set a timer for.
        yield request.content.read_nowait()
        return
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
    """RFC 9110, section 10.1.1: the caller waits to be told that its body is welcome."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
