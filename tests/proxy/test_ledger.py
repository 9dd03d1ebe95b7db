"""What happened is told in batches, and nobody can see that."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from doubles import Clock, WordEmbedder
from planes import API, Plane, plane_of
from world import World, open_world

from proxy.demo.upstream import Behaviour
from proxy.settings import Log, Settings
from proxy.telemetry import ledger as ledgers
from proxy.telemetry.ledger import Ledger
from proxy.telemetry.logs import logging_to
from proxy.telemetry.report import Report

CALLS = 3


def report(category: str = "code") -> Report:
    return Report(at=0.0, path="/v1/chat/completions", category=category)


@pytest.fixture
def nobody_comes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timer tells of a call while the test lasts."""
    monkeypatch.setattr(ledgers, "WITHIN_S", 3600.0)


@pytest.fixture
async def plane(nobody_comes_by: None, world: World) -> AsyncIterator[Plane]:
    async with plane_of(world) as plane:
        await asyncio.gather(*(world.ask(f"{number} of the many words") for number in range(CALLS)))
        yield plane


async def _of_the_metrics(plane: Plane) -> float:
    lines = (await plane.call("GET", "/metrics")).body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("nearhit_requests_total{"))


async def _of_the_history(plane: Plane) -> float:
    buckets = (await plane.get(f"{API}/stats/history?window=1h"))["buckets"]
    return sum(row["requests"] for bucket in buckets for row in bucket["categories"].values())


async def _of_the_recent(plane: Plane) -> float:
    return len((await plane.get(f"{API}/recent"))["calls"])


async def _of_the_counts(plane: Plane) -> float:
    counted: int = (await plane.get(f"{API}/stats"))["overall"]["requests"]
    return counted


async def _of_the_live_view(plane: Plane) -> float:
    async with plane.world.session.get(f"{plane.url}{API}/live") as answer:
        await answer.content.readline()
        await answer.content.readline()
        await plane.world.ask("while somebody listens")
        told = json.loads((await answer.content.readline()).removeprefix(b"data: "))
        assert len(told["calls"]) == 1
        return float(told["overall"]["requests"] - 1)


@pytest.mark.parametrize(
    "seen", [_of_the_metrics, _of_the_history, _of_the_recent, _of_the_counts, _of_the_live_view]
)
async def test_who_reads_sees_every_call_so_far(
    plane: Plane, seen: Callable[[Plane], Awaitable[float]]
) -> None:
    assert await seen(plane) == CALLS


async def test_what_was_purged_does_not_come_back_with_the_next_batch(plane: Plane) -> None:
    plane.world.app.ledger.forget(lambda report: True)
    assert await _of_the_recent(plane) == 0
    assert await _of_the_counts(plane) == CALLS


def test_the_last_calls_are_in_log_and_history(
    nobody_comes_by: None, tmp_path: Path, categories: Path
) -> None:
    settings = Settings.model_validate(
        {"documents": {"url": "memory"}, "categories": categories, "history": tmp_path / "history.db"}
    )

    async def call() -> None:
        async with open_world(settings, Behaviour(), WordEmbedder(), Clock()) as world:
            await asyncio.gather(*(world.ask(f"{number} of the many words") for number in range(CALLS)))

    async def remembered() -> float:
        world = open_world(settings, Behaviour(), WordEmbedder(), Clock())
        async with world as again, plane_of(again) as plane:
            return await _of_the_history(plane)

    with (tmp_path / "log").open("wb") as log, logging_to(log.fileno(), Log()):
        asyncio.run(call())
    assert (tmp_path / "log").read_text().count("outcome=MISS") == CALLS
    assert asyncio.run(remembered()) == CALLS


async def test_few_calls_are_told_of_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "WITHIN_S", 0.01)
    told = asyncio.Event()
    ledger = Ledger(lambda report: told.set())
    for _ in range(2):
        ledger.publish(report())
        assert not told.is_set()
        await asyncio.wait_for(told.wait(), 10)
        told.clear()


async def test_many_calls_do_not_wait_for_the_timer(nobody_comes_by: None) -> None:
    told: list[Report] = []
    ledger = Ledger(told.append)
    for number in range(2 * ledgers.BATCH + 1):
        ledger.publish(report(f"number {number}"))
    assert [each.category for each in told] == [f"number {each}" for each in range(2 * ledgers.BATCH)]


async def test_a_broken_reader_keeps_nobody_from_the_news(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Report] = []
    heard: list[Report] = []

    def breaks_now_and_then(report: Report) -> None:
        if report.category == "odd":
            raise KeyError(report.category)
        heard.append(report)

    ledger = Ledger(breaks_now_and_then, told.append)
    with caplog.at_level(logging.ERROR, "nearhit.ledger"):
        for category in ("code", "odd", "odd", "code"):
            ledger.publish(report(category))
        assert ledger.published == len(told) == 4
    assert [each.category for each in heard] == ["code", "code"]
    assert [record.message for record in caplog.records] == ["processing the report of a call failed"]
