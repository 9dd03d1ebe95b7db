"""Calls on their way up, and all who wait for one of them (single flight, request collapsing).

A flight is a task of its own. It outlives the caller who started it as long as somebody else rides along, and
is cancelled when nobody does. Its riders read one shared buffer, each at its own pace. Once the answer is
larger than `capacity`, what all have read is dropped, and nobody may be further behind than so many bytes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic

from proxy.errors import CallerGone, CallError
from proxy.messages import Question
from proxy.upstreams.fleet import Backend
from proxy.upstreams.upstream import Head

LEAD_BYTES = 2**18
"""Bytes by which the upstream may run ahead of the fastest rider."""

STALLED_S = 10.0
"""Seconds that the others wait for a rider who reads nothing."""

COMPARED, COMPARED_UNDER_PRESSURE = 64, 256
"""Flights of one partition with which a question is compared: the newest ones."""


@dataclass(eq=False)
class Flight:
    question: Question
    entry_id: str
    started: float
    """Unix seconds."""
    capacity: int
    """Bytes up to which the answer is kept, for late riders and for storing."""
    private: bool = False
    """Neither joined by others nor stored."""
    background: bool = False
    """Nobody waits for it: it is the first to be refused where places at the upstream are scarce."""
    sent_to: Backend | None = None
    """The upstream that was asked last; None while it waits for its first place."""
    compared: bool = False
    """Its answer is compared with a stored one."""
    stands_in: bool = False
    """The answer comes from another model than the one that was asked for."""
    overdue: bool = False
    """Somebody has waited for its first byte for too long."""
    has_usage: bool = False
    """The stream tells its usage, whether we or the caller asked for it."""
    stored: bool = False
    """Its answer was put into the cache."""
    head: asyncio.Future[Head] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    answer: asyncio.Future[bytes | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """The whole answer as one JSON object; None when there is no whole one, or it outgrew `capacity`."""
    task: asyncio.Task[None] | None = None
    finish: Callable[[Flight], bool] | None = None
    """Asked once, when nobody is aboard any more: whether the flight goes on nevertheless. Then somebody new
    is aboard."""
    departed: float = field(default_factory=monotonic)
    """When it was sent, in seconds of the monotonic clock."""
    landed: bool = False
    """Nothing more comes."""
    error: CallError | None = None
    _riders: set[Rider] = field(default_factory=set)
    _chunks: list[bytes] = field(default_factory=list)
    _first: int = 0
    """How many chunks were removed from the front of `_chunks`."""
    _size: int = 0
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def size(self) -> int:
        """Bytes that arrived so far."""
        return self._size

    @property
    def whole(self) -> list[bytes] | None:
        """All that arrived so far; None once it outgrew `capacity`."""
        return self._chunks if self._size <= self.capacity else None

    @property
    def keeps(self) -> bool:
        """Whether an answer that ends well is stored."""
        return not self.private and not self.stands_in

    @property
    def gathered(self) -> bool:
        """Whether its answer is wanted whole, not only as it comes."""
        return self.compared or not self.private

    @property
    def promising(self) -> bool:
        """An upstream works on it, and what comes may be stored."""
        refused = self.head.done() and (self.error is not None or self.head.result().status != 200)
        return self.keeps and not self.background and self.sent_to is not None and not refused

    def joinable(self, generation: int) -> bool:
        """By a call that began in that generation of the cache: not across a purge."""
        current = self.question.call.generation == generation
        return current and self.error is None and self.whole is not None

    async def push(self, chunk: bytes) -> None:
        """Hands a chunk to all riders, and waits while they are too far behind. A rider who stays behind for
        too long is left behind."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._signal()
        if self.whole is None:
            self.conclude(None)
        while self._too_far_ahead():
            self._room.clear()
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._room.wait()
            except TimeoutError:
                self._leave_behind()

    def _too_far_ahead(self) -> bool:
        read = [rider.read for rider in self._riders if not rider.waits]
        return bool(read) and (self._size - max(read) > LEAD_BYTES or self._size - min(read) > self.capacity)

    def _leave_behind(self) -> None:
        """Drops the riders for whom everybody else waits."""
        reading = [rider for rider in self._riders if not rider.waits]
        fastest = max((rider.read for rider in reading), default=0)
        if self._size - fastest > LEAD_BYTES:
            return
        for rider in reading:
            if rider.read < fastest and self._size - rider.read > self.capacity:
                self.leave(rider)

    def land(self) -> None:
        self.landed = True
        self._signal()

    def fail(self, error: CallError) -> None:
        """Riders who have had no byte yet are told at once, the others when they have read what there is."""
        self.error = error
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # marks it as seen: there may be nobody left to look
        self.conclude(None)
        self.land()

    def conclude(self, answer: bytes | None) -> None:
        """Sets `answer`, unless it is set already."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def _signal(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def board(self, waits: bool = False) -> Rider:
        """`waits`: the rider reads no bytes, it waits for `answer`."""
        rider = Rider(self, waits)
        self._riders.add(rider)
        return rider

    def leave(self, rider: Rider) -> None:
        self._riders.discard(rider)
        self._room.set()
        if self._riders or self.landed or self.task is None:
            return
        finish, self.finish = self.finish, None
        if finish is None or not finish(self):
            self.task.cancel()

    async def follow(self, rider: Rider) -> AsyncIterator[bytes]:
        """The rider's chunks. Raises the flight's error where the upstream broke off, and `CallerGone` at a
        rider who was left behind."""
        while True:
            while rider.position - self._first < len(self._chunks):
                chunk = self._chunks[rider.position - self._first]
                rider.position += 1
                rider.read += len(chunk)
                self._room.set()
                self._trim()
                yield chunk
                if rider not in self._riders:
                    raise CallerGone("the caller did not read its answer, and others waited for it")
            if self.landed:
                break
            await self._moved.wait()
        if self.error is not None:
            raise self.error

    def _trim(self) -> None:
        """Once the answer is too large to keep, removes what all have read."""
        if self.whole is None:
            read = min(rider.position for rider in self._riders if not rider.waits) - self._first
            del self._chunks[:read]
            self._first += read


@dataclass(eq=False)
class Rider:
    """One caller of a flight; a context manager, so that whoever leaves is no longer aboard."""

    flight: Flight
    waits: bool
    """It reads no bytes, it waits for the whole answer."""
    position: int = 0
    """Chunks that it has read."""
    read: int = 0
    """Bytes that it has read."""

    def __enter__(self) -> Rider:
        return self

    def __exit__(self, *_: object) -> None:
        self.flight.leave(self)

    def chunks(self) -> AsyncIterator[bytes]:
        return self.flight.follow(self)


class Flights:
    """The flights that may be joined, by what they ask."""

    def __init__(self) -> None:
        self._same: dict[bytes, Flight] = {}
        self._near: defaultdict[bytes, list[Flight]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._same)

    def same(self, digest: bytes, generation: int) -> Flight | None:
        """The flight that asks the same call to the letter; `digest`: its `Call.exact`. Not one from before a
        purge."""
        flight = self._same.get(digest)
        return flight if flight is not None and flight.joinable(generation) else None

    def boardable(
        self, question: Question, alike: Callable[[Question, Question], float | None]
    ) -> tuple[Flight, float] | None:
        """The flight whose answer will do for a question, and the similarity of the two questions.

        `alike(question, other)` is that similarity, or None where the other's answer will not do.
        """
        same = self.same(question.exact, question.call.generation)
        flights = [same] if same else self._newest(question)
        compared = ((flight, alike(question, flight.question)) for flight in flights)
        fit = [(flight, similarity) for flight, similarity in compared if similarity is not None]
        return max(fit, key=lambda pair: pair[1], default=None)

    def _newest(self, question: Question) -> Iterable[Flight]:
        """Joinable ones of the question's partition that ask something else."""
        policy = question.policy
        widened = policy.pressure > 0 and policy.category.load.share_flights
        newest = self._near.get(question.partition, ())[-(COMPARED_UNDER_PRESSURE if widened else COMPARED) :]
        return [flight for flight in newest if flight.joinable(question.call.generation)]

    def add(self, flight: Flight) -> None:
        self._same[flight.question.exact] = flight
        if flight.question.vector is not None:
            self._near[flight.question.partition].append(flight)

    def remove(self, flight: Flight) -> None:
        question = flight.question
        if self._same.get(question.exact) is flight:
            del self._same[question.exact]
        if flight in (near := self._near.get(question.partition, [])):
            near.remove(flight)
            if not near:
                del self._near[question.partition]
