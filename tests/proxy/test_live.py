"""The stream of decisions, as long as somebody listens and not a second longer."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from planes import API, Plane, loaded, plane_of
from world import MakeWorld

from proxy.admin import live
from proxy.admin import plane as admin_plane


@pytest.fixture
async def plane(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plane]:
    monkeypatch.setattr(live, "EVERY_S", 0.02)
    async with plane_of(await make_world()) as plane:
        await loaded(plane)
        yield plane


async def event(stream: Any) -> Any:
    return json.loads((await stream.readuntil(b"\n\n")).removeprefix(b"data: "))


async def test_it_goes_on_longer_than_any_other_answer_may_take(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_plane, "ANSWER_S", 0.05)
    async with plane.world.session.get(plane.url + f"{API}/live") as response:
        first = await event(response.content)
        for _ in range(10):
            last = await event(response.content)
        assert first["calls"] == last["calls"] == []
        await plane.world.ask("how do i boil an egg")
        while not (told := await event(response.content))["calls"]:
            pass
    assert told["calls"][0]["query"] == "how do i boil an egg"


async def test_who_leaves_is_no_failure(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    async with plane.world.session.get(plane.url + f"{API}/live") as response:
        await event(response.content)
        response.close()
    async with plane.world.session.get(plane.url + f"{API}/live") as response:
        for _ in range(3):
            await event(response.content)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_who_does_not_read_gives_way(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE_S", 0.1)
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    monkeypatch.setattr(live, "MOST_LISTENERS", 1)
    sleeper = socket.socket()
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.connect(("127.0.0.1", int(plane.url.rpartition(":")[2])))
    sleeper.sendall(f"GET {API}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert await status(plane) == 503
    while await status(plane) == 503:
        await asyncio.sleep(0.05)
    sleeper.close()


async def status(plane: Plane) -> int:
    await asyncio.sleep(0.05)
    async with plane.world.session.get(plane.url + f"{API}/live") as response:
        return response.status
