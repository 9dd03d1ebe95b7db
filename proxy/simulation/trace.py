"""Recorded traffic: JSON lines, plain or gzip, one request each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from proxy.jsonl import read_rows

SPAN_S = 30.0
"""Over which the rate of requests is taken."""

Seconds = Annotated[float, Field(allow_inf_nan=False)]
Label = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""Text, or a whole number."""


class Request(BaseModel):
    """Fields that are not named here are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    t: Seconds
    """Since whenever."""
    query: Annotated[str, Field(min_length=1)]
    category: str | None = None
    """The label. Decisions do not see it."""
    group: Label | None = None
    """Requests of one group have the same right answer. None: nobody knows."""
    tokens_out: Annotated[int, Field(ge=0)] | None = None
    fresh_s: Annotated[Seconds, Field(ge=0)] | None = None
    """How long the group's answer is right. None: for ever."""
    model: str | None = None
    tenant: Label | None = None
    context: str | None = None
    """Stands for all else that a call says beside its question; calls of two contexts share no answers."""


def read_trace(path: Path) -> list[Request]:
    """In the order of time, whatever the order of the lines: a recorder writes them as answers end.

    Raises `ConfigError` for the first thing that is wrong.
    """
    return sorted((request for _, request in read_rows(path, Request)), key=lambda request: request.t)


def compressed(trace: Sequence[Request], times: float) -> list[Request]:
    """The same requests in 1/`times` of the time. What is fresh for an hour still is."""
    if times == 1:
        return list(trace)
    start = trace[0].t
    return _moved(trace, [start + (request.t - start) / times for request in trace])


def sharpened(trace: Sequence[Request], power: float) -> list[Request]:
    """The same requests in the same time, at the rate of each half minute raised to `power`, in proportion:
    busy ones become busier, quiet ones quieter. 1 changes nothing, 0 evens all out.

    Time within a span is stretched by n^(1 - power), n its number of requests.
    """
    if power == 1:
        return list(trace)
    times = np.array([request.t for request in trace])
    spans = max(1, math.ceil((times[-1] - times[0]) / SPAN_S))
    edges = np.linspace(times[0], times[-1], spans + 1)
    counts = np.maximum(1, np.histogram(times, edges)[0])
    lengths = np.diff(edges) * counts ** (1.0 - power)
    warped = np.concatenate(([0.0], np.cumsum(lengths)))
    scale = (times[-1] - times[0]) / warped[-1] if warped[-1] else 0.0
    return _moved(trace, np.interp(times, edges, times[0] + warped * scale).tolist())


def _moved(trace: Sequence[Request], times: Sequence[float]) -> list[Request]:
    return [
        request.model_copy(update={"t": t}) if t != request.t else request
        for request, t in zip(trace, times, strict=True)
    ]


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
