"""A call's way up: sent, relayed to all who ride along while it arrives, and stored when it ended well."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from policies import storable
from policies.outage import Outage
from policies.storable import Ending
from proxy.cache import Cache
from proxy.dialects.base import JsonObject, dump
from proxy.errors import CallError, Unreachable
from proxy.flights import Flight, Flights, Question, Rider
from proxy.limits import Admission, Place
from proxy.load import Load, Track
from proxy.messages import Call
from proxy.tasks import Tasks
from proxy.upstream import Answer, Head, Read, Upstream, forwarded

log = logging.getLogger("nearhit.forwarding")

SLICE = 128
"""Events that are worked off before the loop gets its turn."""

REJECTED = (400, 422)
"""How servers answer a request with a member they do not know."""


class Forwarder:
    """Starts flights and sees them through."""

    def __init__(
        self,
        cache: Cache,
        upstream: Upstream,
        tasks: Tasks,
        clock: Callable[[], float],
        answer_bytes: int,
        load: Load,
        admission: Admission | None = None,
    ) -> None:
        """`load` is told of every call. `admission`: None lets every call go up at once."""
        self.load = load
        self.flights = Flights()
        self.outage = Outage()
        self.admission = admission
        self.under_way = 0
        """Calls on their way up, private ones too."""
        self._cache = cache
        self._upstream = upstream
        self._tasks = tasks
        self._clock = clock
        self._answer_bytes = answer_bytes
        self._knows_usage = True
        """Whether the upstream accepts being asked for a stream's usage; unlearnt when it does not."""

    def start(self, question: Question, private: bool = False, background: bool = False) -> Flight:
        """`private`: neither joined by others nor stored. `background`: nobody waits for it. The flight has
        no riders yet: board it before the next await."""
        private = private or not question.call.controls.write
        reading = question.call.reading
        track = self.load.of(reading.model).began(reading.model, reading.stream)
        flight = Flight(
            question, secrets.token_hex(12), self._clock(), self._answer_bytes, private, background
        )
        if not private:
            self.flights.add(flight)
        self.under_way += 1
        flight.task = self._tasks.spawn(self._fly(flight, track), name=f"flight-{flight.entry_id}")
        # Not in a `finally` of the task's: a task that is cancelled before its first step has none.
        flight.task.add_done_callback(lambda _: self._over(flight, track))
        return flight

    def _over(self, flight: Flight, track: Track) -> None:
        self.under_way -= 1
        self.flights.remove(flight)
        track.given_up()
        if not flight.landed:
            flight.fail(Unreachable("the call was given up"))
        flight.conclude(None)

    async def _fly(self, flight: Flight, track: Track) -> None:
        call, priority = flight.question.call, flight.question.policy.category.priority
        try:
            async with self._place(call, priority, flight.background) as place:
                head = await self._travel(flight, track, place)
        except CallError as error:
            track.failed(error)
            flight.fail(error)
        else:
            await self._keep(flight, head)

    @asynccontextmanager
    async def visit(self, call: Call, body: bytes, priority: int) -> AsyncIterator[Answer]:
        """A way up of its own: nobody rides along, and nothing is stored. Raises `CallError`."""
        track = self.load.of(call.reading.model).began(call.reading.model, call.reading.stream)
        self.under_way += 1
        try:
            async with (
                self._place(call, priority) as place,
                self._visited(call, body, track, place) as answer,
            ):
                yield answer
            track.landed(int(answer.head.headers.get("Content-Length", 0)))
        except CallError as error:
            track.failed(error)
            raise
        finally:
            track.given_up()
            self.under_way -= 1

    @asynccontextmanager
    async def _visited(
        self, call: Call, body: bytes, track: Track, place: Place | None
    ) -> AsyncIterator[Answer]:
        answered = False
        try:
            async with self._send(call, body) as answer:
                answered = True
                track.answered(answer.head)
                self._reached(answer.head, place)
                yield answer
        except CallError as error:
            if not answered:
                self.outage.failed()
                self._missed(error, place)
            raise

    @asynccontextmanager
    async def _place(
        self, call: Call, priority: int, background: bool = False
    ) -> AsyncIterator[Place | None]:
        if self.admission is None:
            yield None
            return
        kind = call.reading.model, call.reading.stream
        async with self.admission.place(kind, priority, call.tenant, background) as place:
            yield place

    async def _travel(self, flight: Flight, track: Track, place: Place | None) -> Head:
        flight.sent = True
        try:
            async with self._open(flight) as answer:
                track.answered(answer.head)
                self._answered(flight, answer.head, place)
                async for chunk in answer.chunks():
                    await flight.push(chunk)
        except CallError as error:
            if not flight.head.done():
                self._unanswered(flight, error, place)
            raise
        track.landed(flight.size)
        flight.land()
        return answer.head

    def _answered(self, flight: Flight, head: Head, place: Place | None) -> None:
        flight.head.set_result(head)
        self._reached(head, place)

    def _reached(self, head: Head, place: Place | None) -> None:
        self.outage.answered()
        if self.admission is not None and place is not None:
            self.admission.answered(place, head.status)

    def _unanswered(self, flight: Flight, error: CallError, place: Place | None) -> None:
        if not flight.overdue:
            self.outage.failed()
        self._missed(error, place)

    def _missed(self, error: CallError, place: Place | None) -> None:
        if self.admission is not None and place is not None:
            self.admission.failed(place, error)

    def overdue(self, flight: Flight) -> None:
        """Somebody aboard has waited for long enough and takes a stale answer. The flight goes on, so that
        the next caller has a new one."""
        if flight.overdue:
            return
        flight.overdue = True
        if flight.sent and not flight.head.done():
            self.outage.failed()
        if not flight.private:
            rider = flight.board(waits=True)
            self._tasks.spawn(_see_through(rider), name=f"late-{flight.entry_id}")

    @asynccontextmanager
    async def _open(self, flight: Flight) -> AsyncIterator[Answer | Read]:
        """With the stream's usage asked for, and without when the upstream takes offence at that."""
        call = flight.question.call
        richer = call.dialect.enrich(call.fields)
        flight.has_usage = True
        if richer is not None and self._knows_usage:
            async with self._send(call, dump(richer)) as answer:
                if answer.head.status not in REJECTED:
                    yield answer
                    return
                read = Read(answer.head, await answer.read())
            if not call.dialect.offended(read.body):
                yield read
                return
            log.warning("the upstream does not know stream_options: its streams cannot be stored")
            self._knows_usage = False
        async with self._send(call, call.body) as answer:
            flight.has_usage = richer is None
            yield answer

    @asynccontextmanager
    async def _send(self, call: Call, body: bytes) -> AsyncIterator[Answer]:
        headers = forwarded(call.headers)
        headers["Accept-Encoding"] = "identity"
        async with self._upstream.send("POST", call.target, headers, body) as answer:
            yield answer

    async def _keep(self, flight: Flight, head: Head) -> None:
        took_ms = (self._clock() - flight.started) * 1000
        call = flight.question.call
        body = decoded(flight.whole, head.headers, self._answer_bytes) if head.status == 200 else None
        whole = await self._gathered(flight, body) if body is not None else None
        ending = call.dialect.ending(whole) if whole is not None else Ending(whole=False)
        if whole is None or not ending.whole or body is None:
            return
        kept = dump(whole) if call.reading.stream else body
        if storable.objection(head.status, ending) is None and self._may_store(flight):
            self._store(flight, kept, whole, took_ms)
        flight.conclude(kept)

    async def _gathered(self, flight: Flight, body: bytes) -> JsonObject | None:
        call = flight.question.call
        if not call.reading.stream:
            return _object(body)
        gatherer = call.dialect.gatherer()
        splitter = call.dialect.framing.splitter()
        events = [*splitter.feed(body), splitter.rest()]
        for number, event in enumerate(events):
            gatherer.feed(event)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return gatherer.answer()

    def _may_store(self, flight: Flight) -> bool:
        """Not across a purge, and not over an answer to a later call."""
        question = flight.question
        newer = self._cache.entries.by_exact(question.exact)
        if newer is not None and newer.created > flight.started:
            return False
        return not flight.private and question.call.generation == self._cache.generation

    def _store(self, flight: Flight, body: bytes, whole: JsonObject, took_ms: float) -> None:
        question = flight.question
        usage = question.call.dialect.usage(whole)
        self._cache.keep(question, flight.entry_id, body, usage, took_ms, self._clock())


async def _see_through(rider: Rider) -> None:
    with rider:
        await asyncio.shield(rider.flight.answer)


def decoded(pieces: list[bytes] | None, headers: Mapping[str, str], limit: int) -> bytes | None:
    """The body without its content coding; None when it is incomplete, larger than `limit` bytes, or in a
    coding that we do not read."""
    if pieces is None:
        return None
    body, coding = b"".join(pieces), headers.get("Content-Encoding", "identity").strip().lower()
    if coding == "identity":
        return body
    if coding not in ("gzip", "deflate"):
        return None
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, limit)
    except zlib.error:
        return None
    return plain if inflater.eof else None


def _object(body: bytes) -> JsonObject | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
