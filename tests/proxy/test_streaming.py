"""Streams in detail: odd events, broken ones, slow readers, pace, callers who leave, comments."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from aiohttp import web
from streams import events
from world import MakeWorld, World, upstream

from proxy.demo.upstream import Behaviour
from proxy.flights import LEAD_BYTES
from proxy.relay import paced

ASKED = "how are you today my friend"


def chunk(content: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(made).encode()


class Tape:
    """An upstream that plays the given pieces, and knows whether it was heard to the end."""

    def __init__(self, *pieces: bytes, breaks: bool = False, pause_s: float = 0.0, **headers: str) -> None:
        self.pieces = pieces
        self.breaks = breaks
        self.pause_s = pause_s
        self.headers = {"Content-Type": "text/event-stream", **headers}
        self.calls = self.ended = self.sent = 0

    async def play(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        self.calls += 1
        response = web.StreamResponse(headers=self.headers)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            self.sent += len(piece)
            await asyncio.sleep(self.pause_s)
        if self.breaks and request.transport is not None:
            request.transport.abort()
        self.ended += 1
        return response


# Byte for byte

ODD = [
    b": comment\n\n", b"retry: 3000\n\n", b"\r\n", b'id: 7\r\nevent: odd\r\ndata: {"not": "ours"}\r\n\r\n',
    b"data: first\ndata: second\n\n", b"data:no space\n\n", b"unknown: field\n\n", b"data\n\n",
    b"\xef\xbb\xbfdata: marked\n\n", b"data: \xff\xfe not text\n\n", b"event: ping\ndata: {}\n\n",
    chunk("hello") + b"\r\n\r\n", b"data: [1, 2]\n\n", chunk(None, "stop") + b"\n\n", b"data: [DONE]\n\n",
    b": after the end\n\n", b"data: no end",
]  # fmt: skip


@pytest.mark.parametrize("usage", [True, False], ids=["usage asked for", "usage not asked for"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_events_that_nobody_knows_pass_byte_for_byte(
    make_world: MakeWorld, size: int, usage: bool
) -> None:
    whole = b"".join(ODD)
    tape = Tape(*[whole[at : at + size] for at in range(0, len(whole), size)])
    more = {"stream_options": {"include_usage": True}} if usage else {}
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        answer = await world.ask(ASKED, stream=True, **more)
    assert answer.body == whole


async def test_a_stream_that_nobody_may_keep_goes_up_and_comes_back_byte_for_byte(
    make_world: MakeWorld,
) -> None:
    """Also the usage that an upstream tells unasked."""
    body = b'{ "model": "m", "stream": true, "messages": [{"role": "user", "content": "hello you"}]}'
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n'
    stream = chunk("hello", "stop") + b"\n\n" + usage + b"data: [DONE]\n\n"
    came = []

    async def play(request: web.BaseRequest) -> web.Response:
        came.append(await request.read())
        return web.Response(body=stream, content_type="text/event-stream")

    async with upstream(play) as url:
        world = await make_world(upstream_url=url)
        for control in ("no-store", "no-store, no-cache"):
            headers = {"Authorization": "Bearer one", "Cache-Control": control}
            answer = await world.post("/v1/chat/completions", data=body, headers=headers)
            assert (came.pop(), answer.body) == (body, stream)


_TURNS = [{"role": "user", "content": "hello you"}]
CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "m", "messages": _TURNS},
    "/v1/completions": {"model": "m", "prompt": "hello you"},
    "/v1/responses": {"model": "m", "input": "hello you"},
    "/v1/messages": {"model": "m", "max_tokens": 5, "messages": _TURNS},
    "/v1/models/m:streamGenerateContent?alt=sse": {"contents": [{"parts": [{"text": "hello you"}]}]},
    "/api/chat": {"model": "m", "messages": _TURNS},
}


async def test_odd_events_pass_in_every_dialect(make_world: MakeWorld) -> None:
    tape = Tape(b"".join(ODD))
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        for path, body in CALLS.items():
            answer = await world.send(path, {**body, "stream": True})
            assert answer.body == b"".join(ODD)


DEEP = b'{"usage": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HOSTILE = [
    *[(path, DEEP) for path in CALLS],
    ("/v1/chat/completions", b'{"choices": [{"index": 1e999}]}'),
    ("/v1/chat/completions", b'{"choices": [{"index": 0, "delta": {"tool_calls": [null]}}], "usage": {}}'),
    ("/v1/completions", b'{"choices": [{"index": 1e999}]}'),
    ("/v1/responses", b'{"type": "response.output_item.done", "output_index": 1e999, "item": {}}'),
    ("/v1/responses", b'{"type": "response.completed", "response": {"output": [{"content": true}]}}'),
    ("/v1/messages", b'{"type": "content_block_start", "index": 1e999, "content_block": {}}'),
]


@pytest.mark.parametrize(("path", "event"), HOSTILE, ids=[path for path, _ in HOSTILE])
async def test_what_no_reader_can_make_sense_of_passes_all_the_same(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture, path: str, event: bytes
) -> None:
    ends = b"" if path.startswith("/api") else b"data: [DONE]\n\n"
    tape = Tape(event + b"\n" if not ends else b"data: " + event + b"\n\n", ends)
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        answer = await world.send(path, {**CALLS[path], "stream": True})
        assert answer.body == b"".join(tape.pieces)
        await world.settled()
        assert len(world.app.cache.entries) == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_compressed_stream_is_relayed_as_it_came_and_replayed_plain(make_world: MakeWorld) -> None:
    usage = b'data: {"id": "x", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    plain = b"\n\n".join((chunk("hello"), chunk(None, "stop"), usage, b"data: [DONE]", b""))
    packed = gzip.compress(plain)
    tape = Tape(packed[:20], packed[20:], **{"Content-Encoding": "gzip"})
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        first = await world.ask(ASKED, stream=True)
        await world.settled()
        again, whole = await world.ask(ASKED, stream=True), await world.ask(ASKED)
    assert gzip.decompress(first.body) == plain
    assert (again.cache, whole.text, tape.calls) == ("HIT exact", "hello", 1)
    assert "Content-Encoding" not in again.headers
    assert b'"hello"' in again.body


async def test_what_follows_a_compressed_answer_is_not_left_out_of_the_stored_one(
    make_world: MakeWorld,
) -> None:
    """A second member (RFC 1952, section 2.2), which its caller unpacks as well."""
    path = "/v1/messages"
    first, second = (played(path, part) for part in (ENDED[path], ENDED[path][2:3]))
    tape = Tape(gzip.compress(first) + gzip.compress(second), **{"Content-Encoding": "gzip"})
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        await world.send(path, {**CALLS[path], "stream": True})
        await world.settled()
        assert len(world.app.cache.entries) == 0


# What is stored of a stream

USAGE = {"prompt_tokens": 1, "completion_tokens": 1}
ENDED: dict[str, list[Any]] = {
    "/v1/chat/completions": [
        {"choices": [{"index": 0, "delta": {"content": "hello "}}]},
        {"choices": [{"index": 0, "delta": {"content": "you"}, "finish_reason": "stop"}], "usage": USAGE},
    ],
    "/v1/completions": [
        {"choices": [{"index": 0, "text": "hello "}]},
        {"choices": [{"index": 0, "text": "you", "finish_reason": "stop"}], "usage": USAGE},
    ],
    "/v1/messages": [
        {"type": "message_start", "message": {"type": "message", "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "hello "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "you"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ],
    "/v1/models/m:streamGenerateContent?alt=sse": [
        {"candidates": [{"content": {"parts": [{"text": "hello "}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "you"}]}, "finishReason": "STOP"}]},
    ],
    "/api/chat": [
        {"message": {"content": "hello "}, "done": False},
        {"message": {"content": "you"}, "done": True, "done_reason": "stop"},
    ],
}  # fmt: skip


def played(path: str, chunks: list[Any]) -> bytes:
    if path.startswith("/api"):
        return b"".join(json.dumps(each).encode() + b"\n" for each in chunks)
    done = b"data: [DONE]\n\n" if "completions" in path else b""
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + done


async def again_plain(make_world: MakeWorld, path: str, stream: bytes) -> str:
    """What the answer is for who asks the same without streaming; "" if it was not stored."""
    tape = Tape(stream)
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        streams, plain = ({}, {}) if "models" in path else ({"stream": True}, {"stream": False})
        assert (await world.send(path, {**CALLS[path], **streams})).body == stream
        await world.settled()
        place = path.replace("streamGenerateContent?alt=sse", "generateContent")
        again = await world.send(place, {**CALLS[path], **plain})
        return again.body.decode() if again.cache == "HIT exact" else ""


@pytest.mark.parametrize("path", ENDED)
async def test_an_error_of_null_is_none(make_world: MakeWorld, path: str) -> None:
    """As servers send it that write all members of an object."""
    stream = played(path, [{**each, "error": None} for each in ENDED[path]])
    assert "hello you" in await again_plain(make_world, path, stream)


async def test_what_the_end_tells_beside_its_delta_is_told_from_memory_too(make_world: MakeWorld) -> None:
    *begun, late, end = ENDED["/v1/messages"]
    managed = {**late, "context_management": {"applied_edits": [{"type": "clear_tool_uses"}]}}
    stream = played("/v1/messages", [*begun, managed, end])
    again = json.loads(await again_plain(make_world, "/v1/messages", stream))
    assert again["context_management"] == managed["context_management"]
    assert again.keys() == {"type", "usage", "stop_reason", "context_management", "content"}


@pytest.mark.parametrize("path", [path for path in ENDED if not path.startswith("/api")])
async def test_a_byte_order_mark_takes_no_event_with_it(make_world: MakeWorld, path: str) -> None:
    stream = b"\xef\xbb\xbf" + played(path, ENDED[path])
    assert "hello you" in await again_plain(make_world, path, stream)


@pytest.mark.parametrize("path", [path for path in ENDED if "models" not in path])
async def test_an_answer_that_goes_on_after_its_end_is_not_stored(make_world: MakeWorld, path: str) -> None:
    """Its first caller stopped reading at the end."""
    stream = played(path, ENDED[path]) + played(path, [ENDED[path][-2]])
    assert await again_plain(make_world, path, stream) == ""


# An upstream that breaks off


@pytest.mark.parametrize("stream", [True, False])
async def test_half_an_answer_reaches_the_caller_as_half_an_answer_and_nothing_is_kept(
    make_world: MakeWorld, stream: bool
) -> None:
    tape = Tape(chunk("half") + b"\n\n", breaks=True)
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        got = b""
        body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": ASKED}]}
        with pytest.raises(aiohttp.ClientPayloadError):
            async with world.session.post(
                world.url + "/v1/chat/completions", json=body, headers={"Authorization": "Bearer one"}
            ) as response:
                async for part in response.content.iter_any():
                    got += part
        assert b"half" in got
        await world.settled()
        assert len(world.app.cache.entries) == 0
        report = world.app.ledger.recent[-1]
    assert (report.status, report.error, world.app.fleet.first.errors["unreachable"]) == (
        200, "upstream_unreachable", 1
    )  # fmt: skip


@pytest.mark.parametrize("rest", [b"zz\r\n", b"2\r\nthree\r\n", b"HTTP/1.1 500 Failed\r\n\r\n"])
async def test_an_upstream_that_goes_on_in_something_else_than_http_breaks_off(
    make_world: MakeWorld, rest: bytes
) -> None:
    """As servers do whose application fails in the middle of a stream. The connection stays open."""
    half = chunk("half") + b"\n\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(half), half))
        await asyncio.sleep(0.1)
        writer.write(rest)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        world = await make_world(upstream_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with asyncio.timeout(5):
            with pytest.raises(aiohttp.ClientPayloadError):
                await world.ask(ASKED, stream=True)
            with pytest.raises(aiohttp.ClientPayloadError):
                await world.call("POST", "/elsewhere")
        await world.settled()
        assert len(world.app.cache.entries) == 0


async def test_the_sdk_hears_of_a_stream_that_breaks_off(make_world: MakeWorld) -> None:
    tape = Tape(chunk("half") + b"\n\n", breaks=True)
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        async with openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="m", stream=True, messages=[{"role": "user", "content": ASKED}]
            )
            with pytest.raises(openai.APIConnectionError):
                async for _ in stream:
                    pass


# What is told of storing


def told(world: World) -> tuple[bool, str, int]:
    """What the last call's report says of storing, and how many were stored by the tally."""
    report = world.app.ledger.recent[-1]
    return report.stored, report.entry_id, sum(each.stored for each in world.app.ledger.tallies.values())


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_ends_early_counts_as_stored_nowhere(
    make_world: MakeWorld, stream: bool
) -> None:
    """The head comes before the answer's end, and can tell only what is meant."""
    choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "and so"}}
    cut_off = json.dumps({"choices": [choice]}).encode()
    tape = Tape(*[chunk("and so") + b"\n\n", chunk(None, "length") + b"\n\n"] if stream else [cut_off])
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        answer = await world.ask(ASKED, stream=stream)
        assert answer.headers["Cache-Status"] == "nearhit; fwd=miss; stored"
        assert "X-Cache-Entry-Id" in answer.headers
        await world.settled()
        assert told(world) == (False, "", 0)


