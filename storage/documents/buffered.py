"""What the path of a call uses of a document store: writes that nobody waits for, and loads that are mostly
local.

One task writes. Whatever is deleted is gone at once for every reader, and a batch that is being written
meanwhile cannot bring it back: deletion waits for that batch and comes after it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from itertools import islice
from typing import Any

from storage.base import Document, Documents, StorageError, Stored, Vector
from storage.breaker import Breaker
from storage.breath import slices
from storage.within import answer_within
from storage.writer import Writer

log = logging.getLogger("nearhit.documents")

BATCH = 64
HANDED_OVER = 2
"""Entries that a scan gives at once: the reader may let others run before it takes more."""
ATTEMPTS = 5
"""Failed attempts to write one document after which it is dropped."""
LOADED_AT_ONCE = 128
DELETED_AT_ONCE = 500
"""In one transaction; it overwrites what it deletes, which for 500 answers takes some ten milliseconds."""


class BufferedDocuments:
    """Made inside a running loop, and ended by `close`.

    `on_lost(ids)` is told of documents that could not be written; the index should drop them. `on_saved(ids)`
    and `on_deleted(ids)` are told of what the store has done. `current()`: False while others may have
    deleted something that we do not know of; then bodies are not taken from memory. `deadline` bounds each
    call to the store in seconds, whatever the store itself promises.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        deadline: float = 5.0,
        pending_count: int = 2_000,
        pending_bytes: int = 64 * 2**20,
        hot_bytes: int = 64 * 2**20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._documents = documents
        self.on_lost: Callable[[Sequence[str]], None] = _nobody
        self.on_saved: Callable[[Sequence[str]], None] = _nobody
        self.on_deleted: Callable[[Sequence[str]], None] = _nobody
        self.current: Callable[[], bool] = lambda: True
        self._deadline = deadline
        self._most_pending = pending_count
        self._most_pending_bytes = pending_bytes
        self._pending: dict[str, Document] = {}
        self._pending_bytes = 0
        self._doomed: dict[str, None] = {}
        self._hot = _HotBodies(hot_bytes)
        self._watched: dict[int, set[str]] = {}
        """Sets of what is deleted while somebody reads, by their `id`."""
        self._breaker = Breaker("load: the document store", clock)
        self._batch = BATCH
        self._dropped = self._lost = self._failures = 0
        self._order = asyncio.Lock()
        """Deletions come after the batch that is being written."""
        self._closed = False
        self._writer = Writer(
            "documents",
            self._write_some,
            waits=lambda: bool(self._pending or self._doomed),
            enough=lambda: len(self._pending) >= self._batch,
        )

    def put(self, document: Document) -> bool:
        """False when too much waits to be written already: the document is dropped, do not index its
        entry."""
        if self._closed or not self._has_room(len(document.body)):
            self._dropped += 1
            return False
        id = document.entry.id
        self._unpend(id)
        self._doomed.pop(id, None)
        self._pending[id] = document
        self._pending_bytes += len(document.body)
        self._hot.put(id, document.body)
        self._writer.wake()
        return True

    async def load(self, id: str) -> bytes | None:
        """None when there is none; StorageError when the store fails, is too slow or failed repeatedly just
        now."""
        if id in self._doomed:
            return None
        if (body := self._at_hand(id)) is not None:
            return body
        with self._deleted_meanwhile() as deleted:
            async with self._loading():
                body = await self._documents.load(id)
        if body is None or id in deleted:
            return None
        self._hot.put(id, body)
        return body

    async def load_many(self, ids: Sequence[str]) -> dict[str, bytes | None]:
        """As `load` each, with few calls to the store. Those that cannot be had now are left out."""
        found: dict[str, bytes | None] = {id: body for id in ids if (body := self._at_hand(id)) is not None}
        with self._deleted_meanwhile(self._doomed) as deleted:
            away = [id for id in dict.fromkeys(ids) if id not in found and id not in deleted]
            try:
                for some in slices(away, LOADED_AT_ONCE):
                    async with self._loading():
                        found |= dict.fromkeys(some) | await self._documents.load_many(some)
            except StorageError as error:
                log.warning("loading %d documents failed: %s", len(away), error)
        for id in away:
            if id not in deleted and (body := found.get(id)) is not None:
                self._hot.put(id, body)
        return {id: None if id in deleted else body for id, body in found.items()}

    def forget(self, ids: Iterable[str]) -> None:
        """Deletes without waiting: gone for every reader at once, and from the store before long. As many may
        wait for the store as there were entries in memory, which took more room."""
        gone = set(ids)
        self.hide(gone)
        self._doomed |= dict.fromkeys(gone)
        self._writer.wake()

    def hide(self, ids: Collection[str]) -> None:
        """Gone for every reader: others have deleted it from the store."""
        for id in ids:
            self._unpend(id)
            self._hot.discard(id)
        for deleted in self._watched.values():
            deleted.update(ids)

    async def settle_deletions(self) -> None:
        """When it returns, nothing that was forgotten before can come back, whatever happens to the process
        or the machine, and its bytes are gone. After a StorageError it stays hidden here and the deletion is
        tried again."""
        try:
            for some in slices(list(self._doomed), DELETED_AT_ONCE):
                await self._delete(some)
            async with self._order, self._in_time():
                await self._documents.scrub()
        except StorageError:
            self._failures += 1
            raise

    async def revector(self, fingerprint: str, vectors: Mapping[str, Vector | None]) -> None:
        async with self._order, self._in_time():
            await self._documents.revector(fingerprint, vectors)

    async def scan(self) -> AsyncIterator[list[Stored]]:
        """As the store's, in smaller batches, without what was deleted here since the scan began."""
        with self._deleted_meanwhile(self._doomed) as deleted:
            async for batch in self._documents.scan():
                for some in slices(batch, HANDED_OVER):
                    yield [(entry, vector) for entry, vector in some if entry.id not in deleted]

    async def entries(self, ids: Sequence[str]) -> list[Stored]:
        """As the store's, without what was deleted here meanwhile."""
        return [found async for found in self.each(ids)]

    async def each(self, ids: Sequence[str]) -> AsyncIterator[Stored]:
        """The same one by one, without what was deleted here before its turn came."""
        with self._deleted_meanwhile(self._doomed) as deleted:
            async with self._in_time():
                found = await self._documents.entries(ids)
            for entry, vector in found:
                if entry.id not in deleted:
                    yield entry, vector

    def unwritten(self) -> dict[str, Document]:
        """What is not, or not known to be, in the store yet, by id."""
        return dict(self._pending)

    async def ping(self) -> None:
        await self._documents.ping()

    async def flush(self, timeout: float = 10.0) -> None:
        """Returns when nothing waits any more; StorageError when that takes longer than `timeout` seconds."""
        await self._writer.flush(timeout)

    async def close(self, timeout: float = 5.0) -> None:
        """Writes what waits, for `timeout` seconds at most, then closes the store."""
        self._closed = True
        await self._writer.stop(timeout)
        if self._pending:
            log.warning("%d answers were not written to the document store in time", len(self._pending))
        if self._doomed:
            log.warning("%d deletions were not carried out in the document store in time", len(self._doomed))
        await self._documents.close()

    def stats(self) -> dict[str, Any]:
        return {
            "pending": len(self._pending),
            "pending_bytes": self._pending_bytes,
            "deletes_pending": len(self._doomed),
            "dropped": self._dropped,
            "lost": self._lost,
            "failures": self._failures + self._writer.failures,
            "breaker": self._breaker.state,
            "write_trouble": self._writer.trouble,
            "hot": len(self._hot),
            "hot_bytes": self._hot.bytes,
            "damaged": self._documents.unreadable.damaged,
            "locked": self._documents.unreadable.locked,
        }

    @contextmanager
    def _deleted_meanwhile(self, before: Iterable[str] = ()) -> Iterator[set[str]]:
        """Ids of what is deleted while the block runs, beside those of `before`."""
        deleted = set(before)
        self._watched[id(deleted)] = deleted
        try:
            yield deleted
        finally:
            del self._watched[id(deleted)]

    def _has_room(self, more: int) -> bool:
        few = len(self._pending) < self._most_pending
        return few and self._pending_bytes + more <= self._most_pending_bytes

    def _at_hand(self, id: str) -> bytes | None:
        if (document := self._pending.get(id)) is not None:
            return document.body
        return self._hot.get(id) if self.current() else None

    @asynccontextmanager
    async def _loading(self) -> AsyncIterator[None]:
        """Counts as one call to the store, whatever it asks for."""
        self._breaker.check()
        try:
            async with self._in_time():
                yield
        except StorageError:
            self._failures += 1
            self._breaker.failed()
            raise
        self._breaker.succeeded()

    async def _write_some(self) -> None:
        if doomed := list(islice(self._doomed, DELETED_AT_ONCE)):
            await self._delete(doomed)
        await self._save_some()

    async def _delete(self, ids: Sequence[str]) -> None:
        """Once the batch that is being written is there, and without those that were put again since."""
        async with self._order, self._in_time():
            doomed = [id for id in ids if id in self._doomed]
            await self._documents.delete(doomed)
            for id in doomed:
                self._doomed.pop(id, None)
        if doomed:
            self.on_deleted(doomed)

    async def _save_some(self) -> None:
        async with self._order:
            batch = list(islice(self._pending.values(), self._batch))
            if not batch:
                return
            try:
                async with self._in_time():
                    await self._documents.save(batch)
            except StorageError:
                self._narrow_down(batch[0])
                raise
            saved = [each.entry.id for each in batch if self._pending.get(each.entry.id) is each]
            for id in saved:
                self._unpend(id)
        self._batch = BATCH
        self.on_saved(saved)

    def _narrow_down(self, first: Document) -> None:
        """Halves the batch, so that one document that the store refuses ends up alone; alone it has no more
        tries when enough have failed."""
        if len(self._pending) > 1 and self._batch > 1:
            self._batch //= 2
        elif self._writer.failed_in_a_row + 1 >= ATTEMPTS and self._pending.get(first.entry.id) is first:
            self._lost += 1
            self._unpend(first.entry.id)
            self._hot.discard(first.entry.id)
            self.on_lost([first.entry.id])

    def _in_time(self) -> AbstractAsyncContextManager[None]:
        return answer_within(self._deadline, "the document store")

    def _unpend(self, id: str) -> None:
        document = self._pending.pop(id, None)
        if document is not None:
            self._pending_bytes -= len(document.body)


def _nobody(ids: Sequence[str]) -> None:
    """Is told."""


class _HotBodies:
    """The bodies used last, within a number of bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._bodies)

    def get(self, id: str) -> bytes | None:
        body = self._bodies.get(id)
        if body is not None:
            self._bodies.move_to_end(id)
        return body

    def put(self, id: str, body: bytes) -> None:
        self.discard(id)
        if len(body) > self._capacity:
            return
        self._bodies[id] = body
        self.bytes += len(body)
        while self.bytes > self._capacity:
            _, oldest = self._bodies.popitem(last=False)
            self.bytes -= len(oldest)

    def discard(self, id: str) -> None:
        body = self._bodies.pop(id, None)
        if body is not None:
            self.bytes -= len(body)
