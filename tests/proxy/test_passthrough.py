"""What is none of the cache's business arrives as it was sent, in both directions."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from world import MakeWorld, World, upstream

METHODS = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "TRACE", "PROPFIND", "MKCOL", "LOCK",
    "SEARCH", "REPORT", "PURGE", "M-SEARCH",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
async def test_methods_paths_and_bodies(world: World, method: str) -> None:
    body = bytes(range(256))
    answer = await world.call(method, "/echo/a%2Fb/?x=1&x=%20&y", data=body, headers={"X-Mine": "ü"})
    got = answer.json
    assert (got["method"], got["path"], got["query"]) == (method, "/echo/a%2Fb/", "x=1&x=%20&y")
    assert got["body_base64"] != ""
    assert ["X-Mine", "ü"] in got["headers"]
    assert "X-Cache" not in answer.headers


@pytest.mark.parametrize("status", [201, 204, 301, 304, 404, 418, 500, 503])
async def test_statuses(world: World, status: int) -> None:
    answer = await world.call("GET", "/echo", headers={"X-Demo-Status": str(status)}, allow_redirects=False)
    assert answer.status == status


async def test_head_tells_the_length_without_the_body(world: World) -> None:
    answer = await world.call("HEAD", "/bytes/1000")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "1000", b"")


async def test_binary_bodies_and_large_ones(world: World) -> None:
    answer = await world.call("GET", "/bytes/3000000")
    assert answer.body == (bytes(range(256)) * 11719)[:3000000]
    up = await world.call("POST", "/echo", data=io.BytesIO(answer.body))
    assert up.status == 200
    assert len(up.json["body_base64"]) == 4_000_000


async def test_headers_of_the_answer(world: World) -> None:
    answer = await world.call("GET", "/echo")
    assert answer.headers.getall("Set-Cookie") == ["first=1", "second=2"]
    assert answer.headers["Server"] == "nearhit-demo-upstream"


async def test_our_controls_end_here(world: World) -> None:
    ours = {
        "X-Nearhit-TTL": "1",
        "X-Nearhit-Theshold": "1",
        "cf-aig-cache-ttl": "1",
        "Helicone-Cache-Enabled": "true",
        "Cache-Control": "no-cache",
    }
    got = (await world.call("GET", "/echo", headers=ours)).json
    names = {name.lower() for name, _ in got["headers"]}
    assert "cache-control" in names
    assert not names & {"x-nearhit-ttl", "x-nearhit-theshold", "cf-aig-cache-ttl", "helicone-cache-enabled"}


async def test_hop_by_hop_headers_end_here(world: World) -> None:
    hop = {"Connection": "keep-alive, X-Hop", "X-Hop": "1", "Keep-Alive": "5", "TE": "trailers", "X-End": "1"}
    names = {name.lower() for name, _ in (await world.call("GET", "/echo", headers=hop)).json["headers"]}
    assert "x-end" in names
    assert not names & {"x-hop", "keep-alive", "te"}


async def test_a_chunked_body_of_unknown_length(world: World) -> None:
    async def parts() -> Any:
        for _ in range(3):
            yield b"part "

    assert (await world.call("POST", "/echo", data=parts())).json["body"] == "part part part "


async def test_expect_continue(world: World) -> None:
    answer = await world.call("POST", "/echo", data=b"welcome", expect100=True)
    assert answer.json["body"] == "welcome"
    chat = {"model": "demo-chat", "messages": [{"role": "user", "content": "hello you"}]}
    asked = await world.call("POST", "/v1/chat/completions", json=chat, expect100=True)
    assert asked.status == 200


async def test_encoded_bodies_stay_encoded(world: World) -> None:
    body = gzip.compress(b'{"model": "m"}')
    answer = await world.call("POST", "/echo", data=body, headers={"Content-Encoding": "gzip"})
    assert ["Content-Encoding", "gzip"] in answer.json["headers"]


WHOLE = {
    "id": "x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}


def without_frame(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


CHUNKS = [
    {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    for choice in (
        {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    )
]
CHUNKS.append({**CHUNKS[0], "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
EVENTS = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS).encode() + b"data: [DONE]\n\n"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", without_frame),
    ],
)
async def test_compressed_answers_are_relayed_and_stored(
    make_world: MakeWorld, coding: str, pack: Callable[[bytes], bytes], stream: bool
) -> None:
    """An upstream that compresses although it was asked not to."""
    packed = pack(EVENTS if stream else json.dumps(WHOLE).encode())

    async def handle(request: web.BaseRequest) -> web.Response:
        assert request.headers.getall("Accept-Encoding") == ["identity"]
        kind = "text/event-stream" if stream else "application/json"
        return web.Response(body=packed, headers={"Content-Encoding": coding, "Content-Type": kind})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        asked = {"Accept-Encoding": "gzip, br, zstd"}
        first = await world.ask("pack it up for me", stream=stream, headers=asked)
        assert (first.body, first.headers["Content-Encoding"]) == (packed, coding)
        await world.settled()
        second = await world.ask("pack it up for me")
        assert (second.cache, "Content-Encoding" in second.headers) == ("HIT exact", False)
        assert second.text == "hi"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", b"\x0b\x02\x80hello\x03"),
        ("zstd", b"\x28\xb5\x2f\xfd\x04\x00\x29\x00\x00hello"),
        ("gzip, gzip", gzip.compress(gzip.compress(json.dumps(WHOLE).encode()))),
        ("br", json.dumps(WHOLE).encode()),
        ("gzip", json.dumps(WHOLE).encode()),
        ("gzip", gzip.compress(json.dumps(WHOLE).encode())[:-4]),
        ("deflate", without_frame(json.dumps(WHOLE).encode())[:-4]),
    ],
)
async def test_a_coding_that_is_not_read_passes_unharmed_and_is_not_stored(
    make_world: MakeWorld, coding: str, body: bytes, stream: bool
) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, headers={"Content-Encoding": coding})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        for _ in range(2):
            told = await world.ask("pack it up for me", stream=stream)
            assert (told.cache, told.body, told.headers["Content-Encoding"]) == ("MISS", body, coding)
            await world.settled()
        assert len(world.app.cache.entries) == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("odd", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_no_json_are_relayed_and_not_stored(
    make_world: MakeWorld, odd: str, stream: bool
) -> None:
    """Python writes and reads them, SDKs in other languages fail on them; 1e999 would be replayed as one."""
    kind = "text/event-stream" if stream else "application/json"
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    body = (EVENTS if stream else json.dumps(WHOLE).encode()).replace(b'"index": 0', b'"index": 0, "x": %b')
    body %= (odd.encode(),) * body.count(b"%b")

    async def handle(request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type=kind)

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        for _ in range(2):
            told = await world.ask("how much is it", **streamed)
            assert (told.cache, told.body) == ("MISS", body)
            await world.settled()
        assert len(world.app.cache.entries) == 0


@pytest.mark.parametrize(
    ("error", "learnt"),
    [
        ({"detail": [{"loc": ["body", "stream_options"]}]}, True),
        ({"error": {"message": "invalid request"}}, False),  # which may have been about anything
    ],
)
async def test_an_upstream_that_knows_no_stream_options(
    make_world: MakeWorld, error: Any, learnt: bool
) -> None:
    asked: list[Any] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        body = json.loads(await request.read())
        asked.append(body)
        if "stream_options" in body:
            return web.json_response(error, status=422)
        chunks = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        events = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
        return web.Response(body=events + b"data: [DONE]\n\n", content_type="text/event-stream")

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        assert (await world.ask("stream this one for me", stream=True)).status == 200
        await world.settled()
        again = await world.ask("stream this one for me", stream=True)
        assert (again.status, again.cache) == (200, "MISS")  # without its usage it is no whole answer
        again_asked = [False] if learnt else [True, False]
        assert ["stream_options" in body for body in asked] == [True, False, *again_asked]


async def test_an_error_that_repeats_the_call_says_nothing_of_stream_options(make_world: MakeWorld) -> None:
    """As FastAPI's do: they speak of `stream_options` because they have the whole body under `input`."""
    asked: list[Any] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        body = json.loads(await request.read())
        asked.append(body)
        error = {"detail": [{"loc": ["body", "temperature"], "msg": "not a number", "input": body}]}
        return web.json_response(error, status=422)

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        answer = await world.ask("stream this one for me", stream=True, temperature="hot")
        assert (answer.status, "stream_options" in str(answer.json)) == (422, False)
        await world.ask("and another one for me", stream=True)
        assert ["stream_options" in body for body in asked] == [True, False, True, False]


