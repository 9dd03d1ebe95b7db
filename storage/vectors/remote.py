"""Vectors in a database, as the path of a call uses them: one search with a deadline, and writes that nobody
waits for.

What is not written yet is searched here, so an answer is found as soon as it is stored. What the database
returns counts only if memory knows the entry, so nothing that was removed is found again, whatever is there.

The documents are the truth. At the start, then every hour, and when vectors had to be left out, they are
compared with the database: it gets what it lacks, and loses what has no document any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from operator import itemgetter
from typing import Any

from storage.backoff import BackOff
from storage.base import Entry, StorageError, Stored, Vector
from storage.breaker import Breaker
from storage.breath import slices
from storage.spread import Spread
from storage.vectors.memory import MemoryVectors
from storage.vectors.pgvector import PgVectors, Refused, Slow
from storage.writer import Writer

log = logging.getLogger("nearhit.index")

LookUp = Callable[[Sequence[str]], Awaitable[list[Stored]]]
"""Of some hundred ids, the documents that there are (`Documents.entries`)."""

MOST_PENDING = 4096
"""Vectors that wait to be written, 6 MB with 384 dimensions. More are left out, and sent later."""
BATCH = 64
DELETED_AT_ONCE = 500
COMPARED_AT_ONCE = 256
COMPARE_EVERY_S = 3600.0
COMPARE_AGAIN_S, LONGEST_COMPARE_PAUSE_S = 0.1, 60.0
"""Between failed attempts."""
LOOK_S = 0.05
"""Between two looks whether vectors have been written."""
BUILD_AGAIN_S = 3600.0
"""After a graph that could not be built, which takes the database its time."""
SCANNED = 1_000
"""Vectors of a partition up to which reading all is as fast as a walk through the graph."""
SPARE = 4
"""Times as many as wanted that a walk should meet, as a partition's vectors do not lie evenly."""


@dataclass(slots=True, eq=False)
class _Pending:
    entry: Entry
    vector: Vector
    key: int
    """In what is searched here."""


