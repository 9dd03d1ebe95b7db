"""From partition to index.

Isolation is by construction: a search looks into one partition's index, there is nothing to filter.
"""

from __future__ import annotations

from storage.base import Index, Vector
from storage.flat import Flat


class Partitions:
    """Owned by one thread. A partition exists while it has vectors."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._indexes: dict[bytes, Index] = {}

    def __len__(self) -> int:
        return len(self._indexes)

    def add(self, partition: bytes, key: int, vector: Vector) -> None:
        index = self._indexes.get(partition)
        if index is None:
            index = self._indexes[partition] = Flat(self._dimensions)
        index.add(key, vector)

    def remove(self, partition: bytes, key: int) -> None:
        index = self._indexes[partition]
        index.remove(key)
        if not len(index):
            del self._indexes[partition]

    def ids(self) -> list[bytes]:
        return list(self._indexes)

    def nearest(self, partition: bytes, vector: Vector, count: int) -> list[tuple[float, int]]:
        index = self._indexes.get(partition)
        return index.nearest(vector, count) if index is not None else []

    def clear(self) -> None:
        self._indexes.clear()
