"""From partition to index.

Isolation is by construction: a search looks into one partition's index, there is nothing to filter. A
partition is one scan until it is very large (`segments.py`).
"""

from __future__ import annotations

import asyncio
import logging

from storage.base import Vector
from storage.vectors import segments
from storage.vectors.flat import Flat
from storage.vectors.graph import graph_available
from storage.vectors.segments import Segments

log = logging.getLogger("nearhit.index")

TEND_EVERY_S = 1.0
JUDGE_EVERY_S = 600.0
"""Between two looks at how much the next graph finds. Each takes seconds of the loop, in small bites."""


class Partitions:
    """Owned by one thread. A partition exists while it has vectors."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._indexes: dict[bytes, Flat | Segments] = {}
        self._large: dict[bytes, Segments] = {}
        self._judged = 0
        self.recall: float | None = None
        """Of the graph that was judged last."""

    def __len__(self) -> int:
        return len(self._indexes)

    @property
    def nbytes(self) -> int:
        """Of vectors, signs, links and keys."""
        return sum(index.nbytes for index in self._indexes.values())

    def add(self, partition: bytes, key: int, vector: Vector) -> None:
        index = self._indexes.get(partition)
        if index is None:
            index = self._indexes[partition] = Flat(self._dimensions)
        elif isinstance(index, Flat) and len(index) >= segments.SEALED_AT:
            index = self._indexes[partition] = self._large[partition] = Segments(self._dimensions, index)
        index.add(key, vector)

    def remove(self, partition: bytes, key: int) -> None:
        index = self._indexes[partition]
        index.remove(key)
        if not len(index):
            del self._indexes[partition]
            self._large.pop(partition, None)

    def large(self) -> list[Segments]:
        return list(self._large.values())

    def ids(self) -> list[bytes]:
        return list(self._indexes)

    def nearest(self, partition: bytes, vector: Vector, count: int) -> list[tuple[float, int]]:
        index = self._indexes.get(partition)
        return index.nearest(vector, count) if index is not None else []

    async def tend(self) -> None:
        """Builds graphs where they are due, for ever: a background task of whoever owns the loop. Without
        it, or without hnswlib, every partition is scanned."""
        if not await asyncio.to_thread(graph_available):
            return
        loop, judged_at = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            for index in self.large():
                while chosen := index.due():
                    await index.merge(chosen)
            if loop.time() > judged_at + JUDGE_EVERY_S:
                await self._judge()
                judged_at = loop.time()

    async def _judge(self) -> None:
        """Looks at one graph after the other, time after time."""
        graphs = [(index, graph) for index in self._large.values() for graph in index.graphs]
        if not graphs:
            return
        self._judged += 1
        index, graph = graphs[self._judged % len(graphs)]
        self.recall = await segments.recall(graph, self._judged)
        if self.recall < segments.LEAST_RECALL:
            log.warning("a graph of %d vectors finds %.0f %% of neighbours", len(graph), 100 * self.recall)
            await index.mend(graph)
