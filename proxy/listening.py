"""aiohttp's HTTP server, adapted to the data plane: it allows for the many headers of gateways, and its
errors have the shape that LLM clients expect, even if the request is not valid HTTP."""

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
"""Longest wait for the first request head on a connection, which is then closed; aiohttp would wait for
ever."""
_TOO_MANY = "Too many headers"
"""Beginning of aiohttp's message for too many headers, for which it has no exception class."""


def server(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> web.Server:
    """Bodies are not decompressed, as they are passed on unchanged. A caller that disconnects cancels its
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
    """The body of the request that is being answered."""
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
        """Ends all bodies with the error, so that their readers see it at once. aiohttp only reports it to
        the reader of the next request, and those of the bodies would wait for `READ_S`."""
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
        super().handle_error(request, status, exc, message)  # logs it, and raises if an answer has begun
        told = refusal(request, _told(exc))
        told.force_close()
        return told


def _told(error: BaseException | None) -> CallError:
    if not isinstance(error, HttpProcessingError):
        return CallError("nearhit failed to handle this call; its log says why")
    if isinstance(error, LineTooLong) or error.message.startswith(_TOO_MANY):
        return HeadTooLarge(f"More than {HEADERS} headers, or one of more than {HEADER_BYTES} bytes")
    why = " ".join(error.message.partition("\n\n")[0].split()).rstrip(":")  # the bytes themselves follow
    return BadRequest(f"This is not HTTP as nearhit reads it: {why}")


class _Server(web.Server):
    def _make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
        protocol.body = payload
        if message.chunked:
            # aiohttp takes the last trailer of a body for a header of the next request on the connection,
            # which may be another caller's behind the same load balancer.
            message = message._replace(should_close=True)
        return super()._make_request(message, payload, protocol, writer, task)

    def __call__(self) -> web.RequestHandler:
        protocol = _Protocol(self, loop=self._loop, **self._kwargs)
        protocol.body = EMPTY_PAYLOAD
        return protocol
