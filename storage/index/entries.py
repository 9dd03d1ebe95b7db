"""What memory knows of the stored answers: found by id, by exact digest and by nearness, bounded, swept.

Owned by one thread, the event loop's. Everything is synchronous but a search, which waits where vectors lie
elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, chain
from random import Random
from sys import intern
from typing import TypedDict

from storage.base import Entry, Vector, Vectors
from storage.index.demand import Demand
from storage.spread import Spread

SAMPLE = 64
"""Entries compared to find one to evict."""
MOST_EVICTIONS = 64
"""Entries that one new one may push out, so that no single answer holds up the loop."""

_RANDOM = Random()


class CategoryUsage(TypedDict):
    entries: int
    bytes: int
    guaranteed: int
    """Entries that nobody else may push out."""
    borrowed: int
    """Entries above that."""


class Usage(TypedDict):
    entries: int
    bytes: int
    capacity: int
    capacity_bytes: int | None
    categories: dict[str, CategoryUsage]


@dataclass(slots=True, eq=False)
class _Held:
    """An entry with its whereabouts."""

    entry: Entry
    bytes: int
    mark: float
    """Of its demand."""
    key: int | None = None
    """Of its vector; None without one."""
    place: int = 0
    """In the list of its category."""
    turn: int = 0
    """In the list that the sweep walks."""


@dataclass(slots=True)
class _Share:
    """The entries of one category."""

    held: list[_Held] = field(default_factory=list)
    bytes: int = 0


class Entries:
    """Bounded by `capacity` entries and, if given, `capacity_bytes` (bodies, vectors and texts).

    `worth(entry, demand, now)` is the eviction value of an entry that is more than on trial; `guaranteed()`
    names the share, 0 to 1, that belongs to a category; both are asked at each eviction, so that a change
    takes effect. `over(usage, guaranteed, capacity)` names the categories that give up an entry
    (`policies.eviction`).
    """

    def __init__(
        self,
        vectors: Vectors,
        capacity: int,
        capacity_bytes: int | None = None,
        *,
        worth: Callable[[Entry, float, float], float],
        guaranteed: Callable[[], Mapping[str, float]],
        over: Callable[[Mapping[str, int], Mapping[str, float], int], list[str]],
        random: Random = _RANDOM,
    ) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1 entry")
        self.vectors = vectors
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self._worth = worth
        self._guaranteed = guaranteed
        self._over = over
        self._random = random
        self._by_id = Spread[str, _Held]()
        self._by_exact = Spread[bytes, _Held]()
        self._shares: dict[str, _Share] = {}
        self._turns: list[_Held] = []
        self._cursor = self._bytes = 0
        self._demand = Demand(capacity)

    def __len__(self) -> int:
        return len(self._turns)

    def get(self, id: str) -> Entry | None:
        held = self._by_id.get(id)
        return held.entry if held else None

    def by_exact(self, digest: bytes) -> Entry | None:
        held = self._by_exact.get(digest)
        return held.entry if held else None

    def nearest(self, partition: bytes, vector: Vector, count: int) -> Awaitable[list[tuple[float, Entry]]]:
        """At most `count` (cosine, entry) of the partition, best first. Raises StorageError where vectors lie
        elsewhere."""
        return self.vectors.nearest(partition, vector, count)

    def add(self, entry: Entry, vector: Vector | None, now: float, known: bool = False) -> list[Entry]:
        """The entries that left: evicted ones, the one whose exact digest this has, and `entry` itself when
        there is no room for it. Their documents are to be deleted. An entry with a known id replaces the
        old one. `known`: it comes from the documents, not because a caller asked for it."""
        left = self._replace(entry)
        held = _Held(entry, _bytes_of(entry, vector), self._mark(entry, known))
        while not self._fits(held.bytes):
            victim = self._victim(held, now) if len(left) < MOST_EVICTIONS else None
            if victim is None:
                return [*left, entry]
            left.append(self._drop(victim))
        self._put(held, vector, known)
        return left

    def remove(self, id: str) -> Entry | None:
        held = self._by_id.get(id)
        return self._drop(held) if held else None

    def give_vector(self, id: str, fingerprint: str, vector: Vector) -> None:
        """To an entry that has had none in this space; an unknown id is no error."""
        held = self._by_id.get(id)
        if held is None or held.key is not None:
            return
        held.entry.fingerprint = fingerprint
        held.key = self.vectors.add(held.entry, vector)
        for sized in (held, self._shares[held.entry.category]):
            sized.bytes += vector.nbytes
        self._bytes += vector.nbytes

    def touch(self, entry: Entry, now: float) -> None:
        """Counts a hit, in whatever words it was asked for."""
        entry.hits += 1
        entry.last_hit = now
        if held := self._by_id.get(entry.id):
            held.mark = self._demand.asked(held.mark)

    def ids(self) -> Iterator[str]:
        """May be walked through while entries come and go; which of those are met is open."""
        return iter(self._by_id)

    def select(self, predicate: Callable[[Entry], bool]) -> list[Entry]:
        """Looks at every entry: for the admin plane, not for the path of a call."""
        return [held.entry for held in self._turns if predicate(held.entry)]

    def expired(self, now: float, lifetime: Callable[[Entry], float], limit: int) -> list[Entry]:
        """Examines the next `limit` entries and removes those created more than `lifetime(entry)` seconds
        ago.

        Call after call walks through all of them, from the last to the first: removal moves the last entry
        into the gap, so none is skipped.
        """
        gone = []
        for _ in range(min(limit, len(self._turns))):
            self._cursor = (self._cursor or len(self._turns)) - 1
            held = self._turns[self._cursor]
            if now - held.entry.created > lifetime(held.entry):
                gone.append(self._drop(held))
        return gone

    def usage(self) -> Usage:
        guaranteed = self._guaranteed()
        names = [*guaranteed, *(name for name in self._shares if name not in guaranteed)]
        return {
            "entries": len(self),
            "bytes": self._bytes,
            "capacity": self.capacity,
            "capacity_bytes": self.capacity_bytes,
            "categories": {name: self._category_usage(name, guaranteed.get(name, 0.0)) for name in names},
        }

    def _category_usage(self, name: str, share: float) -> CategoryUsage:
        used = self._shares.get(name) or _Share()
        entries, room = len(used.held), int(share * self.capacity)
        return {
            "entries": entries,
            "bytes": used.bytes,
            "guaranteed": room,
            "borrowed": max(0, entries - room),
        }

    def _mark(self, entry: Entry, known: bool) -> float:
        mark = self._demand.recall(entry.exact)
        return max(mark, self._demand.once()) if known else self._demand.asked(mark)

    def _replace(self, entry: Entry) -> list[Entry]:
        self.remove(entry.id)
        same = self._by_exact.get(entry.exact)
        return [self._drop(same)] if same else []

    def _fits(self, more: int) -> bool:
        room = self.capacity_bytes is None or self._bytes + more <= self.capacity_bytes
        return room and len(self) < self.capacity

    def _victim(self, coming: _Held, now: float) -> _Held | None:
        """Of the categories that are above their shares, with the coming entry counted; None when these have
        nothing left to give."""
        if self.capacity_bytes is not None and coming.bytes > self.capacity_bytes:
            return None
        if len(self) >= self.capacity:
            usage = {name: len(share.held) for name, share in self._shares.items()}
            more, whole = 1, self.capacity
        else:
            usage = {name: share.bytes for name, share in self._shares.items()}
            more, whole = coming.bytes, self.capacity_bytes or 0
        usage[coming.entry.category] = usage.get(coming.entry.category, 0) + more
        names = self._over(usage, self._guaranteed(), whole)
        givers = [share.held for name in names if (share := self._shares.get(name))]
        return self._least(self._sample(givers), now) if givers else None

    def _least(self, sample: list[_Held], now: float) -> _Held:
        """What was asked for once, or not for long, is on trial, and leaves before all else, the least in
        demand first; nothing else tells which of it will be asked for again. Then the least worth."""
        least = min(sample, key=lambda held: (held.mark, held.entry.created))
        if self._demand.of(least.mark) <= 1.0:
            return least
        return min(sample, key=lambda held: self._worth(held.entry, self._demand.of(held.mark), now))

    def _sample(self, pools: list[list[_Held]]) -> list[_Held]:
        """Each of all with the same chance; all of them where they are few."""
        sizes = [len(pool) for pool in pools]
        if sum(sizes) <= SAMPLE:
            return list(chain.from_iterable(pools))
        chosen = self._random.choices(pools, cum_weights=list(accumulate(sizes)), k=SAMPLE)
        return [pool[int(self._random.random() * len(pool))] for pool in chosen]

    def _put(self, held: _Held, vector: Vector | None, known: bool) -> None:
        entry = held.entry
        share_strings(entry)
        if vector is not None:
            held.key = self.vectors.add(entry, vector, known)
        share = self._shares.setdefault(entry.category, _Share())
        held.place, held.turn = len(share.held), len(self._turns)
        share.held.append(held)
        self._turns.append(held)
        self._by_id[entry.id] = self._by_exact[entry.exact] = held
        share.bytes += held.bytes
        self._bytes += held.bytes

    def _drop(self, held: _Held) -> Entry:
        entry = held.entry
        self._demand.remember(entry.exact, held.mark)
        if held.key is not None:
            self.vectors.remove(entry, held.key)
        del self._by_id[entry.id], self._by_exact[entry.exact]
        self._leave_lists(held)
        self._bytes -= held.bytes
        return entry

    def _leave_lists(self, held: _Held) -> None:
        share = self._shares[held.entry.category]
        share.bytes -= held.bytes
        last = share.held.pop()
        if last is not held:
            share.held[held.place], last.place = last, held.place
        if not share.held:
            del self._shares[held.entry.category]
        last = self._turns.pop()
        if last is not held:
            self._turns[held.turn], last.turn = last, held.turn
        self._cursor = min(self._cursor, len(self._turns))


def _bytes_of(entry: Entry, vector: Vector | None) -> int:
    question = len(entry.text.encode("utf-8", "replace"))
    return entry.size + question + (vector.nbytes if vector is not None else 0)


def share_strings(entry: Entry) -> None:
    """What many entries have in common is kept once: it is 350 bytes of an entry read from a store."""
    for name in ("fingerprint", "category", "dialect", "model", "tenant", "namespace"):
        setattr(entry, name, intern(getattr(entry, name)))
