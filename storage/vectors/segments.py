"""The vectors of one large partition, in segments of bounded size.

New vectors go into the youngest segment, the head, which is scanned. When it is full it is sealed and a new
head begins, so nothing ever grows far. Beside the loop, sealed scans become graphs, several at a time where
they wait, together with the graphs before them that are at most three times as large as what comes in: so
there are few graphs, and a vector is copied a few times at the most. A graph of which a quarter was removed
is built anew in the same way, from what is left.

A search goes through all segments: six or seven at a million vectors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from heapq import nlargest

import numpy as np

from storage.base import Matrix, Vector
from storage.vectors.flat import Flat
from storage.vectors.graph import Graph

SEALED_AT = 65_536
"""Vectors of a scan. A larger one would cost the loop more to search than a graph does."""
LARGEST = 262_144
"""Vectors of a graph. A search takes little longer in a large one, so few are better; giving one back to the
machine takes a millisecond for some thousands, and nobody else runs meanwhile."""
COPIED_AT_ONCE = 64
GIVEN_OUT_AT_ONCE = 16
"""Vectors out of a graph, which gives them out number by number: a millisecond or two."""
REMOVED_AT_ONCE = 256
SAMPLE = 128
"""Vectors whose neighbours are looked for to judge a graph. With a quarter as many, chance alone would
condemn a graph that finds 99 % in one judgement of twenty-five."""
NOISE = 0.5
"""Length of what is added to them: a cosine of 0.89, as a paraphrase may have."""
LEAST_RECALL = 0.95

Segment = Flat | Graph


class Segments:
    """A `PartitionIndex`, begun with a scan that has become large."""

    def __init__(self, dimensions: int, first: Flat) -> None:
        self._dimensions = dimensions
        self._head = Flat(dimensions)
        self._sealed: list[Segment] = [first]
        """Graphs, then scans that wait to become one."""
        self._removed: list[int] | None = None
        """Since the copying of some began."""

    def __len__(self) -> int:
        return sum(map(len, self._all()))

    def _all(self) -> list[Segment]:
        return [self._head, *self._sealed]

    @property
    def nbytes(self) -> int:
        return sum(segment.nbytes for segment in self._all())

    @property
    def busy(self) -> bool:
        """A graph is being built."""
        return self._removed is not None

    @property
    def graphs(self) -> list[Graph]:
        return [segment for segment in self._sealed if isinstance(segment, Graph)]

    def add(self, key: int, vector: Vector) -> None:
        if len(self._head) >= SEALED_AT:
            self._sealed.append(self._head)
            self._head = Flat(self._dimensions)
        self._head.add(key, vector)

    def remove(self, key: int) -> None:
        next(segment for segment in self._all() if key in segment).remove(key)
        if self._removed is not None:
            self._removed.append(key)

    def nearest(self, vector: Vector, count: int) -> list[tuple[float, int]]:
        found = [pair for segment in self._all() for pair in segment.nearest(vector, count)]
        return nlargest(max(0, count), found)

    # Beside the calls

    def due(self) -> list[Segment]:
        """Neighbours that are to become one graph."""
        first, end = self._waiting() or self._worn() or (0, 0)
        while first and self._takes(self._sealed[first - 1], self._sealed[first:end]):
            first -= 1
        return self._sealed[first:end]

    def _waiting(self) -> tuple[int, int] | None:
        """Scans, as many as fit into one graph, but at least one."""
        first = end = len(self.graphs)
        size = 0
        while end < len(self._sealed) and (not size or size + len(self._sealed[end]) <= LARGEST):
            size += len(self._sealed[end])
            end += 1
        return (first, end) if end > first else None

    def _worn(self) -> tuple[int, int] | None:
        return next(((at, at + 1) for at, graph in enumerate(self.graphs) if graph.worn), None)

    def _takes(self, before: Segment, chosen: Sequence[Segment]) -> bool:
        coming = sum(map(len, chosen))
        return len(before) <= 3 * coming and coming + len(before) <= LARGEST

    async def merge(self, chosen: Sequence[Segment]) -> None:
        """One graph in the place of these segments, which serve until it is ready."""
        removed: list[int] = []
        self._removed = removed
        try:
            new = await asyncio.to_thread(Graph, self._dimensions, sum(map(len, chosen)))
            for segment in chosen:
                async for keys, vectors in copies(segment):
                    await asyncio.to_thread(new.fill, keys, vectors)
            await asyncio.to_thread(new.seal)
            await self._catch_up(new, removed)
            at = self._sealed.index(chosen[0])
            kept = [segment for segment in self._sealed if segment not in chosen]
            self._sealed = [*kept[:at], *([new] if len(new) else []), *kept[at:]]
        finally:
            self._removed = None
        for segment in chosen:
            if isinstance(segment, Flat):
                await segment.release()

    async def mend(self, graph: Graph) -> None:
        """Of one that finds too little: builds it anew without what was removed, or searches further."""
        if graph.thinned:
            await self.merge([graph])
        else:
            graph.widen()

    async def _catch_up(self, new: Graph, removed: list[int]) -> None:
        """Ends without having waited since the last removal."""
        while removed:
            for key in removed[:REMOVED_AT_ONCE]:
                if key in new:
                    new.remove(key)
            del removed[:REMOVED_AT_ONCE]
            if removed:
                await asyncio.sleep(0)


async def copies(segment: Segment) -> AsyncIterator[tuple[list[int], Matrix]]:
    """Keys and vectors that are there, in batches, between which others run."""
    keys = segment.keys()
    some = COPIED_AT_ONCE if isinstance(segment, Flat) else GIVEN_OUT_AT_ONCE
    for start in range(0, len(keys), some):
        still = [key for key in keys[start : start + some].tolist() if key in segment]
        if still:
            yield still, segment.vectors(still)
        await asyncio.sleep(0)


async def recall(graph: Graph, seed: int) -> float:
    """Share of sampled vectors, moved a little, whose nearest neighbour the graph finds; 1 where too few of
    these are left in the end to say."""
    random = np.random.default_rng(seed)
    if not len(keys := graph.keys()):
        return 1.0
    sample = random.choice(keys, min(SAMPLE, len(keys)), replace=False).tolist()
    queries = graph.vectors(sample)
    queries += random.normal(size=queries.shape).astype(np.float32) * (NOISE / queries.shape[1] ** 0.5)
    found = []
    for query, cosine, key in zip(queries, *await _really_nearest(graph, queries), strict=True):
        if key in graph:  # not removed since
            near = graph.nearest(query, 1)
            found.append(bool(near and near[0][0] >= cosine - 1e-4))
        await asyncio.sleep(0)
    return sum(found) / len(found) if 2 * len(found) > len(queries) else 1.0


async def _really_nearest(graph: Graph, queries: Matrix) -> tuple[list[float], list[int]]:
    """By looking at all vectors: for each query the best cosine, and whose it is."""
    best, nearest = np.full(len(queries), -np.inf, np.float32), np.full(len(queries), -1)
    async for keys, vectors in copies(graph):
        cosines = queries @ vectors.T
        first = cosines.argmax(axis=1)
        highest = cosines[np.arange(len(queries)), first]
        better = highest > best
        best[better], nearest[better] = highest[better], np.asarray(keys)[first[better]]
    return best.tolist(), nearest.tolist()
