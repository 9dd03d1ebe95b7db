"""Partitions are apart from each other, and become graphs without anybody noticing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from stored import clustered, digest

from storage import partitions
from storage.flat import Flat
from storage.graph import Graph, graph_available
from storage.partitions import Partitions

ONE, TWO = digest("one"), digest("two")
DIMENSIONS = 64
needs_graph = pytest.mark.skipif(not graph_available(), reason="hnswlib is not installed")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "GRAPH_AT", 300)
    monkeypatch.setattr(partitions, "COPIED_AT_ONCE", 32)
    monkeypatch.setattr(partitions, "TEND_EVERY_S", 0.001)


@pytest.fixture
async def tended() -> AsyncIterator[Partitions]:
    kept = Partitions(DIMENSIONS)
    task = asyncio.get_running_loop().create_task(kept.tend(), name="tend")
    yield kept
    task.cancel()
    await asyncio.wait([task])


async def until_graph(kept: Partitions, partition: bytes, other_than: object = None) -> None:
    async with asyncio.timeout(30):
        while not isinstance(kept._indexes.get(partition), Graph) or kept._indexes[partition] is other_than:
            await asyncio.sleep(0.001)


def test_a_partition_is_blind_for_the_others() -> None:
    kept, rows = Partitions(DIMENSIONS), clustered(4, DIMENSIONS)
    kept.add(ONE, 1, rows[0])
    kept.add(TWO, 2, rows[0])
    assert [key for _, key in kept.nearest(ONE, rows[0], 5)] == [1]
    assert kept.nearest(digest("three"), rows[0], 5) == []


def test_an_empty_partition_goes_away() -> None:
    kept = Partitions(DIMENSIONS)
    kept.add(ONE, 1, clustered(1, DIMENSIONS)[0])
    kept.remove(ONE, 1)
    assert len(kept) == 0


@needs_graph
async def test_changes_while_the_graph_is_built_are_kept(tended: Partitions) -> None:
    rows = clustered(3_000, DIMENSIONS)
    live = set()
    for key, row in enumerate(rows):
        tended.add(ONE, key, row)
        live.add(key)
        if key % 3 == 2:
            tended.remove(ONE, key - 1)
            live.discard(key - 1)
        if key % 10 == 0:
            await asyncio.sleep(0)
    await until_graph(tended, ONE)
    index = tended._indexes[ONE]
    assert set(index.keys()) == live
    found = [tended.nearest(ONE, rows[key], 1)[0][1] == key for key in sorted(live)]
    assert sum(found) >= 0.99 * len(live)
    for key in range(1, 3_000, 3):
        assert key not in {found for _, found in tended.nearest(ONE, rows[key], 4)}


@needs_graph
async def test_a_graph_is_not_built_again_without_need(tended: Partitions) -> None:
    rows = clustered(410, DIMENSIONS)
    for key in range(400):
        tended.add(ONE, key, rows[key])
    while ONE not in tended._changes:
        await asyncio.sleep(0)
    for key in range(400, 410):
        tended.add(ONE, key, rows[key])
    await until_graph(tended, ONE)
    first = tended._indexes[ONE]
    async with asyncio.timeout(30):
        while tended._due or tended._changes:
            await asyncio.sleep(0.001)
    assert tended._indexes[ONE] is first


@needs_graph
async def test_a_worn_graph_is_built_anew_and_still_finds(tended: Partitions) -> None:
    rows = clustered(6_000, DIMENSIONS)
    for key in range(400):
        tended.add(ONE, key, rows[key])
    await until_graph(tended, ONE)
    first = tended._indexes[ONE]
    for key in range(400, 6_000):
        tended.remove(ONE, key - 400)
        tended.add(ONE, key, rows[key])
        if key % 50 == 0:
            await asyncio.sleep(0.002)
    await until_graph(tended, ONE, other_than=first)
    live = range(5_600, 6_000)
    assert sum(tended.nearest(ONE, rows[key], 1)[0][1] == key for key in live) >= 0.99 * len(live)
    async with asyncio.timeout(30):
        while tended._due or tended._changes:
            await asyncio.sleep(0.001)


@needs_graph
async def test_a_partition_that_goes_away_meanwhile_stays_away(tended: Partitions) -> None:
    rows = clustered(2_000, DIMENSIONS)
    for key, row in enumerate(rows):
        tended.add(ONE, key, row)
    while ONE not in tended._changes:
        await asyncio.sleep(0)
    tended.clear()
    tended.add(ONE, 9_999, rows[0])
    while tended._changes:
        await asyncio.sleep(0.001)
    assert isinstance(tended._indexes[ONE], Flat)
    assert [key for _, key in tended.nearest(ONE, rows[0], 5)] == [9_999]


@needs_graph
async def test_the_loop_goes_on_while_a_graph_is_built(tended: Partitions) -> None:
    for key, row in enumerate(clustered(4_000, DIMENSIONS)):
        tended.add(ONE, key, row)
    turns, started = 0, time.perf_counter()
    while not isinstance(tended._indexes[ONE], Graph):
        await asyncio.sleep(0.0005)
        turns += 1
    assert turns > 50
    assert time.perf_counter() - started < 60


async def test_without_hnswlib_everything_is_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "graph_available", lambda: False)
    kept, rows = Partitions(DIMENSIONS), clustered(500, DIMENSIONS)
    for key, row in enumerate(rows):
        kept.add(ONE, key, row)
    await kept.tend()
    assert isinstance(kept._indexes[ONE], Flat)
