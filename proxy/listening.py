"""aiohttp's HTTP server as the data plane needs it: with room for the headers of gateways, and with errors in
the shape that callers of LLM APIs read, also where what comes is no HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import _ErrInfo

from proxy.errors import BadRequest, CallError, HeadTooLarge
from proxy.server import refusal
from proxy.upstreams.upstream import HEADER_BYTES, HEADERS

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
    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """A body that is no HTTP any more is told to whoever reads it. aiohttp would answer it after the
        call, which would wait for the rest until it runs out of time."""
        super().data_received(data)
        if not self._messages or not isinstance(fault := self._messages[-1][0], _ErrInfo):
            return
        bodies = [body for _, body in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        if unfinished := [body for body in bodies if not body.is_eof()]:
            self._messages.pop()
            self.close()
            for body in unfinished:
                body.set_exception(_told(fault.exc))
                body.feed_eof()  # nothing is to be read off afterwards

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
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)
