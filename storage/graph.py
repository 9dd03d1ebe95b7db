"""A graph (HNSW) over the vectors of a very large partition, by hnswlib, which is optional.

hnswlib's rules: `add_items` must not run beside `knn_query`, `resize_index` beside neither. So a graph has
one owner at a time: the thread that builds it, afterwards the event loop.

Removed vectors are only marked. hnswlib can overwrite one in place, but repairs the neighbourhood of the
old and the new one for it, which took 2.3 ms at the median where an insert into free room takes 0.3 ms; so
room that is used up is won back by building the graph anew in the background (`storage.partitions`), which
also keeps its recall.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from storage.base import Matrix, Vector

LINKS = 16
BUILD_WIDTH = 100
"""hnswlib's ef_construction."""
SEARCH_WIDTH = 128
"""hnswlib's ef."""

WITHOUT_GRAPH = (
    "hnswlib is not installed: every partition is scanned, which is slower above 65,000 entries in one"
)


def graph_available() -> bool:
    return find_spec("hnswlib") is not None


class Graph:
    """An `Index` with room for `room` vectors, those included that were removed again."""

    def __init__(self, dimensions: int, room: int) -> None:
        import hnswlib

        self._room = room
        self._used = 0
        self._keys: set[int] = set()
        self._graph: Any = hnswlib.Index(space="ip", dim=dimensions)
        self._graph.init_index(max_elements=room, M=LINKS, ef_construction=BUILD_WIDTH)
        self._graph.set_ef(SEARCH_WIDTH)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: int) -> bool:
        return key in self._keys

    @property
    def worn(self) -> bool:
        """Whether it is time to build it anew."""
        return self._used > 0.75 * self._room

    def add(self, key: int, vector: Vector) -> None:
        self.add_many([key], vector[None])

    def add_many(self, keys: Sequence[int], vectors: Matrix) -> None:
        if not keys:
            return
        if self._used + len(keys) > self._room:
            self._room += max(len(keys), self._room // 2)
            self._graph.resize_index(self._room)
        self._graph.add_items(vectors, np.asarray(keys), num_threads=1)
        self._used += len(keys)
        self._keys.update(keys)

    def remove(self, key: int) -> None:
        self._keys.remove(key)
        self._graph.mark_deleted(key)

    def keys(self) -> list[int]:
        return list(self._keys)

    def vectors(self, keys: Sequence[int]) -> Matrix:
        """Copies, in the order of the keys."""
        found: Matrix = np.asarray(self._graph.get_items(keys, return_type="numpy"), np.float32)
        return found

    def nearest(self, vector: Vector, count: int) -> list[tuple[float, int]]:
        wanted = min(count, len(self._keys))
        while wanted > 0:
            try:
                keys, distances = self._graph.knn_query(vector, k=wanted, num_threads=1)
            except RuntimeError:  # fewer than wanted are within reach
                wanted //= 2
                continue
            return list(zip((1.0 - distances[0]).tolist(), keys[0].tolist(), strict=True))
        return []

    def replay(self, changes: Iterable[tuple[int, Vector | None]]) -> None:
        """Additions, and removals (no vector), in the order in which they happened elsewhere."""
        for key, vector in changes:
            if vector is not None:
                self.add(key, vector)
            elif key in self._keys:
                self.remove(key)
