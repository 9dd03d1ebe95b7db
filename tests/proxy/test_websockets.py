"""Realtime APIs through the proxy, over real sockets."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from world import MakeWorld, upstream


async def realtime(request: web.BaseRequest) -> web.StreamResponse:
    """Says what it was asked, repeats each message, and closes when it is told to."""
    if "refused" in request.path:
        return web.Response(status=401)
    socket = web.WebSocketResponse(protocols=["realtime"])
    await socket.prepare(request)
    await socket.send_json({"target": request.raw_path, "key": request.headers.get("Authorization")})
    async for message in socket:
        if message.data == "close":
            await socket.close(code=4001, message=b"done")
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    gone.set()
    return socket


gone = asyncio.Event()


async def test_messages_go_both_ways(make_world: MakeWorld) -> None:
    async with upstream(realtime) as url:
        world = await make_world(upstream_url=url)
        async with world.session.ws_connect(
            world.url + "/v1/realtime?model=gpt%26realtime",
            headers={"Authorization": "Bearer mine"},
            protocols=["other", "realtime"],
        ) as socket:
            assert socket.protocol == "realtime"
            assert await socket.receive_json() == {
                "target": "/v1/realtime?model=gpt%26realtime",
                "key": "Bearer mine",
            }
            await socket.send_str("ü" * 100_000)
            assert await socket.receive_str() == "ü" * 100_000
            await socket.send_bytes(bytes(range(256)))
            assert await socket.receive_bytes() == bytes(range(256))


async def test_the_upstream_ends_it(make_world: MakeWorld) -> None:
    async with upstream(realtime) as url:
        world = await make_world(upstream_url=url)
        async with world.session.ws_connect(world.url + "/v1/realtime") as socket:
            await socket.receive()
            await socket.send_str("close")
            assert (await socket.receive()).type is WSMsgType.CLOSE
            assert socket.close_code == 4001
        await world.settled()


async def test_the_caller_ends_it(make_world: MakeWorld) -> None:
    gone.clear()
    async with upstream(realtime) as url:
        world = await make_world(upstream_url=url)
        socket = await world.session.ws_connect(world.url + "/v1/realtime")
        await socket.receive()
        await socket.close()
        async with asyncio.timeout(5):
            await gone.wait()
        await world.settled()


async def test_a_refusal_is_passed_on(make_world: MakeWorld) -> None:
    async with upstream(realtime) as url:
        world = await make_world(upstream_url=url)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.session.ws_connect(world.url + "/refused")
        assert refused.value.status == 401


async def test_an_upstream_that_is_away(make_world: MakeWorld) -> None:
    world = await make_world(upstream_url="http://127.0.0.1:9")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await world.session.ws_connect(world.url + "/v1/realtime")
    assert refused.value.status == 502
