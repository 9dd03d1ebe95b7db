"""aiohttp's HTTP server as the data plane needs it: with room for the headers of gateways, and with errors in
the shape that callers of LLM APIs read, also where what comes is no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

from proxy.errors import BadRequest, CallError, HeadTooLarge
from proxy.server import refusal
from proxy.upstreams.upstream import HEADER_BYTES, HEADERS

HEAD_S = 60.0
"""For the first head on a connection, after which that is closed; aiohttp would wait for ever."""
_TOO_MANY = "Too many headers"
"""How aiohttp begins what it says of more than are allowed: it has no error of its own for that."""


def server(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> web.Server:
    """Bodies are passed on as they came, so they are not decompressed; a caller that leaves cancels its
    call."""
    return _Server(
        handle,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        max_headers=HEADERS,
    )


class _Protocol(web.RequestHandler):
    __slots__ = ("body", "head_due")

    body: StreamReader
    """Of the request that is being answered."""
    head_due: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.head_due = self._loop.call_later(HEAD_S, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.head_due.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self.head_due.cancel()
        if self._messages and isinstance(error := getattr(self._messages[-1][0], "exc", None), Exception):
            self._end_of_bodies(error)

    def _end_of_bodies(self, error: Exception) -> None:
        """Tells whoever reads a body, or will, that no more of it can be read. aiohttp tells only who reads
        the next request: the reader would wait for `READ_S`."""
        for body in (self.body, *(payload for _, payload in self._messages)):
            if not body.is_eof():
                body.set_exception(_told(error))
                body.feed_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # logs it, and raises where an answer has begun
        told = refusal(request, _told(exc))
        told.force_close()
        return told


def _told(error: BaseException | None) -> CallError:
    if not isinstance(error, HttpProcessingError):
        return CallError("nearhit failed at this call; its log says why")
    if isinstance(error, LineTooLong) or error.message.startswith(_TOO_MANY):
        return HeadTooLarge(f"More than {HEADERS} headers, or more than {HEADER_BYTES} bytes of one")
    why = " ".join(error.message.partition("\n\n")[0].split()).rstrip(":")  # then come the bytes themselves
    return BadRequest(f"This is not HTTP as nearhit reads it: {why}")


class _Server(web.Server):
    def _make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
        protocol.body = payload
        if message.chunked:
            # aiohttp takes the last trailer of a body for a header of the next request on its connection,
            # who may be somebody else behind the same load balancer.
            message = message._replace(should_close=True)
        return super()._make_request(message, payload, protocol, writer, task)

    def __call__(self) -> web.RequestHandler:
        protocol = _Protocol(self, loop=self._loop, **self._kwargs)
        protocol.body = EMPTY_PAYLOAD
        return protocol
