"""Recorded traffic: JSON lines, plain or gzip, with one request per line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from proxy.jsonl import read_rows

SPAN_S = 30.0
"""Length of the spans over which the request rate is measured."""

Seconds = Annotated[float, Field(allow_inf_nan=False)]
Label = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A string or an integer."""


class Request(BaseModel):
    """One recorded request. Other members are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    t: Seconds
    """Seconds since any point in time."""
    query: Annotated[str, Field(min_length=1)]
    category: str | None = None
    """The label, which has no influence on decisions."""
    group: Label | None = None
    """Requests of the same group have the same right answer. None: unknown."""
    tokens_out: Annotated[int, Field(ge=0)] | None = None
    fresh_s: Annotated[Seconds, Field(ge=0)] | None = None
    """Seconds for which the group's answer stays right. None: for ever."""
    model: str | None = None
    tenant: Label | None = None
    context: str | None = None
    """Represents everything but the question in a call; calls with different contexts share no answers."""


def read_trace(path: Path) -> list[Request]:
    """The requests in order of time. The lines need not be: a recorder writes them in the order in which
    answers end.

    Raises `ConfigError` for the first mistake.
    """
    return sorted((request for _, request in read_rows(path, Request)), key=lambda request: request.t)


def compressed(trace: Sequence[Request], times: float) -> list[Request]:
    """The same requests in 1/`times` of the time. Lifetimes stay the same."""
    if times == 1:
        return list(trace)
    start = trace[0].t
    return _moved(trace, [start + (request.t - start) / times for request in trace])


def sharpened(trace: Sequence[Request], power: float) -> list[Request]:
    """The same requests in the same total time, with the rate of each half minute raised to `power`: busy
    spans become busier and quiet ones quieter. 1 changes nothing, 0 makes the rate constant.

    Time within a span of n requests is stretched in proportion to n^(1 - power).
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
    """Which requests a cache that knows the groups would answer: it only fetches an answer if the group is
    new, or if its last one is older than `fresh_s`."""
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
    """Whether the answer that the request's group got at time `answered` is still right."""
    return request.fresh_s is None or request.t - answered <= request.fresh_s
