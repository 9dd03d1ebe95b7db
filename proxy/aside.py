"""Moves work that would block the event loop for milliseconds to a thread."""

from __future__ import annotations

import json
from asyncio import to_thread
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

LARGE = 64 * 2**10
"""Bytes of input above which the work is done on a thread."""

Given = ParamSpec("Given")
Result = TypeVar("Result")


async def aside(size: int, work: Callable[Given, Result], *given: Given.args, **more: Given.kwargs) -> Result:
    """Calls `work`, on a thread if its input is large. `size`: bytes of the input."""
    return await to_thread(work, *given, **more) if size > LARGE else work(*given, **more)


async def loaded(body: bytes, **reading: Any) -> Any:
    """Parses JSON. `reading`: options of `json.loads`. Raises ValueError and RecursionError."""
    if len(body) <= LARGE:
        return json.loads(body, **reading)
    # The hook is there to run Python code: the C parser alone would hold the GIL until it is done.
    return await to_thread(json.loads, body, object_pairs_hook=lambda members: dict(members), **reading)
