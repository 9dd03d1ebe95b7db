"""How loaded the upstreams are: each has its own pressure, and so has each of its models.

Latencies, rate limits, 429 and 5xx differ between models, so they only count for their model. Missing
answers, a configured capacity and the upstream's own metrics count for all its models. A call is under the
higher of the two pressures.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

from policies.pressure import Pressure
from proxy.errors import CallError, Crowded, Unreachable, UpstreamSlow
from proxy.upstreams.upstream import Head

log = logging.getLogger("nearhit.load")

MODELS = 64
"""Most models of one upstream that are tracked. Callers may send any name; one that the upstream rejects is
not tracked."""
NAME_LENGTH = 128
"""Longest name of a model that is tracked, in characters."""
TEND_EVERY_S = 1.0
BYTES_PER_TOKEN, BYTES_PER_EVENT = 4, 200
"""Rough sizes of a token in a JSON answer, and of the event for one token in a stream."""

_LIMITS = tuple(
    pair
    for what in ("requests", "tokens", "input-tokens", "output-tokens")
    for pair in (
        (f"x-ratelimit-limit-{what}", f"x-ratelimit-remaining-{what}"),
        (f"anthropic-ratelimit-{what}-limit", f"anthropic-ratelimit-{what}-remaining"),
    )
)


@dataclass(slots=True)
class ModelLoad:
    """The load of one model of an upstream."""

    pressure: Pressure = field(default_factory=Pressure)
    pressed: bool = False
    """Whether it was under pressure in the last `note_transitions`."""


class UpstreamLoad:
    """The load of one upstream and its models."""

    def __init__(
        self, name: str, capacity: float | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self.name = name
        self.own = ModelLoad(Pressure(capacity))
        """From the signals that count for all its models."""
        self.models: dict[str, ModelLoad] = {}
        """Least recently used first."""
        self.clock = clock

    def began(self, model: str, stream: bool) -> Track:
        return Track(self, model, stream, self.clock())

    def level(self, model: str) -> float:
        """The pressure on a call for that model, 0 to 1: the higher of the upstream's own and the model's."""
        now, known = self.clock(), self.models.get(model)
        own = self.own.pressure.level(now)
        return own if known is None else max(own, known.pressure.level(now))

    @property
    def highest(self) -> float:
        """The highest pressure of the upstream and its models."""
        now = self.clock()
        return max(each.pressure.level(now) for each in self._all().values())

    def signals(self) -> dict[str, float]:
        """The signals behind the pressure by name, 0 to 1, each the highest of the upstream and its
        models."""
        now = self.clock()
        of_all = [each.pressure.signals(now) for each in self._all().values()]
        return {name: max(signals[name] for signals in of_all) for name in of_all[0]}

    def known(self, model: str) -> Pressure:
        """The pressure of a model that this upstream serves. Marks the model as the most recently used."""
        found = self.models.pop(model, None) or ModelLoad()
        while len(self.models) >= MODELS:
            del self.models[next(iter(self.models))]
        self.models[model] = found
        return found.pressure

    def note_transitions(self) -> None:
        """Logs what has come under pressure, and what is calm again, since the last call of this."""
        now = self.clock()
        for name, each in self._all().items():
            level = each.pressure.level(now)
            if (level > 0) == each.pressed:
                continue
            each.pressed = level > 0
            where = f"upstream {self.name}" + (f", model {name!r}" if name else "")
            if each.pressed:
                signals = each.pressure.signals(now)
                log.warning(
                    "%s under pressure: %.2f by %s", where, level, max(signals, key=signals.__getitem__)
                )
            else:
                log.info("%s calm again", where)

    def shown(self) -> dict[str, Any]:
        """Its state, as the admin plane shows it."""
        models = {name: self._shown(each.pressure) for name, each in self.models.items()}
        return {**self._shown(self.own.pressure), "pressure": self.highest, "models": models}

    def _shown(self, pressure: Pressure) -> dict[str, Any]:
        now = self.clock()
        return {
            "pressure": pressure.level(now),
            "signals": pressure.signals(now),
            "in_flight": pressure.in_flight,
            "capacity": pressure.capacity,
        }

    def _all(self) -> dict[str, ModelLoad]:
        return {"": self.own, **self.models}


class Track:
    """Reports one call to the pressures that it counts for. It ends with the first of `landed`, `failed` and
    `given_up`; anything after that is ignored."""

    __slots__ = ("_model", "_name", "_over", "_started", "_status", "_stream", "_upstream")

    def __init__(self, upstream: UpstreamLoad, model: str, stream: bool, now: float) -> None:
        self._upstream = upstream
        self._name = model
        self._stream = stream
        self._started = now
        self._status = 0
        self._over = False
        upstream.own.pressure.began(now)
        self._model = upstream.known(model) if model in upstream.models else None
        if self._model is not None:
            self._model.began(now)

    def answered(self, head: Head) -> None:
        """The head has arrived. If its status is the first to show that this model exists, the model gets its
        own pressure."""
        if self._over:
            return
        now = self._upstream.clock()
        self._status = head.status
        if self._model is None and _serves(head.status) and len(self._name) <= NAME_LENGTH:
            self._model = self._upstream.known(self._name)
            self._model.began(now)
        if self._model is not None:
            first_byte = now - self._started if self._stream else None
            self._model.answered(first_byte, head.status, now)
            self._model.told(retry_after(head), remaining(head.headers), now)

    def landed(self, size: int) -> None:
        """The answer is complete, and had `size` bytes."""
        tokens = size / (BYTES_PER_EVENT if self._stream else BYTES_PER_TOKEN)
        if is_failure(self._status):
            self._end(None, False, answers=True)
        elif 200 <= self._status < 300:
            self._end(self._upstream.clock() - self._started, True, answers=True, tokens=tokens)
        else:
            self._end(None, None, answers=True)

    def failed(self, error: CallError) -> None:
        """There is no complete answer: the upstream could not be reached, broke off or was too slow, or there
        was no place for the call."""
        failures = isinstance(error, Unreachable | UpstreamSlow | Crowded)
        self._end(None, False if failures else None, answers=isinstance(error, Crowded) or self._status > 0)

    def given_up(self) -> None:
        """All callers have left, which says nothing about the upstream."""
        self._end(None, None, answers=True)

    def _end(self, duration_s: float | None, ok: bool | None, answers: bool, tokens: float = 0.0) -> None:
        """`duration_s`: of a good answer. `ok`: whether the call went well; None: it says nothing about the
        upstream. `answers`: whether the upstream is up, whatever became of this call."""
        if self._over:
            return
        self._over, now = True, self._upstream.clock()
        there = None if ok is None else ok or answers
        self._upstream.own.pressure.ended(None, there, now)
        if self._model is not None:
            self._model.ended(duration_s, ok, now, tokens)


class Load:
    """The load of all upstreams by name, and which of them serves a model."""

    def __init__(self, *upstreams: UpstreamLoad, of: Callable[[str], UpstreamLoad] | None = None) -> None:
        """`of`: the upstream for a model; None: always the first."""
        self.upstreams = {upstream.name: upstream for upstream in upstreams}
        self.of = of or (lambda model: upstreams[0])

    def level(self, model: str) -> float:
        """The pressure on a call for that model; for "", the highest of all."""
        return self.of(model).level(model) if model else self.highest

    @property
    def highest(self) -> float:
        return max(each.highest for each in self.upstreams.values())

    async def tend(self) -> None:
        """Runs until cancelled. Lets pressure fall while there are no calls, and logs changes."""
        while True:
            for upstream in self.upstreams.values():
                upstream.note_transitions()
            await asyncio.sleep(TEND_EVERY_S)


def is_failure(status: int) -> bool:
    """Whether the upstream has too many calls, or an error of its own."""
    return status == 429 or status >= 500


def _serves(status: int) -> bool:
    return status < 400 or is_failure(status)


def retry_after(head: Head) -> float | None:
    """Seconds after which an overloaded upstream wants to be asked again (RFC 9110, section 10.2.3)."""
    text = head.headers.get("Retry-After") if is_failure(head.status) else None
    if text is None:
        return None
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        return (parsedate_to_datetime(text) - parsedate_to_datetime(head.headers["Date"])).total_seconds()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def remaining(headers: Mapping[str, str]) -> float | None:
    """The lowest remaining share of any rate limit. None: the headers state none."""
    return min(_shares(headers), default=None)


def _shares(headers: Mapping[str, str]) -> Iterator[float]:
    for limit_name, remaining_name in _LIMITS:
        if (text := headers.get(remaining_name)) is None:
            continue
        limit, left = _number(headers.get(limit_name, "")), _number(text)
        if limit and left is not None:
            yield left / limit


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
