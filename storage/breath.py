"""Work of the loop that would hold it up is done in slices, with pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from time import perf_counter
from typing import TypeVar

Item = TypeVar("Item")

SLICE = 256
AT_ONCE_S = 0.002
"""To add one vector to a partition that grows can take as long."""


class Breath:
    """Lets others run when enough time has passed since they last could."""

    def __init__(self) -> None:
        self._since = perf_counter()

    async def take(self) -> bool:
        """Whether it was time."""
        due = perf_counter() - self._since > AT_ONCE_S
        if due:
            await asyncio.sleep(0)
            self._since = perf_counter()
        return due


def slices(items: Iterable[Item], size: int = SLICE) -> Iterator[list[Item]]:
    """Between which others may run."""
    rest = iter(items)
    while taken := list(islice(rest, size)):
        yield taken
