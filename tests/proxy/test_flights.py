"""Riders of one flight: each reads it whole, none holds up the others for ever, none is left waiting."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from proxy import flights
from proxy.errors import CallerGone, CallError, Unreachable
from proxy.flights import LEAD_BYTES, Flight, Flights, Rider
from proxy.messages import Question
from proxy.upstreams.upstream import Head

HEAD = Head(200, "OK", CIMultiDict())


def flight(capacity: int = 2**20) -> Flight:
    return Flight(cast(Question, None), "id", 0.0, capacity)


async def read(rider: Rider) -> bytes:
    with rider:
        return b"".join([chunk async for chunk in rider.chunks()])


async def test_early_and_late_riders_read_the_same() -> None:
    up = flight()
    early = asyncio.gather(read(up.board()), read(up.board()))
    for chunk in (b"a", b"b"):
        await up.push(chunk)
        await asyncio.sleep(0)
    late = asyncio.gather(read(up.board()))
    await up.push(b"c")
    up.land()
    after = await read(up.board())
    assert [*await early, *await late, after] == [b"abc"] * 4


async def test_the_upstream_waits_for_the_fastest_rider() -> None:
    up = flight(capacity=8 * LEAD_BYTES)
    rider = up.board()
    pushing = asyncio.gather(*[up.push(b"x" * LEAD_BYTES) for _ in range(3)])
    await asyncio.sleep(0.01)
    assert not pushing.done()
    reading = asyncio.gather(read(rider))
    await asyncio.wait_for(pushing, 1)
    up.land()
    assert len((await reading)[0]) == 3 * LEAD_BYTES


async def test_a_rider_who_stands_still_does_not_hold_up_another() -> None:
    up = flight(capacity=8 * LEAD_BYTES)
    up.board()
    reading = asyncio.gather(read(up.board()))
    for _ in range(4):
        await asyncio.wait_for(up.push(b"x" * LEAD_BYTES), 1)
        await asyncio.sleep(0)
    up.land()
    assert len((await reading)[0]) == 4 * LEAD_BYTES


async def test_an_answer_too_large_to_keep_still_reaches_those_aboard() -> None:
    up = flight(capacity=10)
    rider, waiting = up.board(), up.board(waits=True)
    reading = asyncio.gather(read(rider))
    for _ in range(50):
        await up.push(b"12345678")
        await asyncio.sleep(0)
    assert up.whole is None
    assert await asyncio.shield(up.answer) is None
    waiting.__exit__()
    assert len(up._chunks) < 10
    up.land()
    assert await reading == [b"12345678" * 50]


@pytest.mark.parametrize("others", [0, 1])
async def test_who_takes_nothing_of_an_answer_too_large_to_keep_is_left_behind_where_others_wait(
    monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    monkeypatch.setattr(flights, "STALLED_S", 0.05)
    up = flight(capacity=2 * LEAD_BYTES)
    stalled = up.board()
    chunks = stalled.chunks()
    pushing = asyncio.gather(push(up, 6))
    assert await anext(chunks)
    reading = asyncio.gather(*[read(up.board()) for _ in range(others)])
    await asyncio.wait([pushing], timeout=0.5)
    assert pushing.done() == bool(others)  # by itself it may take its time
    if others:
        with pytest.raises(CallerGone):
            await anext(chunks)
    else:
        assert [len(chunk) async for chunk in chunks] == [LEAD_BYTES] * 5
    assert [len(each) for each in await reading] == [6 * LEAD_BYTES] * others


async def push(up: Flight, count: int) -> None:
    for _ in range(count):
        await up.push(b"x" * LEAD_BYTES)
    up.land()


async def test_a_failure_before_the_head_reaches_everybody() -> None:
    up = flight()
    rider, waiting = up.board(), up.board(waits=True)
    up.fail(Unreachable("gone"))
    with pytest.raises(Unreachable):
        await asyncio.shield(up.head)
    assert await asyncio.shield(up.answer) is None
    with pytest.raises(Unreachable), rider:
        await anext(rider.chunks())
    waiting.__exit__()


async def test_a_failure_in_midstream_comes_after_what_there_was() -> None:
    up = flight()
    up.head.set_result(HEAD)
    rider = up.board()
    await up.push(b"half")
    up.fail(Unreachable("broke off"))
    got: list[bytes] = []
    with pytest.raises(CallError), rider:
        async for chunk in rider.chunks():
            got.append(chunk)  # noqa: PERF401  the point is what came before the error
    assert got == [b"half"]


async def test_the_flight_ends_with_its_last_rider_and_not_before() -> None:
    up = flight()
    up.task = asyncio.get_running_loop().create_task(asyncio.sleep(60), name="flight")
    first, second = up.board(), up.board()
    first.__exit__()
    await asyncio.sleep(0)
    assert not up.task.cancelled()
    second.__exit__()
    await asyncio.wait([up.task], timeout=1)
    assert up.task.cancelled()


async def test_leaving_frees_a_waiting_upstream() -> None:
    up = flight(capacity=8 * LEAD_BYTES)
    up.task = cast(
        "asyncio.Task[Any]", asyncio.get_running_loop().create_task(asyncio.sleep(60), name="flight")
    )
    slow, gone = up.board(), up.board()
    pushing = asyncio.gather(*[up.push(b"x" * LEAD_BYTES) for _ in range(2)])
    await asyncio.sleep(0)
    reading = asyncio.gather(read(slow))
    gone.__exit__()
    await asyncio.wait_for(pushing, 1)
    up.land()
    await reading
    up.task.cancel()


def asking(exact: bytes) -> Flight:
    call = SimpleNamespace(generation=0)
    question = SimpleNamespace(call=call, exact=exact, partition=b"p", vector=None)
    return Flight(cast(Question, question), "id", 0.0, 100)


async def test_the_end_of_an_older_flight_leaves_a_newer_one_of_the_same_question() -> None:
    under_way, older, newer = Flights(), asking(b"q"), asking(b"q")
    under_way.add(older)
    under_way.add(newer)
    under_way.remove(older)
    assert under_way.same(b"q", 0) is newer


async def test_nobody_boards_a_flight_that_failed() -> None:
    under_way, up = Flights(), asking(b"q")
    under_way.add(up)
    assert under_way.same(b"q", 0) is up
    up.fail(Unreachable("gone"))
    assert under_way.same(b"q", 0) is None
