"""An upstream that is stalled, gone, overloaded or breaks off, and callers who have a stale answer."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from world import Answer, MakeWorld, World, upstream
from yarl import URL

from policies.outage import STRIKES
from proxy import renewals
from proxy.demo.upstream import Behaviour
from storage.base import StorageError

TEXTS = [
    f"brief me about {thing}" for thing in ("rain", "snow", "hail", "fog", "wind", "dust", "heat", "ice")
]
NOT_SENT = "nearhit; hit; ttl=-90; detail=exact"


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port: int = probing.getsockname()[1]
        return port


@asynccontextmanager
async def demo_process(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A demo upstream in a process of its own, so that it can be stopped."""
    arguments = ("-m", "proxy", "demo-upstream", "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await answering(port)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()


async def answering(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            try:
                async with session.get(f"http://127.0.0.1:{port}/health"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
    raise AssertionError("the demo upstream does not start")


async def with_stale_answers(world: World) -> dict[str, str]:
    """What is stored for each of `TEXTS`, now past its lifetime."""
    stored = {text: (await world.ask(text)).text for text in TEXTS}
    await world.settled()
    world.clock.now += 100
    return stored


async def renewed(world: World, text: str, old: str) -> None:
    for _ in range(300):
        answer = await world.ask(text)
        assert answer.status == 200
        if answer.text != old:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it stays stale")


def served(stored: dict[str, str], answers: list[Answer]) -> bool:
    return [(answer.status, answer.cache, answer.text) for answer in answers] == [
        (200, "STALE exact", text) for text in stored.values()
    ]


@pytest.mark.parametrize("together", [True, False])
async def test_a_stalled_upstream(make_world: MakeWorld, together: bool) -> None:
    port = free_port()
    async with demo_process(port) as process:
        world = await make_world(upstream_url=f"http://127.0.0.1:{port}", upstream={"stale_after": 0.3})
        stored = await with_stale_answers(world)
        os.kill(process.pid, signal.SIGSTOP)
        asking = [world.ask(text) for text in TEXTS]
        answers = await asyncio.gather(*asking) if together else [await each for each in asking]
        assert served(stored, list(answers))
        assert world.app.fleet.first.outage.down
        again = [await world.ask(text) for text in TEXTS]
        assert served(stored, again)
        assert {answer.headers["Cache-Status"] for answer in again} == {NOT_SENT}
        new = asyncio.ensure_future(world.ask("what nobody has asked before"))
        await asyncio.sleep(0.1)
        os.kill(process.pid, signal.SIGCONT)
        assert (await new).status == 200
        assert not world.app.fleet.first.outage.down
        for text, old in stored.items():
            await renewed(world, text, old)


async def test_an_upstream_that_is_gone(make_world: MakeWorld) -> None:
    port = free_port()
    async with demo_process(port) as process:
        world = await make_world(upstream_url=f"http://127.0.0.1:{port}")
        stored = await with_stale_answers(world)
        process.kill()
        await process.wait()
        answers = [await world.ask(text) for text in TEXTS]
        assert served(stored, answers)
        sent = [answer.headers["Cache-Status"] != NOT_SENT for answer in answers]
        assert sent == [True] * STRIKES + [False] * (len(TEXTS) - STRIKES)
        assert (await world.ask("what nobody has asked before")).status == 502
    async with demo_process(port):
        assert (await world.ask("what nobody has asked before")).status == 200
        assert (await world.ask(TEXTS[0])).cache == "MISS"


async def test_probes_find_out_that_it_is_back(make_world: MakeWorld) -> None:
    """Where every call has a stale answer, none of them would."""
    port = free_port()
    async with demo_process(port) as process:
        world = await make_world(upstream_url=f"http://127.0.0.1:{port}")
        stored = await with_stale_answers(world)
        process.kill()
        await process.wait()
        for text in TEXTS:
            await world.ask(text)
        assert world.app.fleet.first.outage.down
    async with demo_process(port):
        await renewed(world, TEXTS[-1], stored[TEXTS[-1]])  # it counts its answers from 1 again
        assert not world.app.fleet.first.outage.down


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "failing", [{"X-Demo-Status": str(status)} for status in (429, 500, 502, 503, 504, 529)], ids=str
)
async def test_an_upstream_that_says_it_has_too_much(
    world: World, failing: dict[str, str], stream: bool
) -> None:
    await with_stale_answers(world)
    answer = await world.ask(TEXTS[0], stream=stream, headers=failing)
    assert (answer.status, answer.cache) == (200, "STALE exact")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_does_not_answer_in_time(make_world: MakeWorld, stream: bool) -> None:
    world = await make_world(upstream={"first_byte_timeout": 0.2})
    await with_stale_answers(world)
    answer = await world.ask(TEXTS[0], stream=stream, headers={"X-Demo-Hang": "yes"})
    assert (answer.status, answer.cache) == (200, "STALE exact")
    assert answer.headers["Cache-Status"] == "nearhit; fwd=stale; fwd-status=504"


@pytest.mark.parametrize("trouble", ["X-Demo-Break", "X-Demo-Hang"])
async def test_an_upstream_that_fails_between_head_and_first_byte(
    make_world: MakeWorld, trouble: str
) -> None:
    world = await make_world(upstream={"stale_after": 0.2})
    await with_stale_answers(world)
    answer = await world.ask(TEXTS[0], stream=True, headers={trouble: "after-0-chunks"})
    assert (answer.status, answer.cache) == (200, "STALE exact")


async def test_a_slow_answer_is_kept_for_the_next_caller(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour(latency_s=0), upstream={"stale_after": 0.1})
    stored = await with_stale_answers(world)
    slow = {"headers": {"X-Demo-Latency": "0.6"}}
    answers = await asyncio.gather(*[world.ask(TEXTS[0], **slow) for _ in range(3)])
    assert [answer.cache for answer in answers] == ["STALE exact"] * 3
    await world.settled()
    new = await world.ask(TEXTS[0])
    assert new.cache == "HIT exact"
    assert new.text != stored[TEXTS[0]]
    assert await world.upstream_calls() == len(TEXTS) + 1


@pytest.mark.parametrize("lost", ["gone", "the store is away"])
@pytest.mark.parametrize("stream", [True, False])
async def test_who_has_lost_its_stale_answer_waits_for_the_new_one(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, stream: bool, lost: str
) -> None:
    async def nothing(id: str) -> bytes | None:
        if lost != "gone":
            raise StorageError("away")
        return None

    world = await make_world(Behaviour(latency_s=0), upstream={"stale_after": 0.1})
    await with_stale_answers(world)
    monkeypatch.setattr(world.app.cache.documents, "load", nothing)
    slow = {"headers": {"X-Demo-Latency": "0.6"}, "stream": stream}
    answers = await asyncio.gather(*[world.ask(TEXTS[0], **slow) for _ in range(3)])
    assert sorted((answer.status, answer.cache) for answer in answers) == [
        (200, "HIT inflight"), (200, "HIT inflight"), (200, "MISS")
    ]  # fmt: skip
    assert await world.upstream_calls() == len(TEXTS) + 1
    assert not world.app.fleet.first.errors


async def test_one_renewal_of_an_entry_at_a_time(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour(latency_s=0.2))
    text = "brief me on all of the weather in the north today"
    await world.ask(text)
    await world.settled()
    world.clock.now += 12
    wordings = [text, text + " please", text + " now", text + " thanks"]
    answers = await asyncio.gather(*[world.ask(wording) for wording in wordings for _ in range(3)])
    assert {answer.headers["X-Cache"] for answer in answers} == {"STALE"}
    await world.settled()
    assert await world.upstream_calls() == 2


async def just_stale(world: World, *texts: str) -> None:
    """Answers that are served past their lifetime, and renewed."""
    for text in texts:
        await world.ask(text)
    await world.settled()
    world.clock.now += 12


async def test_an_entry_whose_renewal_failed_is_renewed_by_the_next_who_asks(make_world: MakeWorld) -> None:
    world = await make_world()
    await just_stale(world, TEXTS[0])
    for status in ("400", "200"):
        answer = await world.ask(TEXTS[0], headers={"X-Demo-Status": status} if status != "200" else {})
        assert answer.cache == "STALE exact"
        await world.settled()
    assert await world.upstream_calls() == 3
    assert (await world.ask(TEXTS[0])).cache == "HIT exact"


async def test_renewals_at_once_are_bounded(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewals, "AT_ONCE", 2)
    world = await make_world()
    await just_stale(world, *TEXTS[:4])
    for text in TEXTS[:4]:
        assert (await world.ask(text, headers={"X-Demo-Latency": "0.3"})).cache == "STALE exact"
    await world.settled()
    assert await world.upstream_calls() == 4 + 2


async def test_nothing_is_renewed_while_others_wait_for_a_place(make_world: MakeWorld) -> None:
    world = await make_world(upstream={"limit": 1})
    await just_stale(world, TEXTS[0])
    other = asyncio.ensure_future(world.ask("first of all", headers={"X-Demo-Latency": "0.3"}))
    while not world.app.forwarder.under_way:
        await asyncio.sleep(0.01)
    assert (await world.ask(TEXTS[0])).cache == "STALE exact"
    await other
    await world.settled()
    assert (world.app.renewals.held_back, await world.upstream_calls()) == (1, 2)


async def test_what_is_on_its_way_up_anyhow_is_not_renewed(make_world: MakeWorld) -> None:
    world = await make_world()
    await just_stale(world, TEXTS[0])
    anew = {"Cache-Control": "no-cache", "X-Demo-Latency": "0.3"}
    other = asyncio.ensure_future(world.ask(TEXTS[0], headers=anew))
    while not world.app.forwarder.under_way:
        await asyncio.sleep(0.01)
    assert (await world.ask(TEXTS[0])).cache == "STALE exact"
    await other
    await world.settled()
    assert await world.upstream_calls() == 2


async def test_without_an_embedder_what_has_a_vector_is_not_renewed(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = await make_world()
    await just_stale(world, TEXTS[0])
    world.embedder.broken = True
    assert (await world.ask(TEXTS[0])).cache == "STALE exact"
    await world.settled()
    assert await world.upstream_calls() == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_renewals_do_not_storm_an_upstream_that_is_gone(make_world: MakeWorld) -> None:
    calls = 0

    async def dead(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    alive = Behaviour()
    async with upstream(dead) as url:
        world = await make_world(alive)
        stored = await with_stale_answers(world)
        world.clock.now -= 88  # past their lifetime, and to be renewed when asked for
        world.app.fleet.first.upstream._base = URL(url)
        for _ in range(20):
            answers: list[Any] = await asyncio.gather(*[world.ask(text) for text in TEXTS])
            assert served(stored, answers)
        await world.settled()
        assert world.app.fleet.first.outage.down
        assert calls <= len(TEXTS) + 3


async def test_a_category_may_have_stale_answers_before_waiting(
    make_world: MakeWorld, categories: Any
) -> None:
    policy = "threshold: 0.8, ttl: 10s, stale: {if_error: 1h}, load: {stale_at: 1.0}"
    (categories / "brief.yaml").write_text(f"{{name: brief, {policy}, match: {{patterns: ['^brief']}}}}")
    world = await make_world(Behaviour(latency_s=0.3), upstream={"limit": 1})
    await world.ask(TEXTS[0])
    await world.settled()
    world.clock.now += 100
    other = asyncio.ensure_future(world.ask("first of all"))
    await asyncio.sleep(0.1)
    assert (await world.ask(TEXTS[0])).cache == "STALE exact"
    await other
    assert (await world.ask(TEXTS[0])).cache == "MISS"
