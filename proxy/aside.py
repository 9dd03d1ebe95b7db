"""Work that would hold up the loop for milliseconds: on a thread, or with pauses."""

from __future__ import annotations

import asyncio
import json
from asyncio import to_thread
from collections.abc import Callable
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

LARGE = 64 * 2**10
"""Bytes above which their work is done on a thread."""
AT_ONCE_S = 0.003

Given = ParamSpec("Given")
Result = TypeVar("Result")


async def aside(size: int, work: Callable[Given, Result], *given: Given.args, **more: Given.kwargs) -> Result:
    """The result of work on so many bytes."""
    return await to_thread(work, *given, **more) if size > LARGE else work(*given, **more)


async def loaded(body: bytes) -> Any:
    """JSON. Raises ValueError and RecursionError."""
    if len(body) <= LARGE:
        return json.loads(body)
    # Without Python code in between, a thread would keep the interpreter until all is read.
    return await to_thread(json.loads, body, object_pairs_hook=lambda members: dict(members))


class Breath:
    """Lets others run when enough time has passed since they last could."""

    def __init__(self) -> None:
        self._since = perf_counter()

    async def take(self) -> None:
        if perf_counter() - self._since > AT_ONCE_S:
            await asyncio.sleep(0)
            self._since = perf_counter()
