"""The index from the documents, while calls are already served."""

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
"""Between failed attempts."""


class WarmUp:
    def __init__(
        self, cache: Cache, tasks: Tasks, clock: Callable[[], float], replication: Replication | None
    ) -> None:
        self.loaded = 0
        """Entries."""
        self.to_embed = 0
        """Entries of another embedding model that have no vector yet."""
        self.done = False
        self.failed = ""
        """Why the documents could not be read; "" when they could."""
        self._cache = cache
        self._tasks = tasks
        self._clock = clock
        self._replication = replication

    async def run(self) -> None:
        if self._replication is not None:
            await self._replication.joined()
        await self._embed(await self._load())

    def reread(self) -> bool:
        """Takes in what others have put into the document store; False when that is under way already."""
        if not self.done or self.to_embed:
            return False
        if self._replication is not None:
            self._replication.tell_to_reload()
        self.done = False
        self._tasks.spawn(self.run(), "reread")
        return True

    async def reload(self) -> None:
        """Returns when the index is what the documents are; what is to be embedded anew follows."""
        self.done = False
        self._tasks.spawn(self._embed(await self._load()), "reembed")

    async def _load(self) -> list[str]:
        """Until it works, though another may end meanwhile. Ids of what is of another embedding model."""
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
                log.error(
                    "the index could not be loaded from the documents, next try in %g s: %s", pause, error
                )
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
