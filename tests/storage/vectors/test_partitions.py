"""Partitions are apart from each other, and their graphs are built without anybody noticing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from unittest.mock import Mock

import pytest
from stored import clustered, digest

from storage.base import Vector
from storage.vectors import partitions, segments
from storage.vectors.flat import Flat
from storage.vectors.graph import SEARCH_WIDTH, Graph, graph_available
from storage.vectors.partitions import Partitions
from storage.vectors.segments import Segments

ONE, TWO = digest("one"), digest("two")
DIMENSIONS = 64
needs_graph = pytest.mark.skipif(not graph_available(), reason="hnswlib is not installed")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEALED_AT", 300)
    monkeypatch.setattr(segments, "LARGEST", 1_500)
    monkeypatch.setattr(segments, "COPIED_AT_ONCE", 32)
    monkeypatch.setattr(segments, "GIVEN_OUT_AT_ONCE", 32)
    monkeypatch.setattr(partitions, "TEND_EVERY_S", 0.001)


@pytest.fixture
async def tended() -> AsyncIterator[Partitions]:
    kept = Partitions(DIMENSIONS)
    task = asyncio.get_running_loop().create_task(kept.tend(), name="tend")
    yield kept
    task.cancel()
    await asyncio.wait([task])


def large(kept: Partitions) -> Segments:
    return kept.large()[0]


async def until_built(kept: Partitions) -> Segments:
    index = large(kept)
    async with asyncio.timeout(30):
        while not index.graphs or index.busy or index.due():
            await asyncio.sleep(0.001)
    return index


def found_share(kept: Partitions, rows: Vector, live: Iterable[int]) -> float:
    keys = sorted(live)
    return sum(kept.nearest(ONE, rows[key], 1)[0][1] == key for key in keys) / len(keys)


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
async def test_changes_while_graphs_are_built_are_kept(tended: Partitions) -> None:
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
    index = await until_built(tended)
    assert len(index) == len(live)
    assert found_share(tended, rows, live) >= 0.99
    for key in range(1, 3_000, 3):
        assert key not in {found for _, found in tended.nearest(ONE, rows[key], 4)}


@needs_graph
async def test_keys_are_used_again_for_other_vectors(tended: Partitions) -> None:
    """Also while the vector that had the key before is on its way into a graph."""
    rows, again = clustered(1_200, DIMENSIONS), clustered(1_200, DIMENSIONS, seed=9)
    for key, row in enumerate(rows):
        tended.add(ONE, key, row)
    while not large(tended).busy:
        await asyncio.sleep(0)
    for key in range(0, 1_200, 2):
        tended.remove(ONE, key)
        tended.add(ONE, key, again[key])
        await asyncio.sleep(0)
    index = await until_built(tended)
    assert len(index) == 1_200
    assert found_share(tended, again, range(0, 1_200, 2)) >= 0.99
    assert found_share(tended, rows, range(1, 1_200, 2)) >= 0.99
    for key in range(0, 1_200, 2):
        assert tended.nearest(ONE, rows[key], 1)[0][1] != key or float(rows[key] @ again[key]) > 0.5


@needs_graph
async def test_no_segment_is_larger_than_it_may_be_and_there_are_few(tended: Partitions) -> None:
    for key, row in enumerate(clustered(10_000, DIMENSIONS)):
        tended.add(ONE, key, row)
        if key % 50 == 0:
            await asyncio.sleep(0.002)
    index = await until_built(tended)
    assert max(map(len, index.graphs)) <= 1_500
    assert len(index.graphs) <= 10_000 / 1_500 * 2
    before = index.graphs
    await asyncio.sleep(0.05)
    assert index.graphs == before


@needs_graph
async def test_a_worn_graph_is_built_anew_and_still_finds(tended: Partitions) -> None:
    rows = clustered(6_000, DIMENSIONS)
    for key in range(700):
        tended.add(ONE, key, rows[key])
    first = (await until_built(tended)).graphs[0]
    for key in range(700, 6_000):
        tended.remove(ONE, key - 700)
        tended.add(ONE, key, rows[key])
        if key % 50 == 0:
            await asyncio.sleep(0.002)
    index = await until_built(tended)
    assert first not in index.graphs
    assert not any(graph.worn for graph in index.graphs)
    assert index.nbytes < 2 * 700 * (4 * DIMENSIONS + 400)
    assert found_share(tended, rows, range(5_300, 6_000)) >= 0.99


@needs_graph
async def test_a_partition_that_goes_away_meanwhile_stays_away(tended: Partitions) -> None:
    rows = clustered(2_000, DIMENSIONS)
    for key, row in enumerate(rows):
        tended.add(ONE, key, row)
    gone = large(tended)
    while not gone.busy:
        await asyncio.sleep(0)
    for key in range(len(rows)):
        tended.remove(ONE, key)
    tended.add(ONE, 9_999, rows[0])
    while gone.busy:
        await asyncio.sleep(0.001)
    assert isinstance(tended._indexes[ONE], Flat)
    assert [key for _, key in tended.nearest(ONE, rows[0], 5)] == [9_999]


@needs_graph
async def test_the_loop_goes_on_while_a_graph_is_built(tended: Partitions) -> None:
    for key, row in enumerate(clustered(4_000, DIMENSIONS)):
        tended.add(ONE, key, row)
    turns, started = 0, time.perf_counter()
    while not large(tended).graphs:
        await asyncio.sleep(0.0005)
        turns += 1
    assert turns > 20
    assert time.perf_counter() - started < 60


@needs_graph
async def test_a_graph_that_finds_too_little_is_mended(
    tended: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built anew where vectors were removed from it, searched further where not."""
    for key, row in enumerate(clustered(650, DIMENSIONS)):
        tended.add(ONE, key, row)
    index = await until_built(tended)
    [graph] = index.graphs
    await tended._judge()
    assert tended.recall is not None
    assert tended.recall >= 0.9
    monkeypatch.setattr(Graph, "nearest", lambda self, vector, count: [(0.0, 0)])
    await tended._judge()
    assert tended.recall == 0.0
    assert index.graphs == [graph]
    assert graph._width > SEARCH_WIDTH
    tended.remove(ONE, 3)
    await tended._judge()
    assert index.graphs != [graph]
    assert len(index) == 649