@pytest.mark.parametrize("length", [3, 3000])
@pytest.mark.parametrize("stream", [True, False])
async def test_one_that_is_stored_counts_as_stored(make_world: MakeWorld, stream: bool, length: int) -> None:
    usage = b'data: {"id": "x", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    parts = [chunk("hello")] * length + [chunk(None, "stop"), usage, b"data: [DONE]", b""]
    message = {"role": "assistant", "content": "yes" * length}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    tape = Tape(b"\n\n".join(parts) if stream else json.dumps({"choices": [choice]}).encode())
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        answer = await world.ask(ASKED, stream=stream)
        await world.settled()
        assert told(world) == (True, answer.headers["X-Cache-Entry-Id"], 1)


async def test_one_that_breaks_off_counts_as_stored_nowhere(make_world: MakeWorld) -> None:
    tape = Tape(chunk("half") + b"\n\n", breaks=True)
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url)
        with pytest.raises(aiohttp.ClientPayloadError):
            await world.ask(ASKED, stream=True)
        await world.settled()
        assert told(world) == (False, "", 0)


async def test_one_that_finds_no_room_to_be_stored_counts_as_stored_nowhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.app.cache.documents, "put", lambda document: False)
    await world.ask(ASKED)
    await world.settled()
    assert told(world) == (False, "", 0)


