"""Writes that nobody waits for: what comes together goes together, and what fails is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from storage.backoff import BackOff
from storage.base import StorageError

log = logging.getLogger("nearhit.storage")

GATHER = 0.05
"""Seconds that a write waits for others to go with it: a transaction costs as much for one row as for
fifty."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between failed attempts."""


class Writer:
    """Made inside a running loop, and ended by `stop`.

    `write()` writes some of what waits, or raises StorageError. `waits()`: whether anything does; `enough()`:
    whether others need not be waited for.
    """

    def __init__(
        self,
        what: str,
        write: Callable[[], Awaitable[None]],
        waits: Callable[[], bool],
        enough: Callable[[], bool],
    ) -> None:
        self._what = what
        self._write = write
        self._waits = waits
        self._enough = enough
        self._back_off = BackOff(FIRST_PAUSE, LONGEST_PAUSE)
        self.failures = 0
        self.trouble = ""
        """Why the last attempt failed; "" when it did not."""
        self._work, self._hurry, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._task = asyncio.get_running_loop().create_task(self._write_for_ever(), name=f"{what}-writer")

    @property
    def failed_in_a_row(self) -> int:
        return self._back_off.failures

    def wake(self) -> None:
        """Something waits."""
        self._idle.clear()
        self._work.set()

    async def flush(self, timeout: float) -> None:
        """Returns when nothing waits any more; StorageError when that takes longer than `timeout` seconds."""
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError as error:
            raise StorageError(f"flush: not all {self._what} are written yet") from error

    async def stop(self, timeout: float) -> None:
        """Writes what waits, for `timeout` seconds at most."""
        with suppress(StorageError):
            await self.flush(timeout)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _write_for_ever(self) -> None:
        while True:
            await self._work.wait()
            await self._gather()
            try:
                await self._write()
                self._back_off.succeeded()
                self.trouble = ""
            except StorageError as error:
                await self._pause_after(error)
            except Exception:
                log.exception("writing %s failed in a way that it should not", self._what)
                await self._pause_after(StorageError("unexpected"))
            self._rest_when_done()

    async def _gather(self) -> None:
        if not self._enough():
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER):
                    await self._hurry.wait()

    async def _pause_after(self, error: StorageError) -> None:
        self.failures += 1
        self.trouble = str(error)
        if not self._back_off.failures:
            log.warning("writing %s failed, trying again: %s", self._what, error)
        await asyncio.sleep(self._back_off.failed())

    def _rest_when_done(self) -> None:
        if not self._waits():
            self._work.clear()
            self._hurry.clear()
            self._idle.set()
