"""Counts over time: bounded, cheap, and still there after a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from doubles import Clock, WordEmbedder
from hypothesis import given
from hypothesis import strategies as st
from planes import plane_of
from world import MakeWorld, World, open_world

from policies.audit import Verdict
from proxy.demo.upstream import Behaviour
from proxy.settings import Settings
from proxy.telemetry.history import EDGES_MS, MOST_POINTS, NAMES, History, HistoryFile, shown
from proxy.telemetry.report import Report

NOW = 1_700_000_000.0
WINDOW = "/api/v1/stats/history"


def report(at: float = NOW, category: str = "a", **more: Any) -> Report:
    return Report(at, "/v1/chat/completions", category=category, **more)


def hit(at: float = NOW, **more: Any) -> Report:
    return report(at, outcome="HIT", tier="exact", saved_ms=100.0, tokens_out=7, total_ms=0.4, **more)


def history(file: HistoryFile | None = None) -> History:
    return History(dict, NOW, file)


async def look(world: World, query: str = "", status: int = 200) -> Any:
    async with plane_of(world) as plane, world.session.get(plane.url + WINDOW + query) as told:
        assert told.status == status
        return await told.json()


# In memory


async def test_a_call_is_in_the_bucket_of_its_time() -> None:
    kept = history()
    kept.observe(hit())
    kept.observe(report(NOW + 1, total_ms=30.0, pressure=0.5))
    kept.observe(hit(NOW + 25))
    step, buckets = await kept.since(NOW + 30, 3600)
    assert (step, [start for start, _ in buckets]) == (10, [NOW, NOW + 20])
    row = shown(buckets[0][1]["a"])
    assert (row["requests"], row["exact"], row["misses"], row["saved_ms"]) == (2, 1, 1, 100.0)
    assert (row["tokens_saved"], row["pressure"]) == (7, 0.25)
    assert row["hit_ms"] == [1] + [0] * len(EDGES_MS)
    assert row["other_ms"][EDGES_MS.index(50)] == 1


@given(st.lists(st.tuples(st.floats(-50, 4000), st.booleans()), max_size=60), st.floats(1, 30 * 86400))
async def test_no_window_loses_a_call_or_counts_it_twice(
    calls: list[tuple[float, bool]], window: float
) -> None:
    kept, now = history(), NOW
    for passed, served in calls:
        now += passed
        kept.observe(hit(now) if served else report(now))
    _, buckets = await kept.since(max(now, kept._until), 30 * 86400)
    sums = [shown(rows["a"]) for _, rows in buckets]
    assert sum(each["requests"] for each in sums) == len(calls)
    assert sum(each["exact"] for each in sums) == sum(served for _, served in calls)
    step, some = await kept.since(now, window)
    assert len(some) <= MOST_POINTS + 1
    assert all(later - start >= step for (start, _), (later, _) in pairwise(some))


async def test_categories_can_be_summed_and_left_out() -> None:
    kept = history()
    for at, category in ((NOW, "a"), (NOW, "b"), (NOW + 20, "b")):
        kept.observe(report(at, category, total_ms=3.0))
    _, summed = await kept.since(NOW + 30, 3600, lambda name: "all")
    assert [(start, shown(rows["all"])["requests"]) for start, rows in summed] == [(NOW, 2), (NOW + 20, 1)]
    assert shown(summed[0][1]["all"])["other_ms"][EDGES_MS.index(5)] == 2
    _, only = await kept.since(NOW + 30, 3600, lambda name: name if name == "a" else None)
    assert [(start, list(rows)) for start, rows in only] == [(NOW, ["a"])]


async def test_it_is_bounded() -> None:
    kept = history()
    for number in range(3000):
        kept.observe(hit(NOW + 2000.0 * number))
    assert [len(level.buckets) for level in kept.levels] == [360, 1440, 1440]
    assert all(len(level.dirty) <= level.count for level in kept.levels)


async def test_verdicts_are_in_the_bucket_in_which_they_came() -> None:
    verdicts: dict[tuple[str, Verdict], int] = {("a", "right"): 3}
    kept = History(lambda: verdicts, NOW)
    kept.roll(NOW + 10)
    verdicts["a", "wrong"] = 2
    _, buckets = await kept.since(NOW + 20, 3600)
    assert [(shown(rows["a"])["right"], shown(rows["a"])["wrong"]) for _, rows in buckets] == [(3, 0), (0, 2)]


# On disk


async def test_what_was_saved_is_loaded_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "nearhit.history.db"
    first = history(HistoryFile(path))
    first.observe(hit())
    await first.close(NOW + 1)
    assert path.stat().st_mode & 0o777 == 0o600
    second = History(dict, NOW + 2, HistoryFile(path))
    await second.load(NOW + 2)
    second.observe(hit(NOW + 3))
    await second.close(NOW + 4)
    third = History(dict, NOW + 30, HistoryFile(path))
    await third.load(NOW + 30)
    for window in (3600, 86400, 30 * 86400):
        _, ((_, rows),) = await third.since(NOW + 30, window)
        assert shown(rows["a"])["requests"] == 2
    await third.close(NOW + 30)


async def test_two_proxies_do_not_overwrite_each_others_sums(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "h.db"
    first, second = (history(HistoryFile(path)) for _ in range(2))
    await first.load(NOW)
    await second.load(NOW)
    assert "another proxy" in caplog.text
    for kept, calls in ((first, 3), (second, 1)):
        for _ in range(calls):
            kept.observe(hit())
        await kept.close(NOW + 1)
    third = history(HistoryFile(path))
    await third.load(NOW + 2)
    _, ((_, rows),) = await third.since(NOW + 2, 3600)
    assert shown(rows["a"])["requests"] == 3
    await third.close(NOW + 2)


async def test_the_file_is_bounded(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "h.db")
    kept = history(file)
    for number in range(500):
        kept.observe(hit(NOW + 10.0 * number))
        if number % 100 == 0:
            await kept.save()
    await kept.close(NOW + 5000)
    assert len((await asyncio.to_thread(file.load))[10]) == 360


async def test_a_file_that_is_none_does_not_stop_anything(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    path.write_bytes(b"this is no database" * 100)
    kept = history(HistoryFile(path))
    await kept.load(NOW)
    kept.observe(hit())
    await kept.close(NOW + 10)
    assert path.read_bytes().startswith(b"this is no database")


async def test_a_damaged_row_is_left_out(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "h.db")
    kept = history(file)
    kept.observe(hit())
    await kept.close(NOW + 10)
    with sqlite3.connect(file.path) as connection:
        connection.execute("UPDATE history SET sums = x'00' WHERE width = 10")
    connection.close()
    assert set(await asyncio.to_thread(file.load)) == {60, 1800}


async def test_what_could_not_be_saved_is_saved_later(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    path.mkdir()
    kept = history(HistoryFile(path))
    kept.observe(hit())
    kept.roll(NOW + 10)
    await kept.save()
    path.rmdir()
    await kept.save()
    assert set(await asyncio.to_thread(HistoryFile(path).load)) == {10, 60, 1800}


# Through the proxy


async def test_history_of_real_calls_survives_a_restart(categories: Path, tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'nearhit.db'}"
    settings = Settings.model_validate({"documents": {"url": url}, "categories": categories})
    clock = Clock()
    async with open_world(settings, Behaviour(), WordEmbedder(), clock) as world:
        await world.ask()
        await world.settled()
        await world.ask()
    assert (tmp_path / "nearhit.history.db").exists()
    clock.now += 300
    async with open_world(settings, Behaviour(), WordEmbedder(), clock) as world:
        await world.ask("never mind")
        told = await look(world, "?window=1h")
    assert (told["step"], told["latency_edges_ms"]) == (10, list(EDGES_MS))
    first, second = told["buckets"]
    row = first["categories"]["default"]
    assert (row["requests"], row["exact"], row["misses"]) == (2, 1, 1)
    assert row["tokens_saved"] > 0
    assert second["start"] - first["start"] == 300
    assert second["categories"]["never"]["bypasses"] == 1


@pytest.mark.parametrize(
    ("window", "step"),
    [("", 10), ("?window=3600", 10), ("?window=2h", 60), ("?window=24h", 240), ("?window=30d", 7200)],
)
async def test_a_longer_window_has_wider_buckets(world: World, window: str, step: int) -> None:
    await world.ask()
    told = await look(world, window)
    assert (told["step"], len(told["buckets"])) == (step, 1)


@pytest.mark.parametrize("window", ["0", "31d", "soon", "-1"])
async def test_a_bad_window_is_refused(world: World, window: str) -> None:
    assert "window" in (await look(world, f"?window={window}", 400))["error"]["message"]


async def test_nothing_is_written_beside_other_stores(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await make_world()
    await world.ask()
    await world.app.history.close(world.clock.now)
    assert await asyncio.to_thread(lambda: list(tmp_path.glob("*.db"))) == []


def test_every_member_fits_a_row() -> None:
    row = array("d", range(len(NAMES) + 2 * (len(EDGES_MS) + 1)))
    told = shown(row)
    assert (told["requests"], told["wrong"], told["other_ms"][-1]) == (0, len(NAMES) - 1, len(row) - 1)