# A caller that reads slowly


async def test_an_upstream_is_read_no_faster_than_its_caller_reads(make_world: MakeWorld) -> None:
    piece, count = b"data: " + b"x" * 65_526 + b"\n\n\n\n", 1500
    tape = Tape(*[piece] * count)
    async with upstream(tape.play) as url:
        world = await make_world(upstream_url=url, limits={"answer_bytes": "1MiB"})
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": ASKED}]}
        async with world.session.post(
            world.url + "/v1/chat/completions", json=body, headers={"Authorization": "Bearer one"}
        ) as response:
            before = -1
            while before != tape.sent:  # until nothing moves
                before = tape.sent
                await asyncio.sleep(0.3)
            # What is on its way: the sockets' buffers and ours.
            assert tape.sent < LEAD_BYTES + 40 * 2**20 < count * len(piece)
            size = 0
            async for part in response.content.iter_any():
                size += len(part)
            assert size == count * len(piece)


# Pace


async def test_replays_come_at_the_pace_that_is_set(make_world: MakeWorld) -> None:
    world = await make_world(replay={"tokens_per_second": 40})
    await world.ask(ASKED, stream=True)
    await world.settled()
    started = perf_counter()
    body = {"model": "demo-chat", "stream": True, "messages": [{"role": "user", "content": ASKED}]}
    async with world.session.post(
        world.url + "/v1/chat/completions", json=body, headers={"Authorization": "Bearer one"}
    ) as response:
        assert response.headers["X-Cache"] == "HIT"
        came = [perf_counter() - started async for _ in response.content.iter_any()]
    report = world.app.ledger.recent[-1]
    assert report.paced_ms == report.tokens_out / 40 * 1000 > 0
    assert came[-1] > 0.5 * report.paced_ms / 1000
    assert len(came) > 1


