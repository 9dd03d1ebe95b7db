"""The whole path of a cacheable call. Read this file first.

`Exchange.answer` is the path in order; every step either answers the call or leaves it to the next.
Whatever fails on the way (embedder, index, store) is a miss and is reported, never an error to the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Literal, TypeVar

from embeddings.base import EmbeddingError, TextTooLong, Vector
from policies.decision import Controls
from policies.model import InForce
from proxy.answers import Answers, Manner
from proxy.auditing import Auditor, Hit
from proxy.cache import AUTO_OFF, Cache, Found, Search, in_step
from proxy.errors import CallError, Crowded, NotCached, UpstreamSlow
from proxy.flights import Flight
from proxy.forwarding import Forwarder
from proxy.messages import Call, Question, shown
from proxy.renewals import Renewals
from proxy.sharing import Sharing
from proxy.trip import Reply, Trip
from proxy.upstreams.limits import OVERLOADED
from proxy.upstreams.upstream import Head

T = TypeVar("T")

ATTEMPTS = 3
"""Flights of others that a call may board before it goes up alone."""


class _Stranded(Exception):
    """The flight that was boarded brought nothing that this caller can use."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Exchange:
    def __init__(
        self,
        cache: Cache,
        forwarder: Forwarder,
        auditor: Auditor,
        renewals: Renewals,
        manner: Manner,
        sharing: Sharing | None = None,
    ) -> None:
        """`sharing`: with other replicas."""
        self._cache = cache
        self._forwarder = forwarder
        self._auditor = auditor
        self._renewals = renewals
        self._manner = manner
        self._answers = Answers(forwarder.fleet, manner)
        self._sharing = sharing

    async def answer(self, trip: Trip) -> Reply:
        call = trip.call
        pressure = trip.report.pressure = self._cache.pressure(call.reading.model)
        if not call.controls.read and not call.controls.write:
            return await self._bypass(trip, "no-store")
        if call.reading.barred:
            return await self._bypass(trip, call.reading.barred)
        if call.controls.read and (reply := await self._from_exact(trip, pressure)):
            return reply
        started = perf_counter()
        question = await self._understand(trip)
        if barred := question.policy.category.barred:
            return await self._bypass(trip, barred, question)
        if not call.controls.read:
            trip.report.bypassed("no-cache")
        elif reply := await self._from_near(trip, question, started):
            return reply
        _demand_upstream(call.controls)
        return await self._from_upstream(trip, question)

    # The tiers

    async def _from_exact(self, trip: Trip, pressure: float) -> Reply | None:
        if reply := await self._from(trip, self._cache.exact(trip.call, trip.now, pressure)):
            return reply
        if reply := await self._spared(trip):
            return reply
        flight = self._forwarder.flights.same(trip.call.exact(trip.call.tenant), trip.call.generation)
        if flight is None or trip.call.controls.only_if_cached or _named_otherwise(trip.call, flight):
            return None
        return await self._join(trip, flight, 1.0)

    async def _from_near(self, trip: Trip, question: Question, started: float) -> Reply | None:
        search = await self._cache.near(question, trip.now)
        if search.failed:
            trip.report.degraded = "index-failed"
        if question.vector is not None and search.refused != AUTO_OFF:
            trip.report.lookup_ms, trip.report.near = _since(started), search.fresh is not None
        trip.report.similarity, trip.report.threshold = search.nearest, question.policy.threshold
        trip.report.reason = search.refused
        if search.fresh is not None:
            await in_step()
        return await self._from(trip, search)

    async def _from(self, trip: Trip, search: Search) -> Reply | None:
        """Serves what was found, if its document is still there."""
        if search.stale is not None and not search.stale.shadowed:
            trip.stale = trip.stale or search.stale
        if (found := search.fresh) is None:
            trip.report.unfit = trip.report.unfit or _unfit(search)
            return None
        body = await self._load(trip, found)
        if body is None:
            return None
        if found.shadowed:
            trip.report.found(found, trip.now)
            return await self._shadow(trip, found.entry.category, Hit(trip.call, found, body))
        if found.verdict.freshness == "revalidate":
            self._renewals.start(trip.call, found)
        self._auditor.served(Hit(trip.call, found, body))
        return await self._replay(trip, found, body)

    async def _load(self, trip: Trip, found: Found) -> bytes | None:
        started = perf_counter()
        body = await self._cache.load(found.entry, trip.now)
        trip.report.load_ms = _since(started)
        if body is None:
            trip.report.degraded = "document-lost"
        return body

    # What is asked

    async def _understand(self, trip: Trip) -> Question:
        unsought = self._cache.unsought(trip.call)
        vector = None if unsought else await self._embed(trip)
        classification = unsought or self._cache.classify(trip.call, vector)
        trip.report.classified(classification)
        await in_step()
        return self._cache.question(trip.call, classification.category, vector)

    async def _embed(self, trip: Trip) -> Vector | None:
        """None: only the exact tier can help this call, now and when it comes again."""
        if trip.call.text is None:
            trip.report.reason = trip.call.reading.opaque
            return None
        started = perf_counter()
        try:
            return await self._cache.embed_asked(trip.call.text, trip.call.tenant)
        except TextTooLong:
            trip.report.reason = "too-long"
        except EmbeddingError as error:
            trip.report.degraded = type(error).__name__
        finally:
            trip.report.embed_ms = _since(started)
        return None

    # The way up

    async def _from_upstream(self, trip: Trip, question: Question) -> Reply:
        if reply := await self._spared(trip):
            return reply
        if reply := await self._aboard(trip, question):
            return reply
        if self._shares(trip) and (reply := await self._from_replica(trip, question)):
            return reply
        if trip.failed is not None:
            return await self._stand_in(trip, trip.failed)
        return await self._lead(trip, self._forwarder.start(question))

    async def _aboard(self, trip: Trip, question: Question) -> Reply | None:
        for _ in range(ATTEMPTS if trip.call.controls.read else 0):
            flight, similarity = self._forwarder.flights.boardable(question, self._cache.alike)
            if flight is None or trip.failed is not None:
                break
            if reply := await self._join(trip, flight, similarity):
                return reply
        return None

    def _shares(self, trip: Trip) -> bool:
        """Whether another replica is waited for. Not by who has a stale answer: that one waits by itself."""
        controls = trip.call.controls
        return controls.read and controls.write and trip.failed is None and trip.stale is None

    async def _from_replica(self, trip: Trip, question: Question) -> Reply | None:
        """What another replica has just been told by the upstream. None: this call goes up; meanwhile the
        others wait for it, if nobody was before it."""
        if self._sharing is None or (asked := await self._sharing.ask(question)) == "alone":
            return None
        leads = False
        try:
            search = self._cache.exact(trip.call, trip.now, question.policy.pressure)
            if search.fresh is not None:
                trip.now = max(trip.now, search.fresh.entry.created)
            reply = await self._from(trip, search) or await self._aboard(trip, question)
            leads = asked == "mine" and reply is None and trip.failed is None
        finally:  # also when the caller leaves meanwhile
            if asked == "mine" and not leads:
                self._sharing.yield_up(question)
        if not leads:
            return reply
        flight = self._forwarder.start(question)
        self._sharing.keep(flight)
        return await self._lead(trip, flight)

    async def _spared(self, trip: Trip) -> Reply | None:
        """The stale answer at once, while there is no use in asking or the category would rather not."""
        if trip.stale is None:
            return None
        if not self._forwarder.fleet.down(trip.call.reading.model):
            return await self._instead(trip, 0) if self._overloaded(trip, trip.stale.policy) else None
        if reply := await self._instead(trip, 0):
            self._renewals.start(trip.call, trip.stale)
        return reply

    def _overloaded(self, trip: Trip, policy: InForce) -> bool:
        bound = policy.category.load.stale_at
        crowded = self._forwarder.fleet.at(trip.call.reading.model).crowded
        return bound is not None and (crowded or policy.pressure >= bound)

    async def _join(self, trip: Trip, flight: Flight, similarity: float) -> Reply | None:
        """The answer to somebody else's call. None when it cannot be had that way: then this call goes its
        own."""
        report = trip.report
        report.outcome, report.tier, report.collapsed = "HIT", "inflight", True
        report.similarity, report.entry_id = similarity, flight.entry_id
        category = flight.question.policy.category.name
        report.category = report.category or self._cache.known(trip.call.controls.category or category)
        report.matched = shown(flight.question.call.text or "")
        if self._cache.shadowed(report.category, category, flight.question.call.text == trip.call.text):
            return await self._shadow(trip, report.category)
        try:
            return await self._ride(trip, flight)
        except (_Stranded, CallError) as error:
            if report.status:
                raise  # the caller has had a part of it
            trip.failed = error if isinstance(error, Crowded | UpstreamSlow) else None
            status = error.status if isinstance(error, _Stranded) else 0
            if status in OVERLOADED and (reply := await self._instead(trip, status)):
                return reply
            report.outcome, report.tier, report.collapsed, report.entry_id = "MISS", None, False, ""
            report.age = None
            return None

    async def _ride(self, trip: Trip, flight: Flight) -> Reply:
        mine, theirs = trip.call, flight.question.call
        one_form = mine.dialect.framing is theirs.dialect.framing
        streams = mine.reading.stream and theirs.reading.stream and one_form
        with flight.board(waits=not streams) as rider:

            async def arrival() -> tuple[Head, AsyncIterator[bytes] | bytes | None]:
                head = await asyncio.shield(flight.head)
                if head.status != 200:
                    raise _Stranded(head.status)
                return head, await (_begun(rider.chunks()) if streams else asyncio.shield(flight.answer))

            head, answer = await self._patiently(trip, flight, arrival)
            if answer is None:
                raise _Stranded(head.status)
            trip.report.age = head.age  # it was not made for this caller (RFC 9111, section 5.1)
            if not isinstance(answer, bytes):
                return await self._answers.ridden(trip, head, rider, answer)
        return await self._answers.stored(trip, answer)

    async def _lead(self, trip: Trip, flight: Flight) -> Reply:
        """This caller's own way up, on which others may ride along."""
        report, started = trip.report, perf_counter()
        report.forwarded = True
        with flight.board() as rider:
            if await self._answers.waits_long(trip, flight):
                return await self._answers.commented(trip, flight, rider)

            async def arrival() -> tuple[Head, AsyncIterator[bytes]]:
                head = await asyncio.shield(flight.head)
                report.upstream_ms = _since(started)
                return head, rider.chunks() if trip.stale is None else await _begun(rider.chunks())

            try:
                head, chunks = await self._patiently(trip, flight, arrival)
            except CallError as error:
                return await self._stand_in(trip, error)
            if head.status in OVERLOADED and (reply := await self._instead(trip, head.status)):
                return reply
            report.upstream = flight.sent_to.name if flight.sent_to else ""
            reply = await self._answers.led(trip, head, rider, chunks)
            report.answer_ms = _since(started) if head.status == 200 else None
            return reply

    async def _patiently(self, trip: Trip, flight: Flight, arrival: Callable[[], Awaitable[T]]) -> T:
        """What arrives. Who has a stale answer waits for twice as long as that took, or a little longer, and
        then raises `UpstreamSlow`; should that answer be lost, it waits on as one who never had any."""
        if trip.stale is not None:
            patience_s = max(self._manner.stale_after_s, 2 * trip.stale.entry.cost_ms / 1000)
            try:
                async with asyncio.timeout(patience_s):
                    return await arrival()
            except TimeoutError:
                if await self._stale_body(trip) is not None:
                    self._forwarder.overdue(flight)
                    raise UpstreamSlow("the upstream takes its time: there is a stale answer") from None
        return await arrival()

    async def _stand_in(self, trip: Trip, error: CallError) -> Reply:
        """The stale answer for an error of ours."""
        refused = isinstance(error, Crowded)
        trip.report.error = error.code
        trip.report.forwarded = trip.report.forwarded and not refused
        return await self._instead(trip, 0 if refused else error.status) or _raise(error)

    async def _instead(self, trip: Trip, status: int) -> Reply | None:
        """The stale answer. `status`: of the upstream's failure; 0: it was not asked."""
        body = await self._stale_body(trip)
        if trip.stale is None or body is None:
            return None
        trip.report.upstream_status = status
        return await self._replay(trip, trip.stale, body)

    async def _stale_body(self, trip: Trip) -> bytes | None:
        """Loaded once. None: there is no stale answer, or no longer."""
        if trip.stale is not None and trip.stale_body is None:
            trip.stale_body = await self._load(trip, trip.stale)
            trip.stale = trip.stale if trip.stale_body is not None else None
        return trip.stale_body

    async def _bypass(self, trip: Trip, reason: str, question: Question | None = None) -> Reply:
        trip.report.bypassed(reason)
        _demand_upstream(trip.call.controls)
        question = question or self._cache.question(trip.call, trip.call.controls.category or "default", None)
        return await self._lead(trip, self._forwarder.start(question, private=True))

    async def _shadow(self, trip: Trip, category: str, hit: Hit | None = None) -> Reply:
        """A hit that is counted and not served: the upstream answers. Nothing is stored, as after a hit."""
        trip.report.shadowed()
        _demand_upstream(trip.call.controls)
        question = self._cache.question(trip.call, category, None)
        flight = self._forwarder.start(question, private=True)
        if hit is not None:
            self._auditor.shadowed(hit, flight)
        return await self._lead(trip, flight)

    async def _replay(self, trip: Trip, found: Found, body: bytes) -> Reply:
        trip.report.found(found, trip.now)
        return await self._answers.stored(trip, body)


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same once the first chunk is there; raises what keeps it from coming."""
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return all_of_them()


def _unfit(search: Search) -> Literal["", "stale", "request"]:
    if search.refused == "max-age":
        return "request"
    return "stale" if search.refused == "expired" or search.stale is not None else ""


def _named_otherwise(call: Call, flight: Flight) -> bool:
    """The caller names another category, which may want no answer that others share."""
    return call.controls.category not in (None, flight.question.policy.category.name)


def _demand_upstream(controls: Controls) -> None:
    if controls.only_if_cached:
        raise NotCached


def _raise(error: CallError) -> Reply:
    raise error


def _since(started: float) -> float:
    return (perf_counter() - started) * 1000
