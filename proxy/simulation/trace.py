"""Recorded traffic: JSON lines, plain or gzip, one request each, in the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from proxy.jsonl import read_rows, wrong

Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Request(BaseModel):
    """Fields that are not named here are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    t: Seconds
    """Since whenever; never less than in the line before."""
    query: Annotated[str, Field(min_length=1)]
    category: str | None = None
    """The label. Decisions do not see it."""
    group: str | None = None
    """Requests of one group have the same right answer. None: nobody knows."""
    tokens_out: Annotated[int, Field(ge=0)] | None = None
    fresh_s: Annotated[Seconds, Field(ge=0)] | None = None
    """How long the group's answer is right. None: for ever."""
    model: str | None = None
    tenant: str | None = None


def read_trace(path: Path) -> list[Request]:
    """Raises `ConfigError` for the first thing that is wrong."""
    trace: list[Request] = []
    for place, request in read_rows(path, Request):
        if trace and request.t < trace[-1].t:
            raise wrong(place, f"t goes back from {trace[-1].t:g} to {request.t:g}; sort by t")
        trace.append(request)
    return trace


def oracle(trace: Sequence[Request]) -> list[bool]:
    """Which requests a cache that knows the groups would answer: it fetches an answer when the group is new
    or when what it fetched last is older than `fresh_s`."""
    fetched: dict[str, float] = {}
    return [_knows(fetched, request) for request in trace]


def _knows(fetched: dict[str, float], request: Request) -> bool:
    if request.group is None:
        return False
    if request.group in fetched and is_fresh(request, fetched[request.group]):
        return True
    fetched[request.group] = request.t
    return False


def is_fresh(request: Request, answered: float) -> bool:
    """Whether an answer that the request's group got at `answered` is still right."""
    return request.fresh_s is None or request.t - answered <= request.fresh_s
