"""Vectors in this process's memory, which is where they lie unless the settings say otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from storage.base import Entry, Vector
from storage.vectors.partitions import Partitions


class MemoryVectors:
    """`Vectors` that never fail. Keys are used again."""

    complete = True

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.index = Partitions(dimensions)
        self._entries: list[Entry | None] = []
        """By key."""
        self._free: list[int] = []

    def add(self, entry: Entry, vector: Vector, known: bool = False) -> int:
        if self._free:
            key = self._free.pop()
            self._entries[key] = entry
        else:
            key = len(self._entries)
            self._entries.append(entry)
        self.index.add(entry.partition, key, vector)
        return key

    def remove(self, entry: Entry, key: int) -> None:
        self._entries[key] = None
        self._free.append(key)
        self.index.remove(entry.partition, key)

    async def nearest(self, partition: bytes, vector: Vector, count: int) -> list[tuple[float, Entry]]:
        """Returns without having waited."""
        return self.find(partition, vector, count)

    def find(self, partition: bytes, vector: Vector, count: int) -> list[tuple[float, Entry]]:
        found = self.index.nearest(partition, vector, count)
        return [(cosine, entry) for cosine, key in found if (entry := self._entries[key])]

    def partitions(self) -> list[bytes]:
        return self.index.ids()

    def loaded(self) -> None:
        """Nothing has to be brought anywhere."""

    def condemn(self, gone: Iterable[Entry]) -> None:
        """Nothing lies anywhere else."""

    async def settle(self) -> None:
        """What was removed is gone."""

    async def tend(self) -> None:
        await self.index.tend()

    def stats(self) -> dict[str, Any]:
        return {
            "kind": "memory",
            "partitions": len(self.index),
            "bytes": self.index.nbytes,
            "recall": self.index.recall,
        }
