"""The border to a driver: whatever it raises, or however long it takes, becomes a `StorageError`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from storage.base import StorageError

OPENING = "documents.url cannot be opened; let this user reach it and write there, or name another store"
"""What is being done, in the errors of a store that is opened."""


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


@asynccontextmanager
async def answer_within(seconds: float, who: str) -> AsyncIterator[None]:
    """Raises StorageError when that takes longer. Other errors pass."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise StorageError(f"{who} did not answer in {seconds:g} s") from error


@asynccontextmanager
async def within(
    seconds: float,
    what: str,
    who: str = "the document store",
    told: Callable[[Exception], str] = first_line,
) -> AsyncIterator[None]:
    """`what` is asked of `who`: raises StorageError, after `seconds` at the latest. `told` makes one line of
    a driver's error."""
    try:
        async with answer_within(seconds, f"{what}: {who}"):
            yield
    except StorageError:
        raise
    except Exception as error:  # whatever the driver raises
        raise StorageError(f"{what}: {told(error)}") from error
