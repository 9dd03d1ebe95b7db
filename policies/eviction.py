"""Which entry leaves a full memory: the least valuable of the categories that hold more than their guaranteed
share."""

from __future__ import annotations

import math
from collections.abc import Mapping


def worth(priority: float, demand: float, cost_ms: float, age: float, ttl: float) -> float:
    """priority · log(demand) · cost saved · max(0, 1 − age/ttl); `age` and `ttl` in seconds.

    For a demand above one (`storage.index.demand`): what has no more is on trial, and leaves before all that
    has a worth. An entry of unknown cost counts as one that saves a millisecond.
    """
    if age >= ttl:
        return 0.0
    return priority * math.log(demand) * max(1.0, cost_ms) * (1.0 - max(0.0, age) / ttl)


def over(usage: Mapping[str, int], guaranteed: Mapping[str, float], capacity: int) -> list[str]:
    """The categories that have more than their guaranteed share (0 to 1) of `capacity`, in whatever unit
    `usage` has.

    Shares that add up to more than the whole are scaled down to it, so while usage exceeds capacity, some
    category is above its share.
    """
    scale = capacity / max(1.0, sum(guaranteed.values()))
    return [name for name, used in usage.items() if used > guaranteed.get(name, 0.0) * scale * (1 + 1e-9)]
