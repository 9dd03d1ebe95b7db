"""Passes on WebSockets (realtime APIs), message by message in both directions. Nothing of them is cached."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import (
    ClientWebSocketResponse,
    WSCloseCode,
    WSMessage,
    WSMsgType,
    WSServerHandshakeError,
    web,
)

from proxy.passthrough import headers_for
from proxy.relay import WRITE_S
from proxy.targets import target_of
from proxy.upstreams.fleet import Fleet

HEARTBEAT_S = 30.0
"""Interval of pings to both sides; a side that does not answer one is gone."""
MESSAGE_BYTES = 2**26
_HANDSHAKE = tuple(f"Sec-WebSocket-{name}" for name in ("Key", "Version", "Extensions", "Protocol"))

Side = ClientWebSocketResponse | web.WebSocketResponse


def wanted(request: web.BaseRequest) -> bool:
    """RFC 6455, section 4.1."""
    return request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket"


async def pass_on(request: web.BaseRequest, fleet: Fleet, identified: bool) -> web.StreamResponse:
    """Runs until either side closes. `identified`: the caller sent credentials. If the upstream refuses, its
    status is passed on. Raises `Unreachable`, `UpstreamSlow` or `Unidentified`."""
    model = request.query.get("model", "")
    backend = fleet.at(model)
    headers = headers_for(request, backend, identified)
    offered = headers.get("Sec-WebSocket-Protocol", "").split(",")
    protocols = [name.strip() for name in offered if name.strip()]
    for name in _HANDSHAKE:
        headers.popall(name, None)
    try:
        target = backend.target(model, target_of(request))
        theirs = await backend.upstream.connect(target, headers, protocols, HEARTBEAT_S, MESSAGE_BYTES)
    except WSServerHandshakeError as refused:
        return web.Response(status=refused.status, text="the upstream refused the WebSocket\n")
    async with theirs:
        ours = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S,
            max_msg_size=MESSAGE_BYTES,
            protocols=[theirs.protocol] if theirs.protocol else [],
            compress=False,
        )
        await ours.prepare(request)
        await _both_ways(ours, theirs)
    return ours


async def _both_ways(ours: Side, theirs: Side) -> None:
    """When one side closes, the other is closed with the same code."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_pump(ours, theirs), name="websocket-up")
        group.create_task(_pump(theirs, ours), name="websocket-down")


async def _pump(source: Side, sink: Side) -> None:
    with suppress(ConnectionError, TimeoutError):
        async for message in source:
            async with asyncio.timeout(WRITE_S):
                await _send(sink, message)
    await sink.close(code=_sendable(source.close_code))


def _sendable(code: int | None) -> int:
    """The close code, unless it is one that must not be sent (RFC 6455, section 7.4.1)."""
    return WSCloseCode.GOING_AWAY if code in (None, 1005, WSCloseCode.ABNORMAL_CLOSURE, 1015) else code


async def _send(sink: Side, message: WSMessage) -> None:
    if message.type is WSMsgType.TEXT:
        await sink.send_str(message.data)
    elif message.type is WSMsgType.BINARY:
        await sink.send_bytes(message.data)
