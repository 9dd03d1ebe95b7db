"""What is to run for as long as the proxy does goes on after an error, and ends when the proxy does."""

from __future__ import annotations

import asyncio

import pytest

from proxy import tasks
from proxy.tasks import Tasks


async def test_work_that_failed_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_AFTER_S", 0.01)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise RuntimeError("nobody thought of this")

    held = Tasks()
    await asyncio.wait_for(held.keep(work, "sweep"), 5)
    assert begun == 3
    assert caplog.text.count("task sweep failed and will be restarted") == 2
    assert len(held) == 0


async def test_work_that_is_kept_ends_with_the_proxy() -> None:
    held, begun = Tasks(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    task = held.keep(work, "sweep")
    await asyncio.wait_for(begun.wait(), 5)
    await held.close(grace_s=0.01)
    assert task.cancelled()
