"""What a replay says of the upstream and of those who waited for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.simulation.queueing import Ride, Service
from proxy.simulation.rows import Table
from proxy.simulation.traffic import Journal

Numbers = NDArray[np.float64] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spread:
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, numbers: Numbers | Sequence[float]) -> Spread:
        """All 0 where there are none."""
        if not len(numbers):
            return cls()
        p50, p95, p99 = (float(each) for each in np.percentile(numbers, (50, 95, 99)))
        return cls(float(np.mean(numbers)), p50, p95, p99, float(np.max(numbers)))


@dataclass(frozen=True, slots=True)
class Load:
    """What the upstream had to bear, and what that did to the callers."""

    calls: int
    """That reached it, refused ones included."""
    refused: int
    tokens: int
    """Of its answers."""
    busy: float | None
    """Share of its places taken, over the time in which requests came; None where it has any number. Above 1
    where it worked off its queue long after the last request."""
    waiting: Spread
    """Calls in its queue, as the requests found it."""
    wait_s: Spread
    """Seconds that its calls spent there."""
    latency_s: Spread
    """Of all requests that got an answer, from memory or not, to the end of it."""
    pressure: Spread
    cost: float | None
    """Of the answers whose model has a price, in the currency of the prices; None where none has."""


@dataclass(frozen=True, slots=True)
class Outcome:
    load: Load
    journal: Journal
    table: Table | None
    """None for the bounds, which have no memory of their own."""


def load_of(journal: Journal, service: Service, cost: Callable[[Ride], float | None]) -> Load:
    costs = [each for ride in journal.rides if (each := cost(ride)) is not None]
    answered = journal.latency[~np.isnan(journal.latency)]
    return Load(
        calls=len(journal.rides) + journal.refused,
        refused=journal.refused,
        tokens=sum(ride.tokens for ride in journal.rides),
        busy=_busy(journal, service),
        waiting=Spread.of(journal.waiting),
        wait_s=Spread.of([ride.started - ride.sent for ride in journal.rides]),
        latency_s=Spread.of(answered),
        pressure=Spread.of(journal.pressure),
        cost=sum(costs) if costs else None,
    )


def _busy(journal: Journal, service: Service) -> float | None:
    lasted = float(journal.at[-1] - journal.at[0])
    if not service.capacity or not lasted:
        return None
    return sum(ride.ended - ride.started for ride in journal.rides) / (service.capacity * lasted)
