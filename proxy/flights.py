"""Calls in flight to an upstream, and the riders: all callers who share one (single flight, request
collapsing).

A flight is a task of its own. It outlives the caller who started it for as long as somebody else rides along,
and is cancelled when nobody does. Its riders read one shared buffer, each at its own pace. Once the answer is
larger than `capacity`, the part that all have read is dropped, and no rider may be more than `capacity` bytes
behind.
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
"""Seconds for which the other riders wait for one that reads nothing."""

COMPARED, COMPARED_UNDER_PRESSURE = 64, 256
"""How many flights of its partition, the newest ones, a question is compared with."""


@dataclass(eq=False)
class Flight:
    question: Question
    entry_id: str
    started: float
    """Unix seconds."""
    capacity: int
    """Largest answer, in bytes, that is kept as a whole for late riders and for storing."""
    private: bool = False
    """Neither joined by others nor stored."""
    background: bool = False
    """No caller waits for it, so it is the first to be refused when places at the upstream are scarce."""
    sent_to: Backend | None = None
    """The upstream that was asked last. None: it is still waiting for its first place."""
    compared: bool = False
    """Its answer will be compared with a stored one."""
    stands_in: bool = False
    """The answer comes from a different model than the one asked for."""
    overdue: bool = False
    """A rider has waited too long for its first byte."""
    has_usage: bool = False
    """The stream reports its usage, whether we or the caller asked for it."""
    stored: bool = False
    """Its answer has been added to the cache."""
    head: asyncio.Future[Head] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    answer: asyncio.Future[bytes | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """The complete answer as one JSON object. None: it was incomplete, or outgrew `capacity`."""
    task: asyncio.Task[None] | None = None
    finish: Callable[[Flight], bool] | None = None
    """Called once, when the last rider has left. If it returns True it has boarded a rider of its own, and
    the flight goes on."""
    departed: float = field(default_factory=monotonic)
    """When it was sent, in seconds of the monotonic clock."""
    landed: bool = False
    """No more chunks will arrive."""
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
        """Bytes received so far."""
        return self._size

    @property
    def whole(self) -> list[bytes] | None:
        """All chunks received so far. None: they outgrew `capacity`."""
        return self._chunks if self._size <= self.capacity else None

    @property
    def keeps(self) -> bool:
        """Whether its answer is stored if it ends normally."""
        return not self.private and not self.stands_in

    @property
    def gathered(self) -> bool:
        """Whether the complete answer is needed, not only a relayed one."""
        return self.compared or not self.private

    @property
    def promising(self) -> bool:
        """Whether an upstream is working on it and the answer may be stored."""
        refused = self.head.done() and (self.error is not None or self.head.result().status != 200)
        return self.keeps and not self.background and self.sent_to is not None and not refused

    def joinable(self, generation: int) -> bool:
        """Whether a call that began in that generation of the cache may join: not across a purge."""
        current = self.question.call.generation == generation
        return current and self.error is None and self.whole is not None

    async def push(self, chunk: bytes) -> None:
        """Passes a chunk to all riders, and waits while they are too far behind. A rider that does not catch
        up is dropped."""
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
        """Drops the riders that hold up everybody else."""
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
        """Ends the flight with an error. Riders who are waiting for the head get it at once, the others after
        the chunks that have arrived."""
        self.error = error
        if not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # marks it as retrieved: there may be no rider left to do so
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
        """`waits`: the rider reads no chunks but waits for `answer`."""
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
        """The chunks for one rider. Raises the flight's error if the upstream broke off, and `CallerGone` if
        the rider was dropped for being too slow."""
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
        """Once the answer is too large to keep, removes what all riders have read."""
        if self.whole is None:
            read = min(rider.position for rider in self._riders if not rider.waits) - self._first
            del self._chunks[:read]
            self._first += read


@dataclass(eq=False)
class Rider:
    """One caller sharing a flight. It is a context manager that leaves the flight on exit."""

    flight: Flight
    waits: bool
    """It reads no chunks but waits for the complete answer."""
    position: int = 0
    """Chunks read so far."""
    read: int = 0
    """Bytes read so far."""

    def __enter__(self) -> Rider:
        return self

    def __exit__(self, *_: object) -> None:
        self.flight.leave(self)

    def chunks(self) -> AsyncIterator[bytes]:
        return self.flight.follow(self)


class Flights:
    """The flights that others may join, indexed by what they ask."""

    def __init__(self) -> None:
        self._same: dict[bytes, Flight] = {}
        self._near: defaultdict[bytes, list[Flight]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._same)

    def same(self, digest: bytes, generation: int) -> Flight | None:
        """The joinable flight of an identical call. `digest`: its `Call.exact`. `generation`: of the call
        that wants to join."""
        flight = self._same.get(digest)
        return flight if flight is not None and flight.joinable(generation) else None

    def boardable(
        self, question: Question, alike: Callable[[Question, Question], float | None]
    ) -> tuple[Flight, float] | None:
        """The flight whose answer will do for a question, and the similarity of the two questions.

        `alike(question, other)` returns that similarity, or None if the other's answer will not do.
        """
        same = self.same(question.exact, question.call.generation)
        flights = [same] if same else self._newest(question)
        compared = ((flight, alike(question, flight.question)) for flight in flights)
        fit = [(flight, similarity) for flight, similarity in compared if similarity is not None]
        return max(fit, key=lambda pair: pair[1], default=None)

    def _newest(self, question: Question) -> Iterable[Flight]:
        """The joinable ones among the newest flights of the question's partition."""
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
