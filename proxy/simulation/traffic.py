"""The calls of a replay to its simulated upstream, and their effect on every request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from policies.pressure import Pressure
from proxy.simulation.queueing import ModelledUpstream, Ride, Service
from proxy.simulation.trace import Request

TOKENS = 170
"""Tokens of an answer whose length is not in the trace: the mean of a production trace (Azure, 2023)."""


class Journal:
    """What happened to each request: arrays with one element per request, in the order of the trace."""

    def __init__(self, trace: Sequence[Request]) -> None:
        count = len(trace)
        self.at = np.array([request.t for request in trace])
        self.latency = np.full(count, np.nan)
        """Seconds to the complete answer; NaN: it got none."""
        self.hit = np.zeros(count, bool)
        self.wrong = np.zeros(count, bool)
        self.waiting = np.zeros(count, np.int64)
        """Calls waiting for a place when the request arrived."""
        self.running = np.zeros(count, np.int64)
        self.pressure = np.zeros(count)
        self.rides: list[Ride] = []
        """All calls that the upstream accepted."""
        self.refused = 0
        """Calls that it did not take."""


@dataclass(slots=True)
class Traffic:
    trace: Sequence[Request]
    service: Service
    pressure: Pressure | None = None
    """Told of every call; None: nobody wants to know."""
    journal: Journal = field(init=False)
    model: ModelledUpstream = field(init=False)
    _aboard: defaultdict[int, list[tuple[int, float]]] = field(init=False)
    """By the number of the request that sent the call: the requests that wait for its answer, and the
    seconds that each of them spends apart from that."""

    def __post_init__(self) -> None:
        self.journal = Journal(self.trace)
        self.model = ModelledUpstream(self.service)
        self._aboard = defaultdict(list)

    def until(self, now: float) -> Iterator[Ride]:
        """Every call that ends up to and at `now`, in the order of time."""
        for step, ride in self.model.until(now):
            if step == "answered":
                self._answered(ride)
            else:
                self._ended(ride)
                yield ride

    def arrived(self, number: int) -> None:
        """To be told of each request before anything is done about it."""
        journal, now = self.journal, self.trace[number].t
        journal.waiting[number], journal.running[number] = self.model.waiting, self.model.running
        journal.pressure[number] = self.level(now)

    def level(self, now: float) -> float:
        return self.pressure.level(now) if self.pressure else 0.0

    def send(self, number: int) -> bool:
        """False: refused. Nobody waits for the answer yet: see `board`."""
        request = self.trace[number]
        tokens = TOKENS if request.tokens_out is None else request.tokens_out
        ride = self.model.send(number, tokens, request.t)
        if self.pressure:
            self.pressure.began(request.t)
        if ride is None:
            self.journal.refused += 1
            self._tell_refusal(request.t)
            return False
        self.journal.rides.append(ride)
        return True

    def board(self, leader: int, number: int, extra_s: float) -> None:
        """The request `number` waits for the call that `leader` sent."""
        self._aboard[leader].append((number, extra_s))

    def _tell_refusal(self, now: float) -> None:
        if self.pressure:
            self.pressure.answered(None, 429, now)
            self.pressure.ended(None, False, now)

    def _answered(self, ride: Ride) -> None:
        if self.pressure:
            self.pressure.answered(ride.first - ride.sent, 200, ride.first)

    def _ended(self, ride: Ride) -> None:
        for number, extra_s in self._aboard.pop(ride.number, ()):
            self.journal.latency[number] = ride.ended - self.trace[number].t + extra_s
        if self.pressure:
            self.pressure.ended(ride.ended - ride.sent, True, ride.ended, ride.tokens)
