"""Writing an upstream's answer to a caller as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from proxy.errors import CallerGone, CallError
from proxy.upstream import Head

WRITE_S = 600.0
"""Seconds that a caller may take to accept a chunk before it counts as gone."""


async def relay(request: web.BaseRequest, head: Head, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    """Sends head and chunks on as they come. Where the chunks break off, so does the connection: the caller
    must not take half an answer for a whole one."""
    response = web.StreamResponse(status=head.status, reason=head.reason, headers=head.headers)
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


async def paced(events: Sequence[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The events one after the other, the first at once, spread over so many seconds by their length."""
    loop, whole, sent = asyncio.get_running_loop(), sum(map(len, events)), 0
    started = loop.time()
    for event in events:
        await asyncio.sleep(started + seconds * sent / whole - loop.time())
        yield event
        sent += len(event)


def _break_off(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
