"""Writes answers to callers: an upstream's as it arrives, or a complete one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from email.utils import formatdate
from functools import lru_cache
from time import time

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter

from proxy.errors import CallerGone, CallError
from proxy.upstreams.upstream import Head

WRITE_S = 600.0
"""Seconds a caller may take to accept a chunk before it counts as gone."""


async def relay(request: web.BaseRequest, head: Head, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    """Passes on head and chunks as they arrive. If the chunks break off, the connection is aborted, so that
    the caller cannot mistake half an answer for a complete one. Raises `CallerGone`, and what `chunks`
    raises."""
    response = _Relayed(status=head.status, reason=head.reason, headers=head.headers)
    await response.prepare(request)
    try:
        async for chunk in chunks:
            async with asyncio.timeout(WRITE_S):
                await response.write(chunk)
        await response.write_eof()
    except CallError:
        _break_off(request)
        raise
    except (TimeoutError, ConnectionResetError) as error:
        _break_off(request)
        raise CallerGone("the caller did not read its answer") from error
    return response


class _Relayed(web.StreamResponse):
    """A response without the headers that aiohttp would add if the upstream did not send them."""

    async def _prepare_headers(self) -> None:
        untold = [name for name in ("Content-Type", "Server") if name not in self.headers]
        await super()._prepare_headers()
        for name in untold:
            self.headers.popall(name, None)


class WholeResponse(web.StreamResponse):
    """A complete answer with status 200. Head and body go out in one write. `web.Response`, with its support
    for cookies, ranges and compression, takes five times as long."""

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        """`headers` must not contain line breaks: they are not checked again."""
        super().__init__()
        self._bytes = body
        self._told = headers
        self._stays = False

    @property
    def keep_alive(self) -> bool:
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller has gone")
        self._stays = request.keep_alive
        transport.write(self._head(request.version == HttpVersion10) + self._bytes)
        if transport.get_write_buffer_size():
            await self._drain(request)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""

    def _head(self, old: bool) -> bytes:
        lines = [f"{name}: {value}\r\n" for name, value in self._told.items()]
        if self._stays is old:  # the opposite of the HTTP version's default (RFC 9112, section 9.3)
            lines.append(f"Connection: {'keep-alive' if old else 'close'}\r\n")
        length, date = len(self._bytes), _date(int(time()))
        head = f"HTTP/1.1 200 OK\r\n{''.join(lines)}Content-Length: {length}\r\nDate: {date}\r\n\r\n"
        return head.encode("utf-8", "surrogateescape")

    @staticmethod
    async def _drain(request: web.BaseRequest) -> None:
        try:
            async with asyncio.timeout(WRITE_S):
                await request.writer.drain()
        except TimeoutError as error:
            _break_off(request)
            raise ConnectionResetError("the caller did not read its answer") from error


@lru_cache(1)
def _date(at: int) -> str:
    return formatdate(at, usegmt=True)


async def paced(events: Sequence[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The events one after another, spread over `seconds` in proportion to their length; the first comes at
    once."""
    loop, whole, sent = asyncio.get_running_loop(), sum(map(len, events)), 0
    started = loop.time()
    for event in events:
        await asyncio.sleep(started + seconds * sent / whole - loop.time())
        yield event
        sent += len(event)


def _break_off(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
