"""Compares ways to choose what leaves a full memory, on a recorded stream.

    python tools/study_eviction.py --trace FILE [--share 0.1] [--way lru --way value ...]

Capacities are shares of the entries that the stream fills when there is room for all. Each way is the real
cache, policies and index of `nearhit simulate` with another choice of victim. The bound knows the groups and
the future: it keeps what is asked for again soonest (Belady), and hits whatever it has of a fresh group.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from policies import eviction
from proxy.app import make_rules
from proxy.kept_vectors import KeptVectors, open_kept
from proxy.settings import Settings
from proxy.simulation import replay as replaying
from proxy.simulation.replay import Conditions, Policy, replay
from proxy.simulation.trace import Request, is_fresh, read_trace
from storage.base import Entry
from storage.entries import Entries

Worth = Callable[[Entry, float], float]

ORIGINAL = replaying.Player
WAYS: dict[str, Worth | None] = {
    "shipped": None,
    "lru": lambda entry, now: entry.last_hit or entry.created,
    "lfu": lambda entry, now: entry.hits + 1e-9 * max(entry.created, entry.last_hit) / max(1.0, now),
    "recent-rate": lambda entry, now: (
        (entry.hits + 0.3) * math.exp(-(now - max(entry.created, entry.last_hit)) / 1800.0)
    ),
}


async def right_hits(
    trace: Sequence[Request], policy: Policy, vectors: KeptVectors, capacity: int, way: Worth | None
) -> tuple[int, int, int]:
    """Right hits, wrong hits, entries in the end."""
    players = []

    class Player(ORIGINAL):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            players.append(self)
            if way is not None:
                pool = Entries(vectors.dimensions, capacity, worth=way, guaranteed=dict, over=eviction.over)
                self.cache.entries = pool

    replaying.Player = Player  # type: ignore[misc]
    played = await replay(trace, policy, vectors, Conditions(entries=capacity), lambda count: None)
    row = played.table.overall
    return row.right, row.wrong, len(players[0].cache.entries)


def bound(trace: Sequence[Request], capacity: int) -> int:
    """Hits of a memory of groups that knows when each is asked for again."""
    after: dict[int, float] = {}
    coming: dict[str, int] = {}
    for number in range(len(trace) - 1, -1, -1):
        group = trace[number].group or str(number)
        after[number] = coming.get(group, math.inf)
        coming[group] = number
    held: dict[str, tuple[float, float]] = {}
    hits = 0
    for number, request in enumerate(trace):
        group = request.group or str(number)
        answered, _ = held.get(group, (None, 0.0))
        fresh = answered is not None and is_fresh(request, answered)
        hits += fresh
        held[group] = (answered if fresh and answered is not None else request.t, after[number])
        if len(held) > capacity:
            del held[max(held, key=lambda each: held[each][1])]
    return hits


async def study(path: Path, shares: Sequence[float], ways: Sequence[str]) -> None:
    trace = read_trace(path)
    vectors = await asyncio.to_thread(open_kept, Settings().embedding)
    policy = Policy("category-aware", await make_rules(None, vectors))
    await vectors.prepare({request.query for request in trace}, lambda count: None)
    whole = await right_hits(trace, policy, vectors, len(trace), None)
    print(f"| room for all {whole[2]} | right {whole[0]} | wrong {whole[1]} |", flush=True)
    for share in shares:
        capacity = int(share * whole[2])
        found = defaultdict[str, tuple[int, int, int]](lambda: (0, 0, 0))
        for name in ways:
            found[name] = right, wrong, _ = await right_hits(trace, policy, vectors, capacity, WAYS[name])
            print(f"| {share:.0%} | {name} | {right} | {wrong} |", flush=True)
        print(f"| {share:.0%} | bound | {bound(trace, capacity)} | |", flush=True)
    await vectors.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--share", type=float, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    given = parser.parse_args()
    asyncio.run(study(given.trace, given.share or (0.05, 0.10, 0.25), given.way or list(WAYS)))
