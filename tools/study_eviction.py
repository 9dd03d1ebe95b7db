"""Compares ways to choose what leaves a full memory: on a recorded stream, and on made ones that drift.

    python tools/study_eviction.py --trace FILE [--share 0.1] [--way lru --way shipped ...]
    python tools/study_eviction.py --drift [--way ...]

Capacities are shares of the entries that the stream fills when there is room for all. Each way is the real
cache, policies and index of `nearhit simulate` with another choice of victim. The bound knows the groups and
the future: it keeps what is asked for again soonest (Belady), and hits whatever it has of a fresh group.

Of what drifts there are two, asked of the bare memory: `shuffled`, where what is popular changes all at once,
and `moving`, where what was asked last is asked again, and new questions follow all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from policies import eviction
from proxy.cache import Rules
from proxy.kept_vectors import KeptVectors, open_kept
from proxy.settings import Settings
from proxy.simulation import replay as replaying
from proxy.simulation.replay import Conditions, Policy, replay
from proxy.simulation.trace import Request, is_fresh, read_trace
from storage.base import Entry, Vector
from storage.index.entries import Entries
from storage.vectors.memory import MemoryVectors

Value = Callable[[Entry, float], float]
Make = Callable[[Entries], Entries]
"""From the shipped memory to another one of its size."""

ORIGINAL = replaying.Player
AGED_AFTER = 10
"""Requests per entry of capacity after which a sketch halves its counts."""
WINDOW, PROTECTED = 0.01, 0.8
"""Share of a W-TinyLFU's entries that are new, and of the others that are protected, as in Caffeine."""
ON_TRIAL = 1e-3
QUESTIONS, SKEW, ONCE, CHANGED_AFTER, CHANGES = 20_000, 0.9, 0.2, 40_000, 2
"""Of `shuffled`: Zipf's law with this exponent; the share of requests for what nobody else asks."""
LATELY, NEW, MOVES = 1_000, 0.05, 120_000
"""Of `moving`: the questions that are asked again, the share of requests that are new, and all requests."""
WINDOWS_OF = 5_000
"""Requests whose hit rate is one figure."""


