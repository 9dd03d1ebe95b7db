"""Looking at every entry without holding up the calls: a few milliseconds at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from time import perf_counter

from storage.base import Entry, Vector
from storage.entries import Entries
from storage.spread import slices

AT_ONCE_S = 0.003


class Breath:
    """Lets others run when enough time has passed since they last could."""

    def __init__(self) -> None:
        self._since = perf_counter()

    async def take(self) -> None:
        if perf_counter() - self._since > AT_ONCE_S:
            await asyncio.sleep(0)
            self._since = perf_counter()


async def matching(entries: Entries, predicate: Callable[[Entry], bool]) -> AsyncIterator[list[Entry]]:
    """Some at a time, those that were there all the while; what comes or goes meanwhile may be missing."""
    breath = Breath()
    for ids in slices(entries.ids()):
        present = (entry for id in ids if (entry := entries.get(id)) is not None)
        yield [entry for entry in present if predicate(entry)]
        await breath.take()


async def nearest(
    entries: Entries, partitions: Iterable[bytes], vector: Vector, count: int
) -> AsyncIterator[list[tuple[float, Entry]]]:
    """At most `count` (cosine, entry) of one partition after the other, best first in each. Raises
    StorageError."""
    breath = Breath()
    for partition in partitions:
        yield await entries.nearest(partition, vector, count)
        await breath.take()
