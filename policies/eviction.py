"""Which entry leaves a full memory: out of the category furthest above its guaranteed share, the least
valuable."""

from __future__ import annotations

import math
from collections.abc import Mapping

NEVER_HIT = 0.1
"""Stands for log(1 + hits) where that is 0, about a seventh of one hit: entries that were never hit still
differ by priority, cost and age, and a costly new answer outlives a worn out one."""


def worth(priority: float, hits: int, cost_ms: float, age: float, ttl: float) -> float:
    """priority · log(1 + hits) · cost saved · max(0, 1 − age/ttl); `age` and `ttl` in seconds.

    An entry of unknown cost counts as one that saves a millisecond.
    """
    if age >= ttl:
        return 0.0
    demand = max(NEVER_HIT, math.log1p(hits))
    return priority * demand * max(1.0, cost_ms) * (1.0 - max(0.0, age) / ttl)


def most_over(usage: Mapping[str, int], guaranteed: Mapping[str, float], capacity: int) -> str:
    """The category with the most above its guaranteed share (0 to 1) of `capacity`, in whatever unit
    `usage` has.

    Shares that add up to more than the whole are scaled down to it, so while usage exceeds capacity, some
    category is above its share and no other can be named. Ties go to the first in `usage`.
    """
    scale = capacity / max(1.0, sum(guaranteed.values()))
    return max(usage, key=lambda name: usage[name] - guaranteed.get(name, 0.0) * scale)
