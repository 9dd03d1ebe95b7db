"""Reloads the categories from disk: when their files change, on SIGHUP, and on request."""

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
"""Per file, what shows that it has changed: modification time in nanoseconds, size and inode."""


class Categories:
    def __init__(self, folder: Path | None, taken: Stamps, cache: Cache) -> None:
        """`folder`: None for the packaged categories. `taken`: the stamps of its files, taken before the
        rules in force were read."""
        self.error = ""
        """Why the categories on disk are not in force; "" if they are."""
        self._folder = folder
        self._taken = taken
        self._cache = cache
        self._reading = asyncio.Lock()
        """One reload at a time, as otherwise an older one might finish last and win."""

    @property
    def reloading(self) -> bool:
        """Whether a reload is under way: files are read and examples embedded. The old rules apply until it
        is done."""
        return self._reading.locked()

    async def reload(self) -> None:
        """Puts the categories on disk into force. If this fails, the old ones stay. Raises `ConfigError` or
        `EmbeddingError`."""
        async with self._reading:
            try:
                self._cache.rules = await Rules.read(self._folder, self._cache.embedder)
            except Exception as error:
                self.error = str(error) or type(error).__name__
                raise
            self.error = ""

    async def watch(self) -> None:
        """Runs for ever. Reloads on SIGHUP, and when the files have changed and were the same in two
        successive looks, so that nobody is still writing them."""
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
            log.exception("the categories stay as they were: reloading them failed unexpectedly")
        else:
            log.info("categories reloaded, book %s", self._cache.rules.book.version)


def stamps(folder: Path | None) -> Stamps:
    """The stamps of all files in a folder; none for the packaged categories, which do not change."""
    found: Stamps = {}
    if folder is None:
        return found
    with suppress(OSError):
        for path in folder.rglob("*"):
            found[path] = ()  # counts as present even if it is not accessible or a dangling link
            with suppress(OSError):
                stat = path.stat()
                found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found