class RemoteVectors:
    """`Vectors`. Made inside a running loop, and ended by `close`.

    `stored` looks into the document store; `deadline` bounds a search, in seconds.
    """

    complete = False

    def __init__(self, table: PgVectors, dimensions: int, stored: LookUp, deadline: float) -> None:
        self.dimensions = dimensions
        self._table = table
        self._stored = stored
        self._deadline = deadline
        self._entries = Spread[bytes, Entry]()
        """By exact digest, as the rows of the table are."""
        self._sizes = Counter[bytes]()
        """Of the partitions."""
        self._here = MemoryVectors(dimensions)
        self._pending: dict[bytes, _Pending] = {}
        self._doomed: dict[bytes, str] = {}
        """With the id that is to go."""
        self._condemned = set[bytes]()
        """Whose rows go whatever their id is, before anything else is written there."""
        self._left_out = False
        """More came than may wait."""
        self._breaker = Breaker("search: the database with the vectors", time.monotonic)
        self._batch = BATCH
        self._trouble = "not compared with the documents yet"
        """Why the database may lack vectors; "" when it does not."""
        self._graph_trouble = ""
        """Why there is no graph, after an attempt to build it."""
        self._build_after = 0.0
        self._counts = dict.fromkeys(("written", "dropped", "search_failures", "write_failures"), 0)
        self._order = asyncio.Lock()
        """Deletions come after the batch that is being written."""
        self._comparison_due = asyncio.Event()
        self._writer = Writer(
            "vectors",
            self._send_some,
            waits=lambda: bool(self._pending or self._doomed or self._condemned),
            enough=lambda: len(self._pending) >= self._batch,
        )

    # What memory asks

    def add(self, entry: Entry, vector: Vector, known: bool = False) -> int:
        self._entries[entry.exact] = entry
        self._sizes[entry.partition] += 1
        self._doomed.pop(entry.exact, None)
        if not known or entry.exact in self._condemned:
            self._pend(entry, vector)
        return 0

    def remove(self, entry: Entry, key: int) -> None:
        del self._entries[entry.exact]
        self._sizes[entry.partition] -= 1
        if not self._sizes[entry.partition]:
            del self._sizes[entry.partition]
        self._unpend(entry.exact)
        self._doomed[entry.exact] = entry.id
        self._writer.wake()

    async def nearest(self, partition: bytes, vector: Vector, count: int) -> list[tuple[float, Entry]]:
        if not self._sizes[partition]:
            return []
        # Before and after: what is written meanwhile may be missing from what the database finds.
        near = self._here.find(partition, vector, count)
        there = await self._search(partition, vector, count)
        near += self._here.find(partition, vector, count)
        near += [(cosine, entry) for cosine, exact in there if (entry := self._entries.get(exact))]
        found = {entry.exact: (cosine, entry) for cosine, entry in near if self._knows(entry, partition)}
        return nlargest(count, found.values(), key=itemgetter(0))

    def _knows(self, entry: Entry, partition: bytes) -> bool:
        return entry.partition == partition and self._entries.get(entry.exact) is entry

    def partitions(self) -> list[bytes]:
        return list(self._sizes)

    def loaded(self) -> None:
        self._comparison_due.set()

    def condemn(self, gone: Iterable[Entry]) -> None:
        """Also the row of another entry with the same digest, which an answer before may have left."""
        self._condemned |= {entry.exact for entry in gone if entry.exact not in self._entries}
        self._writer.wake()

    async def settle(self) -> None:
        self._condemned |= self._doomed.keys()
        async with self._order:
            while self._condemned:
                await self._erase_some()

    def stats(self) -> dict[str, Any]:
        return {
            "kind": "postgresql",
            "partitions": len(self._sizes),
            "bytes": self._here.index.nbytes,
            "pending": len(self._pending) + len(self._doomed.keys() | self._condemned),
            "breaker": self._breaker.state,
            "graph": self._table.graph,
            "current": not self._trouble,
            "trouble": self._trouble,
            "graph_trouble": self._graph_trouble,
            **self._counts,
            "write_failures": self._counts["write_failures"] + self._writer.failures,
        }

    async def _search(self, partition: bytes, vector: Vector, count: int) -> list[tuple[float, bytes]]:
        self._breaker.check()
        walk = self._walks(self._sizes[partition], count)
        try:
            found = await self._table.nearest(partition, vector, count, walk, self._deadline)
        except Slow:  # a partition may be too large, which says nothing about the others
            self._counts["search_failures"] += 1
            raise
        except StorageError as error:
            self._counts["search_failures"] += 1
            if self._breaker.failed():
                log.warning("nothing is found by meaning until the database answers: %s", error)
            raise
        self._breaker.succeeded()
        return found

    def _walks(self, size: int, count: int) -> bool:
        """Whether a walk through the graph meets enough of a partition of this size."""
        met = self._table.reach * size / len(self._entries)
        return self._table.graph and size > SCANNED and met >= SPARE * count

    # Writing

    def _pend(self, entry: Entry, vector: Vector) -> None:
        if len(self._pending) >= MOST_PENDING:
            self._counts["dropped"] += 1
            self._left_out, self._trouble = True, "too many waited to be written"
            return
        self._pending[entry.exact] = _Pending(entry, vector, self._here.add(entry, vector))
        self._writer.wake()

    def _unpend(self, exact: bytes) -> None:
        pending = self._pending.pop(exact, None)
        if pending is not None:
            self._here.remove(pending.entry, pending.key)

    async def _send_some(self) -> None:
        await self._delete_some()
        await self._write_some()
        if self._left_out and len(self._pending) < BATCH:
            self._left_out = False
            self._comparison_due.set()

    async def _delete_some(self) -> None:
        async with self._order:
            await self._erase_some()
            doomed = list(islice(self._doomed.items(), DELETED_AT_ONCE))
            if doomed:
                await self._table.delete(doomed)
                self._undoom([exact for exact, _ in doomed])

    async def _erase_some(self) -> None:
        """Taken out before, so that what is condemned meanwhile is erased once more."""
        some = set(islice(self._condemned, DELETED_AT_ONCE))
        if not some:
            return
        self._condemned -= some
        try:
            await self._table.erase(list(some))
        except BaseException:
            self._condemned |= some
            raise
        self._undoom(some)

    def _undoom(self, exact: Iterable[bytes]) -> None:
        """Whoever was added and removed meanwhile has not been written."""
        for each in exact:
            self._doomed.pop(each, None)

    async def _write_some(self) -> None:
        async with self._order:
            batch = list(islice(self._pending.values(), self._batch))
            if not batch:
                return
            try:
                await self._table.put([(each.entry, each.vector) for each in batch])
            except Refused as error:
                self._narrow_down(batch, error)
                return
            self._condemned -= {each.entry.exact for each in batch if self._is_pending(each)}
            self._unpend_all(batch)
            self._counts["written"] += len(batch)
            self._batch = BATCH

    def _narrow_down(self, batch: Sequence[_Pending], error: Refused) -> None:
        """One by one, so that the one that the database does not like is alone; alone it is left out."""
        self._counts["write_failures"] += 1
        self._batch = 1
        if len(batch) == 1:
            self._unpend_all(batch)
            self._counts["dropped"] += 1
            log.warning("a vector was left out: %s", error)

    def _unpend_all(self, batch: Sequence[_Pending]) -> None:
        for each in batch:
            if self._is_pending(each):
                self._unpend(each.entry.exact)

    def _is_pending(self, each: _Pending) -> bool:
        return self._pending.get(each.entry.exact) is each

    async def flush(self, timeout: float = 10.0) -> None:
        """Returns when nothing waits any more; StorageError when that takes longer than `timeout` seconds."""
        await self._writer.flush(timeout)

    async def close(self, timeout: float = 5.0) -> None:
        """Writes what waits, for `timeout` seconds at most; the rest is sent after the next start."""
        await self._writer.stop(timeout)
        await self._table.close()

    # Comparing with the documents

    async def tend(self) -> None:
        back_off = BackOff(COMPARE_AGAIN_S, LONGEST_COMPARE_PAUSE_S)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(COMPARE_EVERY_S):
                    await self._comparison_due.wait()
            self._comparison_due.clear()
            try:
                await self._compare()
            except StorageError as error:
                if not back_off.failures:
                    log.warning("the database with the vectors may lack some, trying again: %s", error)
                self._counts["write_failures"] += 1
                self._trouble = str(error)
                await asyncio.sleep(back_off.failed())
                self._comparison_due.set()
            else:
                back_off.succeeded()
                await self._build_graph()

    async def _build_graph(self) -> None:
        """Whether it can be built says nothing about whether the vectors are there."""
        if time.monotonic() < self._build_after:
            return
        try:
            await self._table.build_graph()
            self._graph_trouble = ""
        except StorageError as error:
            log.warning("large partitions are read whole, as their graph was not built: %s", error)
            self._graph_trouble = str(error)
            self._build_after = time.monotonic() + BUILD_AGAIN_S

    async def _compare(self) -> None:
        dropped = self._counts["dropped"]
        for some in slices(self._entries, COMPARED_AT_ONCE):
            await self._send_lacking(some)
        await self._delete_strangers()
        sent = list(self._pending.values())
        while any(map(self._is_pending, sent)):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        if self._counts["dropped"] == dropped:
            self._trouble = ""

    async def _send_lacking(self, exact: Sequence[bytes]) -> None:
        here = (each for each in exact if each not in self._pending)
        known = [(each, entry.id) for each in here if (entry := self._entries.get(each)) is not None]
        lacking = await self._table.lacking(known) if known else ()
        for stored, vector in await self._stored(lacking) if lacking else ():
            while len(self._pending) > MOST_PENDING // 2:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
            entry = self._entries.get(stored.exact)
            ours = entry is not None and (entry.id, entry.fingerprint) == (stored.id, stored.fingerprint)
            if entry is not None and ours and vector is not None and stored.exact not in self._pending:
                self._pend(entry, vector)

    async def _delete_strangers(self) -> None:
        after = b""
        while rows := await self._table.rows(after, COMPARED_AT_ONCE):
            after = rows[-1][0]
            strangers = [row for row in rows if row[0] not in self._entries]
            if strangers:
                kept = {entry.id for entry, _ in await self._stored([id for _, id in strangers])}
                await self._table.delete([row for row in strangers if row[1] not in kept])
