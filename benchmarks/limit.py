"""How `upstream.limit: auto` finds its place: `python -m benchmarks.limit`. Arithmetic, on its own clock.

A server with so many places and a queue without end is offered half as much again as it can serve. Whoever
finds no place waits in a line of 32 for at most the time of two answers. After a while half of the server
goes away, and later it is whole again. `batched`: with all places taken an answer takes twice as long.
`calm`: the overload comes after a time of little to do; else the limit meets it from the first call on. All
times are in answers' times. Columns:

    settles     until the limit stays from the server's places to twice as many and three
    highest     the highest limit after that over the server's places
    used        share of what the server could have served; again after its return
    changes     until the limit fits the halved server
    p95         of all answers, the wait in line included
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil, exp, nan
from statistics import quantiles

import click

from policies.admission import MOST, Limit
from proxy.simulation.queueing import ModelledUpstream, Ride, Service

KIND = ("model", False)
QUEUE, TIMEOUT = 32, 2.0
"""Who waits, at most; and for how many answers' times."""
OFFERED = 1.5
"""Of what the server can serve."""
TOKENS = 100
"""Of a usual answer: what noise is a share of."""


@dataclass
class Seen:
    """Of a run, by the clock of the run."""

    limits: list[tuple[float, int]] = field(default_factory=list)
    """(time, places) after each answer."""
    answers: list[tuple[float, float]] = field(default_factory=list)
    """(time, seconds since the arrival)."""
    refused: int = 0

    def between(self, start: float, end: float) -> list[int]:
        return [places for at, places in self.limits if start <= at < end]

    def taken(self, start: float, end: float) -> list[float]:
        return [seconds for at, seconds in self.answers if start <= at < end]

    def settled(self, low: float, high: float, start: float, end: float) -> float:
        """Seconds from `start` until the limit stays within; NaN: never."""
        last = start
        for at, places in self.limits:
            if start <= at < end and not low <= places <= high:
                last = at
        return last - start if last < end - (end - start) / 10 else nan


@dataclass
class World:
    """Arrivals, the line, the limit, the server."""

    service: Service
    limit: Limit
    rate: float
    timeout_s: float
    noise: float = 0.0
    """Spread of the answers' lengths, lognormal."""
    streams: bool = False
    seed: int = 0
    seen: Seen = field(default_factory=Seen)
    in_use: int = 0

    def __post_init__(self) -> None:
        self._drawn = random.Random(self.seed)
        self._model = ModelledUpstream(self.service)
        self._line: deque[float] = deque()
        self._sent: dict[int, tuple[float, float, int]] = {}
        self._number = 0
        self._next = 0.0

    def run(self, until: float) -> None:
        """With Poisson arrivals."""
        while self._next < until:
            self._work(self._next)
            self._arrive(self._next)
            self._next += self._drawn.expovariate(self.rate)

    def change(self, service: Service) -> None:
        self._model.service = service

    def _work(self, now: float) -> None:
        for step, ride in self._model.until(now):
            if step == "answered" and self.streams:
                self._answered(ride, ride.first)
            elif step == "ended":
                self._ended(ride)

    def _ended(self, ride: Ride) -> None:
        now = ride.ended
        if not self.streams:
            self._answered(ride, now)
        arrived, _, _ = self._sent.pop(ride.number)
        self.limit.ended(now - ride.first if self.streams else 0.0)
        self.in_use -= 1
        self.seen.answers.append((now, now - arrived))
        self.seen.limits.append((now, self.limit.places))
        self._grant(now)

    def _answered(self, ride: Ride, now: float) -> None:
        _, sent, in_use = self._sent[ride.number]
        self.limit.observe(now, KIND, now - sent, in_use)

    def _arrive(self, now: float) -> None:
        self._leave(now)
        if len(self._line) < QUEUE:
            self._line.append(now)
        else:
            self.seen.refused += 1
        self._grant(now)

    def _leave(self, now: float) -> None:
        while self._line and self._line[0] < now - self.timeout_s:
            self._line.popleft()
            self.seen.refused += 1

    def _grant(self, now: float) -> None:
        self._leave(now)
        while self._line and self.in_use < self.limit.places:
            self.in_use += 1
            self._number += 1
            self._sent[self._number] = self._line.popleft(), now, self.in_use
            length = TOKENS * (self._drawn.lognormvariate(0.0, self.noise) if self.noise else 1.0)
            self._model.send(self._number, ceil(length), now)


@dataclass(frozen=True, slots=True)
class Found:
    settles: float
    highest: float
    used: float
    changes: float
    used_again: float
    p95: float


def tried(
    capacity: int, answer_s: float, noise: float, calm: bool, streams: bool = False, slowdown: float = 0.0
) -> Found:
    """`calm`: the overload begins after a time of little to do."""
    mean_s = answer_s * exp(noise**2 / 2)
    possible = capacity / (mean_s * (1.0 + slowdown))
    first_s = answer_s / 20 if streams else 0.0
    service = Service(capacity, None, first_s, (answer_s - first_s) / TOKENS, slowdown)
    world = World(service, Limit(), OFFERED * possible, TIMEOUT * answer_s, noise, streams)
    begin = 0.0
    if calm:
        begin = max(20.0, 40 * answer_s)
        world.rate = 0.3 * possible
        world.run(begin)
        world.rate = OFFERED * possible
    part = max(60.0, 100 * answer_s)
    half = begin + part / 3
    world.run(begin + part)
    less = max(1, capacity // 2)
    world.change(replace(service, capacity=less))
    world.run(begin + 2 * part)
    world.change(service)
    world.run(begin + 3 * part)
    seen, end = world.seen, begin + part
    cuts = quantiles(seen.taken(half, end), n=20)
    again = begin + 3 * part - part / 2
    return Found(
        seen.settled(capacity, 2 * capacity + 3, begin, end) / answer_s,
        max(seen.between(half, end), default=MOST) / capacity,
        len(seen.taken(half, end)) / ((end - half) * possible),
        seen.settled(0, 2 * less + 3, end, end + part) / answer_s,
        len(seen.taken(again, again + part / 2)) / (part / 2 * possible),
        cuts[18] / answer_s,
    )


@click.command(help=__doc__)
def main() -> None:
    click.echo("places  answer  spread  before            settles  highest  used  changes  used   p95")
    for noise, calm, streams, slowdown in product((0.0, 0.5), (True, False), (False, True), (0.0, 1.0)):
        how = ("calm" if calm else "overload") + ", streams" * streams + ", batched" * (slowdown > 0)
        for capacity, answer_s in product((1, 2, 4, 8, 16, 64), (0.05, 0.5, 5.0)):
            found = tried(capacity, answer_s, noise, calm, streams, slowdown)
            click.echo(
                f"{capacity:6} {answer_s:6.2f}s {noise:6.1f}   {how:25} "
                f"{found.settles:8.0f} {found.highest:8.1f} {found.used:6.0%} "
                f"{found.changes:8.0f} {found.used_again:6.0%} {found.p95:6.1f}"
            )


if __name__ == "__main__":
    main()
