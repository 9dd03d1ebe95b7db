"""An upstream that is only arithmetic: places, a queue before them, service times, on the trace's clock."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Step = Literal["answered", "ended"]
"""answered: the first token is there. ended: the last one is."""


@dataclass(frozen=True, slots=True)
class Service:
    """How fast the upstream is. One call alone takes `first_token_s` + `token_s` · tokens seconds."""

    capacity: int | None = None
    """Calls served at once; None: any number."""
    queue: int | None = None
    """Calls that may wait for a place; the next one is refused. None: any number."""
    first_token_s: float = 0.4
    token_s: float = 0.02
    slowdown: float = 0.0
    """With all places taken a token takes 1 + slowdown times as long; in between, in proportion."""

    def pace(self, running: int) -> float:
        """Seconds from one token to the next, with so many calls under way."""
        busy = running / self.capacity if self.capacity else 0.0
        return self.token_s * (1.0 + self.slowdown * busy)


@dataclass(slots=True, eq=False)
class Ride:
    """One call to the upstream. Times are seconds on the trace's clock."""

    number: int
    """Of the request that sent it."""
    tokens: int
    sent: float
    started: float = float("nan")
    first: float = float("nan")
    """When its first token is there."""
    ended: float = float("nan")


@dataclass(slots=True)
class ModelledUpstream:
    """First come, first served. How long a call takes is settled when it gets its place.

    Time only moves forward: `until` is asked for all that happens up to a moment before anything is sent at
    that moment.
    """

    service: Service
    running: int = 0
    _waiting: deque[Ride] = field(default_factory=deque)
    _steps: list[tuple[float, int, Step, Ride]] = field(default_factory=list)
    _number: int = 0
    """Of the next step: of two at the same moment, the one that was planned first comes first."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def send(self, number: int, tokens: int, now: float) -> Ride | None:
        """None: refused, as an upstream does with 429."""
        ride, service = Ride(number, tokens, now), self.service
        if service.capacity is None or self.running < service.capacity:
            self._start(ride, now)
        elif service.queue is None or self.waiting < service.queue:
            self._waiting.append(ride)
        else:
            return None
        return ride

    def until(self, now: float) -> Iterator[tuple[Step, Ride]]:
        """What happens up to and at `now`, in the order of time."""
        while self._steps and self._steps[0][0] <= now:
            at, _, step, ride = heapq.heappop(self._steps)
            if step == "ended":
                self.running -= 1
                while self._waiting and self.running < (self.service.capacity or 0):
                    self._start(self._waiting.popleft(), at)
            yield step, ride

    def _start(self, ride: Ride, now: float) -> None:
        self.running += 1
        ride.started = now
        ride.first = now + self.service.first_token_s
        ride.ended = ride.first + self.service.pace(self.running) * ride.tokens
        self._plan(ride.first, "answered", ride)
        self._plan(ride.ended, "ended", ride)

    def _plan(self, at: float, step: Step, ride: Ride) -> None:
        heapq.heappush(self._steps, (at, self._number, step, ride))
        self._number += 1