class Frequencies:
    """How often an exact digest was asked for, aging as TinyLFU's sketch does, but without its collisions."""

    def __init__(self, capacity: int) -> None:
        self._counts = Counter[bytes]()
        self._period = AGED_AFTER * capacity
        self._seen = 0

    def __getitem__(self, entry: Entry) -> int:
        return self._counts[entry.exact]

    def count(self, entry: Entry) -> None:
        self._counts[entry.exact] += 1
        self._seen += 1
        if self._seen >= self._period:
            self._seen //= 2
            self._counts = Counter({digest: n // 2 for digest, n in self._counts.items() if n > 1})


class Keeping(Entries):
    """Another way, of the shipped memory's size and with its shares."""

    def __init__(self, like: Entries, guaranteed: Any = dict) -> None:
        super().__init__(
            MemoryVectors(like.vectors.dimensions),
            like.capacity,
            worth=like._worth,
            guaranteed=guaranteed,
            over=eviction.over,
            random=Random(0),
        )


def by(value: Value) -> Make:
    """What has the least value leaves, over all categories at once."""

    class Way(Keeping):
        def _least(self, sample: list[Any], now: float) -> Any:
            return min(sample, key=lambda held: value(held.entry, now))

    return Way


class ByHits(Keeping):
    """What shipped until November 2026: hits count as long as the entry lives, and for no longer."""

    def __init__(self, like: Entries) -> None:
        super().__init__(like, like._guaranteed)

    def _least(self, sample: list[Any], now: float) -> Any:
        return min(sample, key=lambda held: self._value(held.entry, now))

    def _value(self, entry: Entry, now: float) -> float:
        if not entry.hits:
            return ON_TRIAL / (1.0 + now - entry.created)
        return ON_TRIAL + self._worth(entry, 1.0 + entry.hits, now)


class WTinyLfu(Keeping):
    """Einziger, Friedman, Manes: TinyLFU (2017). A small LRU in front; who leaves it is kept only if it was
    asked for more often than the next to leave a segmented LRU. Over all categories at once."""

    def __init__(self, like: Entries) -> None:
        self._new, self._trial, self._proven = (OrderedDict[str, Any]() for _ in range(3))
        super().__init__(like)
        self._room = max(1, round(WINDOW * like.capacity))
        self._frequencies = Frequencies(like.capacity)

    def add(self, entry: Entry, vector: Vector | None, now: float, asked: bool = True) -> list[Entry]:
        self._frequencies.count(entry)
        return super().add(entry, vector, now, asked)

    def touch(self, entry: Entry, now: float) -> None:
        self._frequencies.count(entry)
        super().touch(entry, now)
        for segment in (self._new, self._proven):
            if entry.id in segment:
                segment.move_to_end(entry.id)
        if entry.id in self._trial:
            self._proven[entry.id] = self._trial.pop(entry.id)
        if len(self._proven) > PROTECTED * (self.capacity - self._room):
            id, held = self._proven.popitem(last=False)
            self._trial[id] = held

    def _victim(self, coming: Any, now: float) -> Any:
        victim = next(iter((self._trial or self._proven or self._new).values()))
        if len(self._new) < self._room:
            return victim
        candidate = next(iter(self._new.values()))
        wins = self._frequencies[candidate.entry] > self._frequencies[victim.entry]
        return victim if wins else candidate

    def _put(self, held: Any, vector: Vector | None) -> None:
        super()._put(held, vector)
        self._new[held.entry.id] = held
        if len(self._new) > self._room:
            id, oldest = self._new.popitem(last=False)
            self._trial[id] = oldest

    def _drop(self, held: Any) -> Entry:
        for segment in (self._new, self._trial, self._proven):
            segment.pop(held.entry.id, None)
        return super()._drop(held)


WAYS: dict[str, Make | None] = {
    "shipped": None,
    "by-hits": ByHits,
    "w-tinylfu": WTinyLfu,
    "lru": by(lambda entry, now: entry.last_hit or entry.created),
    "lfu": by(lambda entry, now: entry.hits + 1e-9 * max(entry.created, entry.last_hit) / max(1.0, now)),
}


async def right_hits(
    trace: Sequence[Request], policy: Policy, vectors: KeptVectors, capacity: int, way: Make | None
) -> tuple[int, int, int]:
    """Right hits, wrong hits, entries in the end."""
    players = []

    class Player(ORIGINAL):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            players.append(self)
            self.cache.entries._random = Random(0)
            if way is not None:
                self.cache.entries = way(self.cache.entries)

    replaying.Player = Player  # type: ignore[misc,assignment]
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


def shuffled(random: Random) -> Iterator[int]:
    """Numbers of the questions that are asked."""
    shares = list(accumulate((rank + 1) ** -SKEW for rank in range(QUESTIONS)))
    questions, unique = list(range(QUESTIONS)), QUESTIONS
    for _ in range(1 + CHANGES):
        random.shuffle(questions)
        for asked in random.choices(questions, cum_weights=shares, k=CHANGED_AFTER):
            if random.random() < ONCE:
                unique, asked = unique + 1, unique
            yield asked


def moving(random: Random) -> Iterator[int]:
    newest = LATELY
    for _ in range(MOVES):
        if random.random() < NEW:
            newest += 1
            yield newest
        else:
            yield newest - random.randrange(LATELY)


DRIFTS = {"shuffled": (shuffled, 1_000), "moving": (moving, 2_000)}
"""What is asked, and the capacity of the memory that is asked."""


def hit_rates(entries: Entries, asked: Iterator[int]) -> list[float]:
    """Of each `WINDOWS_OF` requests."""
    hits = [ask(entries, number, float(second)) for second, number in enumerate(asked)]
    return [sum(hits[i : i + WINDOWS_OF]) / WINDOWS_OF for i in range(0, len(hits), WINDOWS_OF)]


def ask(entries: Entries, number: int, now: float) -> bool:
    exact = number.to_bytes(4, "big")
    if found := entries.by_exact(exact := blake2b(exact, digest_size=16).digest()):
        entries.touch(found, now)
        return True
    entries.add(Entry(str(number), exact, b"", "", "", "", now, "", "", ""), None, now)
    return False


def drift(ways: Sequence[str]) -> None:
    for name, (asked, capacity) in DRIFTS.items():
        for way in ways:
            entries = Entries(
                1,
                capacity,
                worth=lambda entry, demand, now: math.log(demand),
                guaranteed=dict,
                over=eviction.over,
                random=Random(0),
            )
            make = WAYS[way]
            rates = hit_rates(make(entries) if make else entries, asked(Random(0)))
            print(f"| {name} | {way} | {' '.join(f'{100 * rate:.0f}' for rate in rates)} |", flush=True)


async def study(path: Path, shares: Sequence[float], ways: Sequence[str], half: int | None) -> None:
    trace = read_trace(path)
    if half is not None:
        trace = trace[half * len(trace) // 2 : (half + 1) * len(trace) // 2]
    vectors = await asyncio.to_thread(open_kept, Settings().embedding)
    policy = Policy("category-aware", await Rules.read(None, vectors))
    await vectors.prepare({request.query for request in trace}, lambda count: None)
    whole = await right_hits(trace, policy, vectors, len(trace), None)
    print(f"| room for all {whole[2]} | right {whole[0]} | wrong {whole[1]} |", flush=True)
    for share in shares:
        capacity = int(share * whole[2])
        for name in ways:
            right, wrong, _ = await right_hits(trace, policy, vectors, capacity, WAYS[name])
            print(f"| {share:.0%} | {name} | {right} | {wrong} |", flush=True)
        print(f"| {share:.0%} | bound | {bound(trace, capacity)} | |", flush=True)
    await vectors.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--trace", type=Path)
    of.add_argument("--drift", action="store_true")
    parser.add_argument("--share", type=float, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--half", type=int, choices=(0, 1), help="of the stream, to check the whole by")
    given = parser.parse_args()
    ways = given.way or list(WAYS)
    if given.drift:
        drift(ways)
    else:
        asyncio.run(study(given.trace, given.share or (0.05, 0.10, 0.25), ways, given.half))
