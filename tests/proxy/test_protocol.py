"""HTTP/1.1 on the wire: raw bytes in, and what comes back on the same connection."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from aiohttp import web
from world import MakeWorld, World, upstream

from proxy import listening

CHAT = "/v1/chat/completions"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rsplit(":", 1)[1]))
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


def asking(text: str, *headers: str, stream: bool = False) -> bytes:
    body = json.dumps(
        {"model": "demo-chat", "messages": [{"role": "user", "content": text}], "stream": stream}
    )
    return request(f"POST {CHAT}", body.encode(), "Authorization: Bearer one", *headers)


def request(line: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: nearhit", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """The next one on this connection, and not a byte more."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    if headers.get("transfer-encoding") == "chunked":
        body = await unchunked(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(head[0].split()[1]), headers, body


async def unchunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


async def test_a_connection_serves_hits_misses_streams_and_errors_in_turn(world: World) -> None:
    key = "Authorization: Bearer one"
    asked = (
        asking("how are you"),
        asking("how are you", stream=True),
        asking("and you", stream=True),
        request(f"POST {CHAT}", b"{", key),
        request("GET /v1/models", b"", key),
        asking("how are you"),
    )
    async with connected(world) as (reader, writer):
        told = []
        for each in asked:
            writer.write(each)
            status, headers, body = await answer(reader)
            assert body
            told.append((status, headers.get("x-cache")))
            await world.settled()
    assert told == [(200, "MISS"), (200, "HIT"), (200, "MISS"), (400, None), (200, None), (200, "HIT")]


async def test_pipelined_requests_are_answered_in_their_order(world: World) -> None:
    """The first is slow and the others are not: order is all that tells whose answer it is."""
    await world.ask("how are you")
    await world.settled()
    async with connected(world) as (reader, writer):
        slow = asking("who is the slowest of them all", "X-Demo-Latency: 0.3")
        writer.write(slow + asking("how are you") + request("GET /echo/last?of=them"))
        first, second, third = [await answer(reader) for _ in range(3)]
    assert (first[1]["x-cache"], second[1]["x-cache"]) == ("MISS", "HIT")
    assert "slowest" in first[2].decode()
    assert json.loads(third[2])["query"] == "of=them"


async def test_pipelined_streams_do_not_mix(world: World) -> None:
    async with connected(world) as (reader, writer):
        writer.write(
            asking("where does the sun go", stream=True) + asking("is the moon made of cheese", stream=True)
        )
        first, second = [await answer(reader) for _ in range(2)]
    for (_, _, body), word, other in ((first, b"sun", b"moon"), (second, b"moon", b"sun")):
        assert word in body
        assert other not in body
        assert body.rstrip().endswith(b"[DONE]")


async def test_what_an_upstream_says_unasked_answers_nobody(make_world: MakeWorld) -> None:
    """It comes while the connection is idle; the next request on it would take it for its answer."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(3):
            assert (await world.call("GET", "/anything")).body == b"ok"
            await asyncio.sleep(0.2)
    assert connections == 3


@pytest.mark.parametrize("size", [2_000, 900_000, 3_000_000])
async def test_no_call_fails_by_a_connection_that_was_closed_while_idle(
    make_world: MakeWorld, size: int
) -> None:
    """A large body is not kept, so it cannot be sent a second time."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = (await reader.readuntil(b"\r\n\r\n")).partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(4):
            assert (await world.call("POST", "/anything", data=io.BytesIO(b"x" * 100))).body == b"ok"
            assert (await world.call("POST", "/anything", data=io.BytesIO(b"x" * size))).body == b"ok"
        await world.app.fleet.close()


async def test_connections_to_the_upstream_are_used_again(make_world: MakeWorld) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with_body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        with suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(with_body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(5):
            assert (await world.call("GET", "/anything")).body == b"ok"
        await world.app.fleet.close()
    assert connections == 1


async def test_a_chunked_body_is_a_body_like_any_other(world: World) -> None:
    await world.ask("how are you")
    await world.settled()
    body = asking("how are you").partition(b"\r\n\r\n")[2]
    pieces = b"".join(f"{len(body[i:i + 7]):x};ext=1\r\n".encode() + body[i : i + 7] + b"\r\n"
                      for i in range(0, len(body), 7))  # fmt: skip
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer one\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    async with connected(world) as (reader, writer):
        writer.write(head.encode() + pieces + b"0\r\n\r\n")
        assert (await answer(reader))[1]["x-cache"] == "HIT"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def in_chunks(path: str, *headers: str) -> bytes:
    key = "Authorization: Bearer one"
    lines = [f"POST {path} HTTP/1.1", "Host: n", key, "Transfer-Encoding: chunked", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@pytest.mark.parametrize("together", [True, False])
async def test_no_trailer_becomes_a_header_of_the_next_request(world: World, together: bool) -> None:
    """Behind a load balancer that may be somebody else's. The connection ends instead."""
    whole = in_chunks("/echo") + chunked(b"hello") + b"0\r\nX-One: 1\r\nX-Trailer: 1\r\n\r\n"
    async with connected(world) as (reader, writer):
        writer.write(whole + (request("GET /echo") if together else b""))
        status, headers, body = await answer(reader)
        assert (status, json.loads(body)["body"], headers["connection"]) == (200, "hello", "close")
        with suppress(ConnectionError):
            writer.write(request("GET /echo"))
            assert await reader.read() == b""


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/echo"])
@pytest.mark.parametrize(
    "wrong", [b"zz\r\n", b"f" * 17 + b"\r\n", chunked(b"{}")[:-2] + b"more", b"0\r\nno trailer\r\n\r\n"]
)
async def test_a_broken_body_is_refused_at_once(world: World, path: str, wrong: bytes) -> None:
    async with connected(world) as (reader, writer):
        writer.write(in_chunks(path) + chunked(b"{"))
        await asyncio.sleep(0.1)
        writer.write(wrong)
        async with asyncio.timeout(2):
            status, headers, body = await answer(reader)
            assert await reader.read() == b""
    told = json.loads(body)
    assert (status, headers["connection"]) == (400, "close")
    assert told["error"]["message"].startswith("This is not HTTP as nearhit reads it: ")
    assert told.get("type") == ("error" if path == "/v1/messages" else None)
    assert not world.app.data_plane.in_flight
    assert await world.upstream_calls() == 0


async def test_a_broken_body_behind_another_call_is_refused_too(world: World) -> None:
    async with connected(world) as (reader, writer):
        writer.write(asking("who is slow", "X-Demo-Latency: 0.3") + in_chunks(CHAT) + chunked(b"{"))
        await asyncio.sleep(0.1)
        writer.write(b"zz\r\n")
        async with asyncio.timeout(5):
            assert [(await answer(reader))[0] for _ in range(2)] == [200, 400]


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate,chunked"])
@pytest.mark.parametrize("path", [CHAT, "/echo"])
async def test_a_transfer_coding_that_is_not_read_is_told_so(world: World, path: str, coding: str) -> None:
    """RFC 9112, section 6.1. Its bytes would go up as if they were the body."""
    head = in_chunks(path).replace(b"chunked", coding.encode())
    async with connected(world) as (reader, writer):
        writer.write(head + chunked(b"{}") + b"0\r\n\r\n")
        status, headers, _ = await answer(reader)
    assert (status, headers["connection"]) == (501, "close")
    assert await world.upstream_calls() == 0


@pytest.mark.parametrize("path", [CHAT, "/echo"])
async def test_expect_continue_is_told_before_the_body_is_sent(world: World, path: str) -> None:
    body = asking("how are you").partition(b"\r\n\r\n")[2]
    head = request(f"POST {path}", body, "Authorization: Bearer one", "Expect: 100-continue")
    async with connected(world) as (reader, writer):
        writer.write(head.removesuffix(body))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert (await answer(reader))[0] == 200


@pytest.mark.parametrize("path", [CHAT, "/echo"])
async def test_a_caller_of_http_1_0_is_told_nothing_before_its_answer(world: World, path: str) -> None:
    body = asking("how are you").partition(b"\r\n\r\n")[2]
    head = request(f"POST {path}", body, "Authorization: Bearer one", "Expect: 100-continue")
    async with connected(world) as (reader, writer):
        writer.write(head.removesuffix(body).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        await asyncio.sleep(0.1)
        writer.write(body)
        assert (await answer(reader))[0] == 200


async def test_no_request_for_the_server_as_a_whole_goes_up(world: World) -> None:
    """The asterisk would become a part of the upstream's address."""
    async with connected(world) as (reader, writer):
        writer.write(request("OPTIONS *") + request("GET /echo"))
        status, _, body = await answer(reader)
        assert (status, "path" in json.loads(body)["error"]["message"]) == (400, True)
        assert (await answer(reader))[0] == 200


async def test_headers_go_up_as_often_as_they_came_however_they_are_spelled(world: World) -> None:
    async with connected(world) as (reader, writer):
        writer.write(request("GET /echo", b"", "X-Feature: one", "x-feature: two", "X-FEATURE: three"))
        _, _, body = await answer(reader)
    sent = [value for name, value in json.loads(body)["headers"] if name.lower() == "x-feature"]
    assert sent == ["one", "two", "three"]


@pytest.mark.parametrize("line", ["GET /v1/models", f"POST {CHAT}"])
@pytest.mark.parametrize("value", [b"k\xe9y", "kéy".encode(), b"\xc3\xa9 \xe9\xff"])
async def test_the_bytes_of_a_header_go_both_ways_as_they_came(
    make_world: MakeWorld, line: str, value: bytes
) -> None:
    came = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 " + value + b"\r\nX-Title: " + value + b"\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with connected(world) as (reader, writer):
            asked = asking("hello").replace(f"POST {CHAT}".encode(), line.encode())
            writer.write(asked.replace(b"Bearer one", b"Bearer " + value))
            told = await reader.readuntil(b"\r\n\r\n")
    assert b"\r\nAuthorization: Bearer " + value + b"\r\n" in came
    assert b"\r\nX-Title: " + value + b"\r\n" in told
    assert told.startswith(b"HTTP/1.1 200 " + value + b"\r\n")


async def test_a_refused_body_is_not_asked_for(make_world: MakeWorld) -> None:
    world = await make_world(limits={"body_bytes": 1000})
    head = f"POST {CHAT} HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer one\r\nContent-Length: 5000\r\n"
    async with connected(world) as (reader, writer):
        writer.write(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert b" 413 " in await reader.readline()


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Transfer-Encoding: chunked, identity",),
        ("Content-Length: +5",),
    ],
)
async def test_a_body_whose_end_is_in_doubt_is_refused(world: World, headers: tuple[str, ...]) -> None:
    """Who reads it another way than we do would take its rest for somebody's request."""
    async with connected(world) as (reader, writer):
        writer.write("\r\n".join([f"POST {CHAT} HTTP/1.1", "Host: n", *headers, "", "hello"]).encode())
        assert b" 400 " in await reader.readline()
    assert await world.upstream_calls() == 0


@pytest.mark.parametrize(
    "target",
    ["/echo/", "/echo//a", "/echo/a/../b", "/echo/%2e%2e", "/echo?", "/echo?a=b&&c=+%2B", "/echo/;x=1"],
)  # fmt: skip
async def test_targets_go_up_as_they_came(world: World, target: str) -> None:
    async with connected(world) as (reader, writer):
        writer.write(request(f"GET {target}"))
        status, _, body = await answer(reader)
    assert status == 200
    got = json.loads(body)
    path, _, query = target.partition("?")
    assert (got["path"], got["query"]) == (path, query)


@pytest.mark.parametrize("begun", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: near"])
async def test_nobody_waits_for_ever_for_the_first_head(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(listening, "HEAD_S", 0.3)
    world = await make_world()
    async with connected(world) as (reader, writer):
        writer.write(begun)
        assert await reader.read() == b""
    async with connected(world) as (reader, writer):
        writer.write(asking("hello"))
        assert (await answer(reader))[0] == 200
        await asyncio.sleep(0.4)
        writer.write(asking("hello"))  # later ones have `keepalive_timeout`
        assert (await answer(reader))[0] == 200


TOO_LARGE = "request_header_fields_too_large"


@pytest.mark.parametrize("line", ["GET /v1/models", f"POST {CHAT}"])
async def test_many_headers_go_both_ways(make_world: MakeWorld, line: str) -> None:
    many = [f"X-Number-{number}: {number}" for number in range(400)]
    came = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came = await reader.readuntil(b"\r\n\r\n")
        writer.write("\r\n".join(["HTTP/1.1 200 OK", *many, "Content-Length: 2", "", "{}"]).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with connected(world) as (reader, writer):
            writer.write(asking("hello", *many).replace(f"POST {CHAT}".encode(), line.encode()))
            status, told, _ = await answer(reader)
    assert (status, came.count(b"\r\nX-Number-")) == (200, 400)
    assert sum(name.startswith("x-number-") for name in told) == 400


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (asking("hello", *[f"X-{number}: 1" for number in range(600)]), 431, TOO_LARGE),
        (asking("hello", "X-Long: " + "x" * 70_000), 431, TOO_LARGE),
        (asking("hello").replace(CHAT.encode(), b"/" + b"x" * 70_000), 431, TOO_LARGE),
        (asking("hello").replace(b"POST", b"FOO"), 400, "invalid_request_error"),
        (asking("hello").replace(b"Host:", b"Hos:"), 400, "invalid_request_error"),
    ],
    ids=["headers", "header", "target", "method", "host"],
)
async def test_what_is_not_read_as_http_is_told_as_every_error(
    world: World, sent: bytes, status: int, code: str
) -> None:
    async with connected(world) as (reader, writer):
        writer.write(sent)
        told, headers, body = await answer(reader)
        assert (told, headers["content-type"]) == (status, "application/json")
        assert json.loads(body)["error"]["code"] == code
        assert await reader.read() == b""
    assert await world.upstream_calls() == 0


@pytest.mark.parametrize("told", ["no HTTP\r\n\r\n", "HTTP/1.1 200 OK\r\n" + "X: 1\r\n" * 600 + "\r\n"])
async def test_an_answer_that_is_not_read_as_http_is_told_so(make_world: MakeWorld, told: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(told.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        answer = await world.ask("hello")
    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_unreachable")
    assert "not HTTP, or has more than 512 headers" in answer.json["error"]["message"]


@pytest.mark.parametrize("line", ["GET /v1/models", f"POST {CHAT}", "POST /v1/messages"])
@pytest.mark.parametrize(
    "told",
    [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n{}",
        "HTTP/1.1 000 Odd\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    ],
)
async def test_an_answer_that_no_caller_asked_for_is_told_so(
    make_world: MakeWorld, line: str, told: str
) -> None:
    """Relayed, a 101 would have the caller wait for another protocol for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(told.encode())
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with connected(world) as (reader, writer), asyncio.timeout(5):
            writer.write(asking("hello").replace(f"POST {CHAT}".encode(), line.encode()))
            status, _, body = await answer(reader)
        await world.app.fleet.close()
    error = json.loads(body)
    assert status == 502
    assert "which was not asked for" in error["error"]["message"]
    assert error.get("type") == ("error" if "messages" in line else None)
    assert len(world.app.cache.entries) == 0


@pytest.mark.parametrize("line", ["GET /v1/models", f"POST {CHAT}"])
@pytest.mark.parametrize("told", [{}, {"content-type": "text/odd", "server": "theirs"}])
async def test_nothing_is_said_for_an_upstream_that_says_nothing(
    make_world: MakeWorld, line: str, told: dict[str, str]
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in told.items())]
        writer.write("\r\n".join([*lines, "Content-Length: 2", "", "{}"]).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with connected(world) as (reader, writer):
            writer.write(asking("hello").replace(f"POST {CHAT}".encode(), line.encode()))
            _, headers, _ = await answer(reader)
    assert {name: headers[name] for name in ("content-type", "server") if name in headers} == told
    assert "date" in headers  # RFC 9110, section 6.6.1, wants that of whoever passes an answer on


async def test_a_mistake_of_ours_is_told_as_every_error(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(world.app.data_plane, "_tenant", lambda request: 1 / 0)
    claude = await world.send("/v1/messages", {})
    assert (claude.status, claude.json["type"], claude.json["error"]["type"]) == (500, "error", "api_error")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("base", ["", "/openai", "/openai/"])
async def test_not_even_an_empty_query_is_lost(make_world: MakeWorld, method: str, base: str) -> None:
    came = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{base}")
        for target, form in itertools.product(
            (f"{CHAT}?", f"{CHAT}", f"{CHAT}?#", "//a/../b?c#d?", "/a/%7e?b=http://c/?"),
            ("", "http://host", "HTTPS://host:1"),
        ):
            async with connected(world) as (reader, writer):
                line = f"{method} {form}{target}".encode()
                writer.write(asking("how are you").replace(f"POST {CHAT}".encode(), line))
                assert (await answer(reader))[0] == 200
            assert came.pop() == f"{method} {base.rstrip('/')}{target} HTTP/1.1"


async def test_a_slash_more_is_another_path(world: World) -> None:
    """It passes through, as it is not for us to say that it means the same."""
    async with connected(world) as (reader, writer):
        writer.write(asking("how are you").replace(b"completions HTTP", b"completions/ HTTP"))
        status, headers, _ = await answer(reader)
    assert status == 404
    assert "x-cache" not in headers


async def test_a_query_is_part_of_what_is_asked(world: World) -> None:
    body: dict[str, Any] = {"model": "demo-chat", "messages": [{"role": "user", "content": "how are you"}]}
    for target, expected in (
        ("?api-version=1", "MISS"),
        ("?api-version=2", "MISS"),
        ("?api-version=1", "HIT exact"),
    ):
        told = await world.send(CHAT + target, body)
        assert told.cache == expected
        await world.settled()


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 203.0.113.7, 198.51.100.2",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: api.example.org",
        "Forwarded: for=203.0.113.7;proto=https",
        "tracestate: vendor=1",
        "X-Request-Id: 7",
        "User-Agent: mine/1",
    ],
)
async def test_who_is_before_us_stays_who_it_is(world: World, header: str) -> None:
    async with connected(world) as (reader, writer):
        writer.write(request("GET /echo", b"", header))
        _, _, body = await answer(reader)
    name, _, value = header.partition(": ")
    sent = {name.lower(): value for name, value in json.loads(body)["headers"]}
    assert sent[name.lower()] == value
    assert sent.keys() <= {"host", "content-length", name.lower()}


async def test_traces_go_on(world: World) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with connected(world) as (reader, writer):
        writer.write(request("GET /echo", b"", f"traceparent: 00-{trace}-00f067aa0ba902b7-01"))
        _, _, body = await answer(reader)
    (sent,) = [value for name, value in json.loads(body)["headers"] if name.lower() == "traceparent"]
    assert sent.startswith(f"00-{trace}-")


async def test_http_1_0_gets_its_answer_and_its_end(world: World) -> None:
    async with connected(world) as (reader, writer):
        writer.write(asking("how are you", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        whole = await reader.read()
    head, _, body = whole.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body.rstrip().endswith(b"data: [DONE]")


@pytest.mark.parametrize(
    ("version", "asked", "told", "stays"),
    [
        (b"HTTP/1.1", None, None, True),
        (b"HTTP/1.1", "Connection: close", "close", False),
        (b"HTTP/1.0", None, None, False),
        (b"HTTP/1.0", "Connection: keep-alive", "keep-alive", True),
    ],
)
async def test_a_hit_leaves_the_connection_as_its_caller_wants_it(
    world: World, version: bytes, asked: str | None, told: str | None, stays: bool
) -> None:
    await world.ask("how are you")
    await world.settled()
    again = asking("how are you", *([asked] if asked else [])).replace(b"HTTP/1.1", version, 1)
    async with connected(world) as (reader, writer):
        writer.write(again)
        status, headers, body = await answer(reader)
        assert (status, headers["x-cache"], headers.get("connection")) == (200, "HIT", told)
        assert json.loads(body)["choices"]
        assert abs(parsedate_to_datetime(headers["date"]).timestamp() - time.time()) < 60
        if stays:
            writer.write(again)
            assert (await answer(reader))[2] == body
        else:
            assert await reader.read() == b""


@pytest.fixture
async def long_answer(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> World:
    """Has a stored answer that is longer than what the kernel takes for a caller who does not read."""
    monkeypatch.setattr("proxy.demo.answers.answer_text", lambda *_: "long " * 1_500_000)
    world = await make_world()
    assert (await world.ask("how are you")).cache == "MISS"
    await world.settled()
    return world


def sleeper(world: World) -> socket.socket:
    caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.connect(("127.0.0.1", int(world.url.rsplit(":", 1)[1])))
    return caller


async def test_a_long_hit_comes_as_fast_as_its_caller_reads(long_answer: World) -> None:
    reader, writer = await asyncio.open_connection(sock=sleeper(long_answer))
    with closing(writer):
        writer.write(asking("how are you"))
        await asyncio.sleep(0.3)
        status, headers, body = await answer(reader)
    assert (status, headers["x-cache"]) == (200, "HIT")
    assert json.loads(body)["choices"][0]["message"]["content"] == "long " * 1_500_000


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "does not read"])
async def test_who_takes_no_more_of_an_answer_that_comes_is_gone(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, leaves: bool
) -> None:
    monkeypatch.setattr("proxy.relay.WRITE_S", 10.0 if leaves else 0.2)

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b"data: " + b"x" * 100_000 + b"\n\n")
        return response

    async with upstream(endless) as url:
        world = await make_world(upstream_url=url)
        reader, writer = await asyncio.open_connection(sock=sleeper(world))
        with closing(writer):
            writer.write(asking("how are you", stream=True))
            await reader.readline()
            assert world.app.forwarder.under_way == 1
            if leaves:
                writer.transport.abort()
            async with asyncio.timeout(5):
                while world.app.forwarder.under_way or world.app.data_plane.in_flight:
                    await asyncio.sleep(0.05)
            if not leaves:
                had = b""
                with suppress(ConnectionResetError):
                    while part := await reader.read(2**20):
                        had = part
                assert not had.endswith(b"0\r\n\r\n")  # it does not look whole
    assert not [told for told in caplog.records if told.levelname == "ERROR"]


async def test_who_does_not_read_its_hit_is_gone(long_answer: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.relay.WRITE_S", 0.2)
    reader, writer = await asyncio.open_connection(sock=sleeper(long_answer))
    with closing(writer):
        writer.write(asking("how are you"))
        await asyncio.sleep(1.0)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await answer(reader)
