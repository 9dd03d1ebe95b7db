"""The categories on disk become the ones in force: when their files change, on SIGHUP, and when asked to."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from pathlib import Path

from embeddings.base import EmbeddingError
from policies.errors import ConfigError
from proxy.cache import Cache, Rules

log = logging.getLogger("nearhit.app")

WATCH_EVERY_S = 2.0

Stamps = dict[Path, tuple[int, ...]]
"""What tells that a file changed: when it was written, in nanoseconds, its bytes and its inode."""


class Categories:
    def __init__(self, folder: Path | None, taken: Stamps, cache: Cache) -> None:
        """`folder`: None: the packaged ones. `taken`: of its files, before the rules in force were read."""
        self.error = ""
        """Why those on disk are not the ones in force; "" when they are."""
        self._folder = folder
        self._taken = taken
        self._cache = cache
        self._reading = asyncio.Lock()
        """Who reads first, finishes first: else older rules could follow newer ones."""

    @property
    def reloading(self) -> bool:
        """Files are being read, or their examples embedded; until that is done the old rules hold."""
        return self._reading.locked()

    async def reload(self) -> None:
        """Takes them as they are on disk now. Raises `ConfigError` or `EmbeddingError`; whatever it raises,
        the old ones stay."""
        async with self._reading:
            try:
                self._cache.rules = await Rules.read(self._folder, self._cache.embedder)
            except Exception as error:
                self.error = str(error) or type(error).__name__
                raise
            self.error = ""

    async def watch(self) -> None:
        """For ever: reloads when the files are not as they were `taken` and two looks agree on how, and on
        SIGHUP."""
        wanted = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wanted.set)
        before = self._taken
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_EVERY_S):
                    await wanted.wait()
            now = await asyncio.to_thread(stamps, self._folder)
            if wanted.is_set() or self._taken != now == before:
                wanted.clear()
                self._taken = now
                await self._try()
            before = now

    async def _try(self) -> None:
        try:
            await self.reload()
        except (ConfigError, EmbeddingError) as error:
            log.error("the categories stay as they were: %s", "; ".join(str(error).splitlines()))
        except Exception:
            log.exception(
                "the categories stay as they were: reloading them failed in a way that it should not"
            )
        else:
            log.info("categories reloaded, book %s", self._cache.rules.book.version)


def stamps(folder: Path | None) -> Stamps:
    """Packaged files do not change."""
    found: Stamps = {}
    if folder is None:
        return found
    with suppress(OSError):
        for path in folder.rglob("*"):
            found[path] = ()  # what may not be looked at, or links to nothing, is there all the same
            with suppress(OSError):
                stat = path.stat()
                found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found