async def test_what_is_no_stream_is_not_paced(make_world: MakeWorld) -> None:
    world = await make_world(replay={"tokens_per_second": 1})
    await world.ask(ASKED)
    await world.settled()
    assert (await world.ask(ASKED)).cache == "HIT exact"
    assert world.app.ledger.recent[-1].paced_ms == 0.0


async def test_pieces_are_spread_by_their_length() -> None:
    started = perf_counter()
    pieces = paced([b"a", b"b" * 98, b"c"], 0.2)
    came = [(piece[:1], perf_counter() - started) async for piece in pieces]
    assert [name for name, _ in came] == [b"a", b"b", b"c"]
    assert came[2][1] >= 0.19
    assert came[1][1] < came[2][1]


# Callers who leave


async def asked_and_left(world: World, after_s: float, **options: Any) -> None:
    leaving = asyncio.ensure_future(world.ask(ASKED, **options))
    await asyncio.sleep(after_s)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)


async def learned(make_world: MakeWorld, **sections: Any) -> World:
    """A world that has seen one answer of each kind, which took 0.6 s."""
    world = await make_world(Behaviour(latency_s=0.6), **sections)
    await asyncio.gather(*[world.ask("what else is there to say", stream=stream) for stream in (True, False)])
    await world.ask("something quite different from that", stream=True)
    await world.ask("something quite different again now", stream=False)
    await world.settled()
    return world


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_nearly_there_is_finished_and_kept(
    make_world: MakeWorld, stream: bool
) -> None:
    world = await learned(make_world, upstream={"finish_share": 0.5})
    await asked_and_left(world, 0.45, stream=stream)
    await world.settled()
    assert (await world.ask(ASKED, stream=stream)).cache == "HIT exact"


