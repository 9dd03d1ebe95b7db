"""Loads the index from the document store, while calls are already being served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.cache import Cache
from proxy.reembedding import reembed
from proxy.tasks import Tasks
from storage.backoff import BackOff
from storage.base import StorageError
from storage.index.rebuild import rebuild

if TYPE_CHECKING:
    from storage.replication.changes import Replication

log = logging.getLogger("nearhit.app")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Seconds between failed attempts."""


class WarmUp:
    def __init__(
        self, cache: Cache, tasks: Tasks, clock: Callable[[], float], replication: Replication | None
    ) -> None:
        self.loaded = 0
        """Entries loaded so far."""
        self.to_embed = 0
        """Entries of another embedding model that still have to be re-embedded."""
        self.done = False
        self.failed = ""
        """Why the last attempt to read the documents failed, or ""."""
        self._cache = cache
        self._tasks = tasks
        self._clock = clock
        self._replication = replication

    async def run(self) -> None:
        if self._replication is not None:
            await self._replication.joined()
        await self._embed(await self._load())

    def reread(self) -> bool:
        """Starts to load what others have added to the document store. False if that is under way already."""
        if not self.done or self.to_embed:
            return False
        if self._replication is not None:
            self._replication.tell_to_reload()
        self.done = False
        self._tasks.spawn(self.run(), "reread")
        return True

    async def reload(self) -> None:
        """Returns once the index matches the documents. Re-embedding follows in the background."""
        self.done = False
        self._tasks.spawn(self._embed(await self._load()), "reembed")

    async def _load(self) -> list[str]:
        """Retries until it succeeds. Returns the ids of entries that have another embedding model."""
        cache, foreign = self._cache, list[str]()
        back_off = BackOff(FIRST_PAUSE_S, LONGEST_PAUSE_S)

        def note(loaded: int) -> None:
            self.loaded = loaded

        def note_foreign(id: str) -> None:
            foreign.append(id)
            self.to_embed = len(foreign)

        while True:
            try:
                await rebuild(
                    cache.documents, cache.entries, cache.embedder.fingerprint, cache.kept, self._clock(),
                    note, note_foreign,
                )  # fmt: skip
            except StorageError as error:
                self.failed, pause = str(error), back_off.failed()
                log.error("could not load the index from the documents, next try in %g s: %s", pause, error)
                await asyncio.sleep(pause)
            else:
                self.failed = ""
                self.done = True
                cache.entries.vectors.loaded()
                return foreign

    async def _embed(self, foreign: list[str]) -> None:
        def left(count: int) -> None:
            self.to_embed = count

        await reembed(self._cache, foreign, left)
