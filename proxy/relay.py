"""Writing answers to callers: whole ones, and others' as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from aiohttp import web
from multidict import CIMultiDict

from proxy.errors import CallError
from proxy.upstream import Head

WRITE_S = 60.0
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
    except (CallError, TimeoutError):
        _break_off(request)
        raise
    await response.write_eof()
    return response


def _break_off(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


async def send(
    request: web.BaseRequest, headers: CIMultiDict[str], pieces: Iterable[bytes]
) -> web.StreamResponse:
    """A whole answer out of memory; in one write unless it comes in several pieces."""
    return web.Response(body=b"".join(pieces), headers=headers)