async def test_a_dropped_idle_connection_is_not_the_callers_failure(make_world: MakeWorld) -> None:
    """The upstream drops kept-alive connections without a word, as servers do when they have been idle."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        world = await make_world(upstream_url=f"http://127.0.0.1:{port}")
        for _ in range(4):
            answer = await world.call("POST", "/anything")
            assert (answer.status, answer.body) == (200, b"ok")
    assert connections == 4


async def test_a_connection_that_was_never_answered_is_not_tried_again(make_world: MakeWorld) -> None:
    """The upstream may have done what it was asked to do."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        world = await make_world(upstream_url=f"http://127.0.0.1:{port}")
        assert (await world.call("POST", "/anything")).status == 502
    assert connections == 1


async def test_redirects_are_the_callers_to_follow(make_world: MakeWorld) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        answer = await world.call("GET", "/here", allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (302, "/elsewhere")


async def test_an_upstream_that_is_not_there(make_world: MakeWorld) -> None:
    world = await make_world(upstream_url="http://127.0.0.1:9")
    plain = await world.call("GET", "/v1/models")
    assert (plain.status, plain.json["error"]["type"]) == (502, "api_error")
    chat = await world.ask("is anybody there at all")
    assert (chat.status, chat.json["error"]["code"]) == (502, "upstream_unreachable")
    claude = await world.call("POST", "/v1/messages", json={})
    assert (claude.status, claude.json["type"]) == (502, "error")


async def test_an_upstream_that_is_silent(make_world: MakeWorld) -> None:
    world = await make_world(upstream={"first_byte_timeout": 0.2})
    hang = {"X-Demo-Hang": "yes"}
    answer = await world.ask("will you ever answer me", headers=hang)
    assert (answer.status, answer.json["error"]["code"]) == (504, "upstream_timeout")


async def test_an_upstream_that_falls_silent(make_world: MakeWorld) -> None:
    world = await make_world(upstream={"idle_timeout": 0.2})
    with pytest.raises(aiohttp.ClientError):
        await world.ask("will you ever finish it", stream=True, headers={"X-Demo-Hang": "after-2-chunks"})
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_long_headers(make_world: MakeWorld) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        echoed = head.partition(b"Bearer ")[2].partition(b"\r\n")[0]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Key: " + echoed + b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**17)
    async with server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        token = "x" * 20_000
        headers = {"Authorization": f"Bearer {token}"}
        options: Any = {"headers": headers, "max_field_size": 2**16}
        answer = await world.call("GET", "/v1/models", **options)
        assert (answer.status, answer.headers["X-Key"]) == (200, token)


async def test_there_is_no_tunnel(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rsplit(":", 1)[1]))
    writer.write(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
    assert b" 405 " in await reader.readline()
    assert b"\r\nAllow: GET, " in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_callers_that_leave_are_no_errors(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        async with world.session.get(world.url + "/bytes/30000000") as response:
            await response.content.readany()
            response.close()
    await world.settled()
    assert not [record for record in caplog.records if record.exc_info]


async def test_another_cache_on_the_way_keeps_its_say(make_world: MakeWorld) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        return web.json_response({}, headers={"Cache-Status": "edge; hit"})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        answer = await world.ask("what does the edge say")
        assert answer.headers["Cache-Status"] == "edge; hit, nearhit; fwd=miss; stored"


async def test_what_another_of_us_tells_is_not_taken_for_ours(make_world: MakeWorld) -> None:
    told = {"X-Cache": "HIT", "X-Cache-Tier": "semantic", "X-Cache-Similarity": "0.9", "X-Cache-Items": "1/1"}

    async def handle(request: web.BaseRequest) -> web.Response:
        return web.json_response({}, headers=told)

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        asked = await world.ask("what does the other one say")
        assert (asked.cache, told.keys() & asked.headers.keys()) == ("MISS", {"X-Cache"})
        passed = await world.call("GET", "/v1/models")
        assert {name: passed.headers.get(name) for name in told} == told


async def test_an_upstream_may_lie_below_a_path(make_world: MakeWorld) -> None:
    asked = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path_qs)
        await request.read()
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}}
        return web.json_response({"id": "x", "object": "chat.completion", "choices": [choice]})

    async with upstream(answer) as url:
        world = await make_world(upstream_url=f"{url}/openai")
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "how are you"}]}
        for expected in ("MISS", "HIT"):
            answer_to_it = await world.send("/v1/chat/completions", body)
            assert answer_to_it.headers["X-Cache"] == expected
            await world.settled()
        await world.call("GET", "/deployments/x?api-version=1")
    assert asked == ["/openai/v1/chat/completions", "/openai/deployments/x?api-version=1"]
