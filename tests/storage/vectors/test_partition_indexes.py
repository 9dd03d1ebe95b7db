"""Every index keeps the same promises; the approximate ones also a recall."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import clustered, unit

from storage.base import PartitionIndex, Vector
from storage.vectors import flat, segments
from storage.vectors.flat import Flat
from storage.vectors.graph import Graph, graph_available
from storage.vectors.segments import Segments

MakeIndex = Callable[[int], PartitionIndex]


class Built(Segments):
    """Whose graphs are built the moment they are due."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions, Flat(dimensions))

    def add(self, key: int, vector: Vector) -> None:
        super().add(key, vector)
        while chosen := self.due():
            asyncio.run(self.merge(chosen))


@pytest.fixture(params=["flat", "segments"])
def make_index(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeIndex:
    if request.param == "flat":
        return Flat
    if not graph_available():
        pytest.skip("hnswlib is not installed")
    monkeypatch.setattr(segments, "SEALED_AT", 500)
    monkeypatch.setattr(segments, "LARGEST", 2_000)
    return Built


def graph_of(rows: np.ndarray) -> Graph:
    graph = Graph(rows.shape[1], len(rows))
    graph.fill(range(len(rows)), rows)
    graph.seal()
    return graph


def fill(index: PartitionIndex, rows: np.ndarray) -> None:
    for key, row in enumerate(rows):
        index.add(key, row)


def test_an_empty_index_finds_nothing(make_index: MakeIndex) -> None:
    index = make_index(16)
    assert index.nearest(unit("a"), 3) == []
    index.add(7, unit("a"))
    index.remove(7)
    assert len(index) == 0
    assert index.nearest(unit("a"), 3) == []


def test_nearest_gives_cosines_best_first(make_index: MakeIndex) -> None:
    rows = clustered(50, 16)
    index = make_index(16)
    fill(index, rows)
    cosines = rows @ rows[3]
    best = np.argsort(-cosines)[:5]
    found = index.nearest(rows[3], 5)
    assert [key for _, key in found] == best.tolist()
    assert [cosine for cosine, _ in found] == pytest.approx(cosines[best].tolist(), abs=1e-5)


@pytest.mark.parametrize("count", [1_000, 1_200])
def test_many_of_few_above_the_exact_scan(count: int) -> None:
    index = Flat(16)
    fill(index, clustered(1_100, 16))
    found = index.nearest(unit("q"), count)
    assert len(found) == min(1_100, count)
    assert [cosine for cosine, _ in found] == sorted((cosine for cosine, _ in found), reverse=True)


@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_no_more_than_there_are(make_index: MakeIndex, count: int) -> None:
    index = make_index(16)
    fill(index, clustered(3, 16))
    assert len(index.nearest(unit("q"), count)) == min(3, count)


@pytest.mark.parametrize("dimensions", [64, 100, 384])
def test_near_neighbours_are_found_whatever_was_removed(make_index: MakeIndex, dimensions: int) -> None:
    """Many rounds of removing and adding: what is left is found, what is gone is not."""
    rows = clustered(9_000, dimensions)
    index, live, chance = make_index(dimensions), set(range(6_000)), random.Random(0)
    fill(index, rows[:6_000])
    for key in range(6_000, 9_000):
        gone = chance.choice(range(key))
        if gone in live:
            index.remove(gone)
            live.discard(gone)
        index.add(key, rows[key])
        live.add(key)
    assert len(index) == len(live)
    noise = np.random.default_rng(1).normal(size=(300, dimensions)) * 0.4 / dimensions**0.5
    asked = [rows[key] + noise[number] for number, key in enumerate(chance.sample(sorted(live), 300))]
    kept = np.array(sorted(live))
    right = 0
    for query in asked:
        vector = (query / np.linalg.norm(query)).astype(np.float32)
        found = index.nearest(vector, 4)
        assert {key for _, key in found} <= live
        right += found[0][0] >= float((rows[kept] @ vector).max()) - 1e-5
    assert right >= 297


def test_rows_move_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "EXACT_ROWS", 16)
    monkeypatch.setattr(flat, "BLOCK_ROWS", 64)
    rows = clustered(300, 64)
    index = Flat(64)
    fill(index, rows)
    for key in range(0, 300, 2):
        index.remove(key)
    for key in range(1, 300, 2):
        assert index.nearest(rows[key], 1) == [(pytest.approx(1.0, abs=1e-5), key)]
    for key in range(1, 300, 2):
        index.remove(key)
    assert index.nearest(rows[0], 1) == []
    index.add(0, rows[0])
    assert index.nearest(rows[0], 2) == [(pytest.approx(1.0, abs=1e-5), 0)]


def test_many_equal_vectors_above_the_exact_scan(make_index: MakeIndex) -> None:
    index, row = make_index(16), unit("same")
    for key in range(flat.EXACT_ROWS + 500):
        index.add(key, row)
    found = index.nearest(row, 4)
    assert len({key for _, key in found}) == 4
    assert all(cosine == pytest.approx(1.0, abs=1e-5) for cosine, _ in found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=120))
def test_the_exact_scan_agrees_with_a_dictionary(steps: list[tuple[bool, int]]) -> None:
    index, kept = Flat(16), {}
    for adding, key in steps:
        if adding and key not in kept:
            kept[key] = unit(key)
            index.add(key, kept[key])
        elif not adding and key in kept:
            del kept[key]
            index.remove(key)
    query = unit("query")
    expected = sorted(((float(row @ query), key) for key, row in kept.items()), reverse=True)
    found = index.nearest(query, 50)
    assert [key for _, key in found] == [key for _, key in expected]


@pytest.mark.parametrize("kind", ["flat", "graph"])
def test_vectors_come_back(kind: str) -> None:
    rows = clustered(20, 64)
    index: Flat | Graph = Flat(64)
    if kind == "flat":
        fill(index, rows)
    elif graph_available():
        index = graph_of(rows)
    else:
        pytest.skip("hnswlib is not installed")
    index.remove(4)
    np.testing.assert_allclose(index.vectors([7, 3]), rows[[7, 3]], atol=1e-6)
    assert sorted(index.keys()) == [*range(4), *range(5, 20)]
    assert 4 not in index
    assert 5 in index
    assert 20 not in index
    assert index.nbytes >= 19 * 64 * 4


@pytest.mark.skipif(not graph_available(), reason="hnswlib is not installed")
def test_a_graph_that_reaches_fewer_gives_what_it_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(20, 64)
    graph = graph_of(rows)
    inner = graph._graph

    class Reaches:
        def __init__(self, most: int) -> None:
            self.most = most

        def knn_query(self, vector: object, k: int, num_threads: int) -> object:
            if k > self.most:
                raise RuntimeError("Cannot return the results in a contiguous 2D array")
            return inner.knn_query(vector, k=k, num_threads=num_threads)

    monkeypatch.setattr(graph, "_graph", Reaches(2))
    assert graph.nearest(rows[7], 4)[0][1] == 7
    monkeypatch.setattr(graph, "_graph", Reaches(0))
    assert graph.nearest(rows[7], 4) == []
