"""A graph (HNSW) over vectors of a very large partition, by hnswlib, which is optional.

It is filled once, in a thread and beside the loop, then searched and thinned out by the loop, and at last
followed by a new one (`segments.py`). So hnswlib's rules are kept (`add_items` must not run beside
`knn_query`, `resize_index` beside neither), and an insert, which takes it 0.25 ms, never waits in a call.

Removed vectors are only marked. hnswlib can overwrite one in place, but repairs the neighbourhood of the
old and the new one for it, which took 2.3 ms at the median.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.base import Matrix, Vector

LINKS = 16
BUILD_WIDTH = 100
"""hnswlib's ef_construction."""
SEARCH_WIDTH = 40
"""hnswlib's ef. Of 200,000 vectors it finds the nearest in 98 % of searches, in 99 % where that is alike."""
WIDEST = 512
BESIDE = 284
"""Bytes per vector for links and bookkeeping, measured with 65,536 of them."""
WORN = 0.25
"""Share of its vectors that were removed, above which a new graph is due."""

WITHOUT_GRAPH = (
    "hnswlib is not installed: every partition is scanned, which is slower above 65,000 entries in one"
)


def graph_available() -> bool:
    return find_spec("hnswlib") is not None


class Graph:
    """`fill`, then `seal`, then use."""

    def __init__(self, dimensions: int, room: int) -> None:
        import hnswlib

        self._graph: Any = hnswlib.Index(space="ip", dim=dimensions)
        self._graph.init_index(max_elements=max(1, room), M=LINKS, ef_construction=BUILD_WIDTH)
        self._width = SEARCH_WIDTH
        self._graph.set_ef(self._width)
        self._bytes_each = 4 * dimensions + BESIDE
        self._keys: NDArray[np.int64] = np.empty(0, np.int64)
        """Ascending, those included that were removed."""
        self._present: NDArray[np.bool_] = np.empty(0, np.bool_)
        """Whether each of them still is."""
        self._removed = 0
        self._first, self._last = 0, -1
        self._filled: list[NDArray[np.int64]] = []

    def fill(self, keys: Sequence[int], vectors: Matrix) -> None:
        if len(keys):
            self._filled.append(np.asarray(keys, np.int64))
            self._graph.add_items(vectors, self._filled[-1], num_threads=1)

    def seal(self) -> None:
        if self._filled:
            self._keys = np.sort(np.concatenate(self._filled))
            self._filled.clear()
            self._present = np.ones(len(self._keys), np.bool_)
            self._first, self._last = int(self._keys[0]), int(self._keys[-1])

    def __len__(self) -> int:
        return len(self._keys) - self._removed

    def __contains__(self, key: int) -> bool:
        if not self._first <= key <= self._last:  # of most graphs, as keys are given out in order
            return False
        at = int(self._keys.searchsorted(key))
        return bool(self._keys[at] == key and self._present[at])

    @property
    def worn(self) -> bool:
        return self._removed > WORN * len(self._keys)

    @property
    def thinned(self) -> bool:
        return self._removed > 0

    @property
    def nbytes(self) -> int:
        return len(self._keys) * self._bytes_each

    def remove(self, key: int) -> None:
        self._present[self._keys.searchsorted(key)] = False
        self._removed += 1
        self._graph.mark_deleted(key)

    def keys(self) -> NDArray[np.int64]:
        return self._keys[self._present]

    def vectors(self, keys: Sequence[int]) -> Matrix:
        """Copies, in the order of the keys. Slow: 64 take a millisecond, or five to nine while a thread
        builds."""
        found: Matrix = np.asarray(self._graph.get_items(keys, return_type="numpy"), np.float32)
        return found

    def nearest(self, vector: Vector, count: int) -> list[tuple[float, int]]:
        wanted = min(count, len(self))
        while wanted > 0:
            try:
                keys, distances = self._graph.knn_query(vector, k=wanted, num_threads=1)
            except RuntimeError:  # fewer than wanted are within reach
                wanted //= 2
                continue
            return list(zip((1.0 - distances[0]).tolist(), keys[0].tolist(), strict=True))
        return []

    def widen(self) -> None:
        """Searches further from now on, which takes longer."""
        self._width = min(WIDEST, 2 * self._width)
        self._graph.set_ef(self._width)
