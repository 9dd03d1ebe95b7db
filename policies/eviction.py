"""Which entry to evict: the least valuable one of the categories that exceed their guaranteed share."""

from __future__ import annotations

import math
from collections.abc import Mapping


def worth(priority: float, demand: float, cost_ms: float, age: float, ttl: float) -> float:
    """priority · log(demand) · cost saved · max(0, 1 − age/ttl); `age` and `ttl` in seconds.

    `demand` (`storage.index.demand`) must be above one; entries that have not been asked for again are on
    probation and are evicted before any entry with a worth. An unknown cost counts as one millisecond.
    """
    if age >= ttl:
        return 0.0
    return priority * math.log(demand) * max(1.0, cost_ms) * (1.0 - max(0.0, age) / ttl)


def over(usage: Mapping[str, int], guaranteed: Mapping[str, float], capacity: int) -> list[str]:
    """The categories that use more than their guaranteed share (0 to 1) of `capacity`, which is in the unit
    of `usage`.

    Shares that add up to more than 1 are scaled down, so if usage exceeds capacity, at least one category is
    above its share.
    """
    scale = capacity / max(1.0, sum(guaranteed.values()))
    return [name for name, used in usage.items() if used > guaranteed.get(name, 0.0) * scale * (1 + 1e-9)]
