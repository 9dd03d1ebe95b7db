"""What the environment may say about the way to the upstream, and what it must not add to a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from world import MakeWorld, World

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@asynccontextmanager
async def forward_proxy(heads: list[str]) -> AsyncIterator[int]:
    """Answers everything itself and keeps what it was asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_calls_go_through_the_proxy_of_the_environment(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[str] = []
    async with forward_proxy(heads) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        world = await make_world(upstream_url="http://api.example.test")
        answer = await world.call("GET", "/v1/files")
    assert answer.body == b"ok"
    assert heads[0].startswith("GET http://api.example.test/v1/files HTTP/1.1\r\n")


async def test_an_origin_that_the_environment_excepts_is_called_directly(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    world = await make_world()
    assert (await world.ask()).status == 200


async def test_passwords_of_a_netrc_file_stay_out_of_calls(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert (await world.ask()).status == 200
