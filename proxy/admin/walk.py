"""Walks over all entries without holding up calls: a few milliseconds at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from storage.base import Entry, Vector
from storage.breath import Breath, slices
from storage.index.entries import Entries


async def matching(entries: Entries, predicate: Callable[[Entry], bool]) -> AsyncIterator[list[Entry]]:
    """The matching entries, in batches. Entries that are added or removed in the meantime may be missing."""
    breath = Breath()
    for ids in slices(entries.ids()):
        present = (entry for id in ids if (entry := entries.get(id)) is not None)
        yield [entry for entry in present if predicate(entry)]
        await breath.take()


async def nearest(
    entries: Entries, partitions: Iterable[bytes], vector: Vector, count: int
) -> AsyncIterator[list[tuple[float, Entry]]]:
    """For one partition after another, at most `count` pairs (cosine, entry), best first. Raises
    StorageError."""
    breath = Breath()
    for partition in partitions:
        yield await entries.nearest(partition, vector, count)
        await breath.take()