@needs_graph
async def test_a_graph_that_cannot_be_built_is_scanned_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, rows = Partitions(DIMENSIONS), clustered(700, DIMENSIONS)
    for key, row in enumerate(rows):
        kept.add(ONE, key, row)
    with monkeypatch.context() as patch:
        patch.setattr(Graph, "fill", Mock(side_effect=RuntimeError("Not enough memory")))
        with pytest.raises(RuntimeError):
            await kept.tend()
    assert found_share(kept, rows, range(700)) == 1.0
    assert not large(kept).busy
    index = large(kept)
    await index.merge(index.due())
    assert found_share(kept, rows, range(700)) >= 0.99


@needs_graph
def test_a_graph_grows_to_its_largest_though_something_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEALED_AT", 300)
    monkeypatch.setattr(segments, "LARGEST", 900)
    index = Segments(DIMENSIONS, Flat(DIMENSIONS))
    for key, row in enumerate(clustered(1_000, DIMENSIONS)):
        index.add(key, row)
        if key == 900:  # the third scan has just been sealed
            index.remove(700)
        while chosen := index.due():
            asyncio.run(index.merge(chosen))
    assert [len(graph) for graph in index.graphs] == [899]


@needs_graph
async def test_nothing_is_said_of_a_graph_without_vectors(tended: Partitions) -> None:
    for key, row in enumerate(clustered(700, DIMENSIONS)):
        tended.add(ONE, key, row)
    [graph] = (await until_built(tended)).graphs
    for key in graph.keys().tolist():
        graph.remove(key)
    assert await segments.recall(graph, 1) == 1.0


@needs_graph
async def test_what_is_removed_while_a_graph_is_judged_does_not_count_against_it(tended: Partitions) -> None:
    for key, row in enumerate(clustered(650, DIMENSIONS)):
        tended.add(ONE, key, row)
    [graph] = (await until_built(tended)).graphs
    judging = asyncio.get_running_loop().create_task(segments.recall(graph, 1), name="judge")
    for _ in range(len(graph) // segments.GIVEN_OUT_AT_ONCE):
        await asyncio.sleep(0)
    assert not judging.done()
    for key in range(0, 600, 3):
        tended.remove(ONE, key)
    assert await judging >= 0.95


async def test_without_hnswlib_everything_is_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "graph_available", lambda: False)
    kept, rows = Partitions(DIMENSIONS), clustered(1_000, DIMENSIONS)
    for key, row in enumerate(rows):
        kept.add(ONE, key, row)
    await kept.tend()
    assert not large(kept).graphs
    assert found_share(kept, rows, range(1_000)) == 1.0
    for key in range(1_000):
        kept.remove(ONE, key)
    assert len(kept) == 0
    assert kept.nbytes == 0
