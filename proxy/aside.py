"""Work that would hold up the loop for milliseconds is done on a thread."""

from __future__ import annotations

import json
from asyncio import to_thread
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

LARGE = 64 * 2**10
"""Bytes above which their work is done on a thread."""

Given = ParamSpec("Given")
Result = TypeVar("Result")


async def aside(size: int, work: Callable[Given, Result], *given: Given.args, **more: Given.kwargs) -> Result:
    """The result of work on so many bytes."""
    return await to_thread(work, *given, **more) if size > LARGE else work(*given, **more)


async def loaded(body: bytes, **reading: Any) -> Any:
    """JSON. `reading`: how `json.loads` is to read numbers. Raises ValueError and RecursionError."""
    if len(body) <= LARGE:
        return json.loads(body, **reading)
    # Without Python code in between, a thread would keep the interpreter until all is read.
    return await to_thread(json.loads, body, object_pairs_hook=lambda members: dict(members), **reading)
