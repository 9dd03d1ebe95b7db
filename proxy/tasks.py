"""Background tasks: each is named, referenced until it is done, and drained at shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("nearhit.tasks")

AGAIN_AFTER_S = 10.0

Work = Callable[[], Coroutine[Any, Any, None]]
"""Starts work that goes on for as long as the proxy runs."""


class Tasks:
    """Holds all tasks that nobody awaits, and ends them in `close`."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    def keep(self, work: Work, name: str) -> asyncio.Task[None]:
        """Runs work that the proxy needs for as long as it runs, and restarts it after an unexpected
        error."""
        return self.spawn(_kept(work, name), name)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed: %s", task.get_name(), type(error).__name__, exc_info=error)

    async def close(self, grace_s: float = 5.0) -> None:
        """Waits `grace_s` for the tasks to end, then cancels the rest."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=grace_s)

    def __len__(self) -> int:
        return len(self._running)


async def _kept(work: Work, name: str) -> None:
    while True:
        try:
            return await work()
        except Exception:
            log.exception("task %s failed and will be restarted in %g s", name, AGAIN_AFTER_S)
        await asyncio.sleep(AGAIN_AFTER_S)