async def test_under_pressure_nothing_is_finished_for_which_nobody_waits(make_world: MakeWorld) -> None:
    world = await learned(make_world, upstream={"finish_share": 0.5})
    world.app.cache.pressure = lambda model: 0.1
    await asked_and_left(world, 0.45)
    await world.settled()
    assert (await world.ask(ASKED)).cache == "MISS"


async def test_errors_teach_nothing_of_how_long_answers_take(make_world: MakeWorld) -> None:
    world = await learned(make_world, upstream={"finish_share": 0.5})
    failing = {"X-Demo-Status": "400", "X-Demo-Latency": "1.5"}
    await asyncio.gather(*[world.ask(f"wrong in {way}", headers=dict(failing)) for way in "abcdefgh"])
    await asked_and_left(world, 0.45)
    await world.settled()
    assert (await world.ask(ASKED)).cache == "HIT exact"


@pytest.mark.parametrize(("share", "after_s"), [(0.9, 0.2), ("off", 0.55)])
async def test_one_that_has_just_begun_is_given_up(
    make_world: MakeWorld, share: float | str, after_s: float
) -> None:
    world = await learned(make_world, upstream={"finish_share": share})
    await asked_and_left(world, after_s)
    await world.settled()
    assert (await world.ask(ASKED)).cache == "MISS"


async def test_what_is_not_to_be_stored_is_not_finished(make_world: MakeWorld) -> None:
    world = await learned(make_world, upstream={"finish_share": 0.1})
    leaving = asyncio.ensure_future(world.ask(ASKED, headers={"Cache-Control": "no-store"}))
    await asyncio.sleep(0.3)
    leaving.cancel()
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert world.app.forwarder.under_way == 0


async def test_one_that_takes_far_longer_than_usual_is_given_up_after_all(make_world: MakeWorld) -> None:
    slow = False

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        await asyncio.sleep(30 if slow else 0.2)
        message = {"role": "assistant", "content": "hello"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return web.json_response({"id": "x", "object": "chat.completion", "choices": [choice]})

    async with upstream(answer) as url:
        world = await make_world(upstream_url=url, upstream={"finish_share": 0.5})
        await world.ask("what else is there to say")
        await world.settled()
        slow = True
        await asked_and_left(world, 0.3)
        assert world.app.forwarder.under_way == 1
        await world.settled()


# Comments for those who wait for a place


@pytest.fixture
async def waiting(make_world: MakeWorld) -> AsyncIterator[World]:
    sections = {"limit": 1, "queue": 8, "queue_timeout": 1.0, "queue_keep_alive": 0.1}
    world = await make_world(Behaviour(latency_s=0.6), upstream=sections)
    first = asyncio.ensure_future(world.ask("first of all"))
    await asyncio.sleep(0.05)
    yield world
    await first


async def test_a_caller_in_line_hears_comments_and_then_its_answer(waiting: World) -> None:
    answer = await waiting.ask(ASKED, stream=True)
    assert answer.body.startswith(b": keep-alive\n\n: keep-alive\n\n")
    assert (answer.status, answer.cache) == (200, "MISS")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert "usage" not in str(events(answer.body)[-1])
    await waiting.settled()
    stored, entry_id, _ = told(waiting)
    assert stored
    assert waiting.app.cache.entries.get(entry_id) is not None
    again = await waiting.ask(ASKED, stream=True)
    assert (again.cache, b"keep-alive" in again.body) == ("HIT exact", False)


async def test_who_wants_no_stream_hears_none(waiting: World) -> None:
    assert (await waiting.ask(ASKED)).json["object"] == "chat.completion"


async def test_errors_come_as_events_of_the_dialect(waiting: World) -> None:
    answer = await waiting.ask(ASKED, stream=True, headers={"X-Demo-Status": "503"})
    assert answer.status == 200
    assert "error" in events(answer.body)[-1]


async def test_the_sdks_take_the_event_for_an_error(make_world: MakeWorld) -> None:
    sections = {"limit": 1, "queue_timeout": 0.4, "queue_keep_alive": 0.1}
    world = await make_world(Behaviour(latency_s=30), upstream=sections)
    holder = asyncio.ensure_future(world.ask("first of all"))
    await asyncio.sleep(0.1)
    async with (
        openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one", max_retries=0) as theirs,
        anthropic.AsyncAnthropic(base_url=world.url, api_key="one", max_retries=0) as others_sdk,
    ):

        async def by_openai() -> None:
            async for _ in await theirs.chat.completions.create(
                model="demo-chat", stream=True, messages=[{"role": "user", "content": "one two three"}]
            ):
                pass

        async def by_anthropic() -> None:
            async for _ in await others_sdk.messages.create(
                model="demo-chat",
                stream=True,
                max_tokens=9,
                messages=[{"role": "user", "content": "four five"}],
            ):
                pass

        told = await asyncio.gather(by_openai(), by_anthropic(), return_exceptions=True)
    assert isinstance(told[0], openai.APIError)
    assert isinstance(told[1], anthropic.APIError)
    assert all("try again in" in str(each) for each in told)
    holder.cancel()


async def test_without_the_setting_there_are_none(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour(latency_s=0.3), upstream={"limit": 1})
    answers = await asyncio.gather(
        *[world.ask(text, stream=True) for text in ("first of all", "second thing here")]
    )
    assert not any(b"keep-alive" in answer.body for answer in answers)
