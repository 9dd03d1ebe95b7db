"""The whole path of a cacheable call. Read this file first.

`Exchange.answer` is the path in order: each step either answers the call or leaves it to the next one. If the
embedder, the index or the store fails, the call is a miss and the failure is reported; the caller never gets
an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Literal, TypeVar

from embeddings.base import EmbeddingError, TextTooLong, Vector
from policies.decision import Controls
from policies.model import InForce
from proxy.answers import AnswerOptions, Answers
from proxy.auditing import Auditor, Hit
from proxy.cache import AUTO_OFF, Cache, Found, Search, in_step
from proxy.errors import CallError, Crowded, NotCached, UpstreamSlow
from proxy.flights import Flight
from proxy.forwarding import Forwarder
from proxy.messages import Call, Question
from proxy.renewals import Renewals
from proxy.sharing import Sharing
from proxy.trip import Reply, Trip
from proxy.upstreams.limits import OVERLOADED
from proxy.upstreams.upstream import Head

T = TypeVar("T")

ATTEMPTS = 3
"""How many flights of others a call may board, one after another, before it goes upstream itself."""


class _NoAnswer(Exception):
    """The boarded flight brought no answer that this caller can use. `status`: the upstream's."""

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
        options: AnswerOptions,
        sharing: Sharing | None = None,
    ) -> None:
        """`sharing`: sends a question upstream only once among all replicas. None: there are no others."""
        self._cache = cache
        self._forwarder = forwarder
        self._auditor = auditor
        self._renewals = renewals
        self._options = options
        self._answers = Answers(forwarder.fleet, options)
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
        elif reply := await self._from_semantic(trip, question, started):
            return reply
        _refuse_if_only_cached(call.controls)
        return await self._from_upstream(trip, question)

    # The tiers

    async def _from_exact(self, trip: Trip, pressure: float) -> Reply | None:
        if reply := await self._serve(trip, self._cache.exact(trip.call, trip.now, pressure)):
            return reply
        if reply := await self._stale_at_once(trip):
            return reply
        flight = self._forwarder.flights.same(trip.call.exact(trip.call.tenant), trip.call.generation)
        if flight is None or trip.call.controls.only_if_cached or not self._may_board(trip.call, flight):
            return None
        return await self._join(trip, flight, 1.0)

    def _may_board(self, call: Call, flight: Flight) -> bool:
        """Not where the caller named another category, which may not be open to others, nor where that of the
        flight was closed since it set out."""
        category = flight.question.policy.category.name
        return call.controls.category in (None, category) and self._cache.open_to(call, call.tenant, category)

    async def _from_semantic(self, trip: Trip, question: Question, started: float) -> Reply | None:
        search = await self._cache.semantic(question, trip.now)
        if search.failed:
            trip.report.degraded = "index-failed"
        if question.vector is not None and search.refused != AUTO_OFF:
            trip.report.lookup_ms, trip.report.near = _since(started), search.fresh is not None
        trip.report.similarity, trip.report.threshold = search.nearest, question.policy.threshold
        trip.report.reason = search.refused
        if search.fresh is not None:
            await in_step()
        return await self._serve(trip, search)

    async def _serve(self, trip: Trip, search: Search) -> Reply | None:
        """Serves the fresh answer that was found, if its document still exists. Keeps a stale one for
        later."""
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

    # Embedding and classifying

    async def _understand(self, trip: Trip) -> Question:
        off = self._cache.classified_off(trip.call)
        vector = None if off else await self._embed(trip)
        classification = off or self._cache.classify(trip.call, vector)
        trip.report.classified(classification)
        await in_step()
        return self._cache.question(trip.call, classification.category, vector)

    async def _embed(self, trip: Trip) -> Vector | None:
        """The text's vector. None: there is none, so only the exact and in-flight tiers can answer this call,
        and only an identical call will find its answer."""
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

    # Going upstream

    async def _from_upstream(self, trip: Trip, question: Question) -> Reply:
        if reply := await self._stale_at_once(trip):
            return reply
        if reply := await self._from_inflight(trip, question):
            return reply
        if self._waits_for_replicas(trip) and (reply := await self._from_replica(trip, question)):
            return reply
        if trip.failed is not None:
            return await self._stale_or_raise(trip, trip.failed)
        return await self._lead(trip, self._forwarder.start(question))

    async def _from_inflight(self, trip: Trip, question: Question) -> Reply | None:
        """The answer to another caller's call in flight that asks the same or something similar."""
        for _ in range(ATTEMPTS if trip.call.controls.read else 0):
            found = self._forwarder.flights.boardable(question, self._cache.alike)
            if found is None or trip.failed is not None:
                break
            if reply := await self._join(trip, *found):
                return reply
        return None

    def _waits_for_replicas(self, trip: Trip) -> bool:
        """Whether to wait for other replicas: not if there is a stale answer, as that limits the wait."""
        controls = trip.call.controls
        return controls.read and controls.write and trip.failed is None and trip.stale is None

    async def _from_replica(self, trip: Trip, question: Question) -> Reply | None:
        """The answer that another replica has just received. If this call is the first among the replicas to
        ask, it goes upstream here, and the others wait for its answer. None: the caller must send it."""
        if self._sharing is None or (asked := await self._sharing.ask(question)) == "alone":
            return None
        leads = False
        try:
            search = self._cache.exact(trip.call, trip.now, question.policy.pressure)
            if search.fresh is not None:
                trip.now = max(trip.now, search.fresh.entry.created)
            reply = await self._serve(trip, search) or await self._from_inflight(trip, question)
            leads = asked == "mine" and reply is None and trip.failed is None
        finally:  # also if the caller leaves in the meantime
            if asked == "mine" and not leads:
                self._sharing.yield_up(question)
        if not leads:
            return reply
        flight = self._forwarder.start(question)
        self._sharing.keep(flight)
        return await self._lead(trip, flight)

    async def _stale_at_once(self, trip: Trip) -> Reply | None:
        """The stale answer without asking the upstream, while that is down or under so much pressure that the
        category prefers a stale answer (`load.stale_at`)."""
        if trip.stale is None:
            return None
        if not self._forwarder.fleet.down(trip.call.reading.model):
            return await self._serve_stale(trip, 0) if self._overloaded(trip, trip.stale.policy) else None
        if reply := await self._serve_stale(trip, 0):
            self._renewals.start(trip.call, trip.stale)
        return reply

    def _overloaded(self, trip: Trip, policy: InForce) -> bool:
        bound = policy.category.load.stale_at
        crowded = self._forwarder.fleet.at(trip.call.reading.model).crowded
        return bound is not None and (crowded or policy.pressure >= bound)

    async def _join(self, trip: Trip, flight: Flight, similarity: float) -> Reply | None:
        """The answer to somebody else's call. None: it did not work out, and this call must go upstream."""
        report, theirs = trip.report, flight.question.call
        category = flight.question.policy.category.name
        report.category = report.category or self._cache.known(trip.call.controls.category or category)
        report.joined(flight.entry_id, theirs.text or "", similarity)
        if self._cache.shadowed(report.category, category, theirs.text == trip.call.text):
            return await self._shadow(trip, report.category)
        try:
            return await self._ride(trip, flight)
        except (_NoAnswer, CallError) as error:
            if report.status:
                raise  # part of the answer has been sent already
            trip.failed = error if isinstance(error, Crowded | UpstreamSlow) else None
            status = error.status if isinstance(error, _NoAnswer) else 0
            if status in OVERLOADED and (reply := await self._serve_stale(trip, status)):
                return reply
            report.joined_in_vain()
            return None

    async def _ride(self, trip: Trip, flight: Flight) -> Reply:
        """Passes on the flight's answer: as it arrives if both callers want the same kind of stream, else
        once it is complete."""
        streams = _same_stream(trip.call, flight.question.call)
        with flight.board(waits=not streams) as rider:

            async def stream() -> tuple[Head, AsyncIterator[bytes]]:
                return await _good_head(flight), await _begun(rider.chunks())

            async def whole() -> tuple[Head, bytes]:
                head, answer = await _good_head(flight), await asyncio.shield(flight.answer)
                if answer is None:
                    raise _NoAnswer(head.status)
                return head, answer

            if streams:
                head, chunks = await self._patiently(trip, flight, stream)
                trip.report.age = head.age  # the answer was not made for this caller (RFC 9111, section 5.1)
                return await self._answers.for_rider(trip, head, rider, chunks)
            head, answer = await self._patiently(trip, flight, whole)
        trip.report.age = head.age
        return await self._answers.from_cache(trip, answer)

    async def _lead(self, trip: Trip, flight: Flight) -> Reply:
        """The answer to a call that goes up for this caller; others may ride along."""
        report, started = trip.report, perf_counter()
        report.forwarded = True
        with flight.board() as rider:
            if await self._answers.is_kept_waiting(trip, flight):
                return await self._answers.with_comments(trip, flight, rider)

            async def arrival() -> tuple[Head, AsyncIterator[bytes]]:
                head = await asyncio.shield(flight.head)
                report.upstream_ms = _since(started)
                return head, rider.chunks() if trip.stale is None else await _begun(rider.chunks())

            try:
                head, chunks = await self._patiently(trip, flight, arrival)
            except CallError as error:
                return await self._stale_or_raise(trip, error)
            if head.status in OVERLOADED and (reply := await self._serve_stale(trip, head.status)):
                return reply
            report.upstream = flight.sent_to.name if flight.sent_to else ""
            reply = await self._answers.for_leader(trip, head, rider, chunks)
            report.answer_ms = _since(started) if head.status == 200 else None
            return reply

    async def _patiently(self, trip: Trip, flight: Flight, arrival: Callable[[], Awaitable[T]]) -> T:
        """Awaits `arrival`. If there is a stale answer, it may take `stale_after_s`, or twice the time that
        the stale answer took if that is longer; after that, this raises `UpstreamSlow`. If the stale answer
        turns out to be lost, the wait goes on without a limit."""
        if trip.stale is not None:
            patience_s = max(self._options.stale_after_s, 2 * trip.stale.entry.cost_ms / 1000)
            try:
                async with asyncio.timeout(patience_s):
                    return await arrival()
            except TimeoutError:
                if await self._stale_body(trip) is not None:
                    self._forwarder.overdue(flight)
                    raise UpstreamSlow("the upstream is slow, and there is a stale answer") from None
        return await arrival()

    async def _stale_or_raise(self, trip: Trip, error: CallError) -> Reply:
        """Serves the stale answer in place of our own error. Raises the error if there is no stale answer."""
        refused = isinstance(error, Crowded)
        trip.report.error = error.code
        trip.report.forwarded = trip.report.forwarded and not refused
        if reply := await self._serve_stale(trip, 0 if refused else error.status):
            return reply
        raise error

    async def _serve_stale(self, trip: Trip, status: int) -> Reply | None:
        """Serves the stale answer, if there is one. `status`: of the upstream's failure; 0: not asked."""
        body = await self._stale_body(trip)
        if trip.stale is None or body is None:
            return None
        trip.report.upstream_status = status
        return await self._replay(trip, trip.stale, body)

    async def _stale_body(self, trip: Trip) -> bytes | None:
        """The stale answer's body, loaded only once. None: there is none, or it has been lost."""
        if trip.stale is not None and trip.stale_body is None:
            trip.stale_body = await self._load(trip, trip.stale)
            trip.stale = trip.stale if trip.stale_body is not None else None
        return trip.stale_body

    async def _bypass(self, trip: Trip, reason: str, question: Question | None = None) -> Reply:
        trip.report.bypassed(reason)
        _refuse_if_only_cached(trip.call.controls)
        question = question or self._cache.question(trip.call, trip.call.controls.category or "default", None)
        return await self._lead(trip, self._forwarder.start(question, private=True))

    async def _shadow(self, trip: Trip, category: str, hit: Hit | None = None) -> Reply:
        """A hit that is counted but not served: the upstream answers. As after any hit, nothing is stored."""
        trip.report.shadowed()
        _refuse_if_only_cached(trip.call.controls)
        question = self._cache.question(trip.call, category, None)
        flight = self._forwarder.start(question, private=True)
        if hit is not None:
            self._auditor.shadowed(hit, flight)
        return await self._lead(trip, flight)

    async def _replay(self, trip: Trip, found: Found, body: bytes) -> Reply:
        trip.report.found(found, trip.now)
        return await self._answers.from_cache(trip, body)


def _same_stream(mine: Call, theirs: Call) -> bool:
    """Whether both want a stream, with the same framing."""
    return mine.reading.stream and theirs.reading.stream and mine.dialect.framing is theirs.dialect.framing


async def _good_head(flight: Flight) -> Head:
    """The head of a successful answer. Raises `_NoAnswer` if the upstream answered with an error, and the
    flight's own error if no head came."""
    head = await asyncio.shield(flight.head)
    if head.status != 200:
        raise _NoAnswer(head.status)
    return head


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, once the first one has arrived. Raises whatever prevents it from arriving."""
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return all_of_them()


def _unfit(search: Search) -> Literal["", "stale", "request"]:
    """The value for `Report.unfit`."""
    if search.refused == "max-age":
        return "request"
    return "stale" if search.refused == "expired" or search.stale is not None else ""


def _refuse_if_only_cached(controls: Controls) -> None:
    """Raises `NotCached` if the caller accepts only a cached answer."""
    if controls.only_if_cached:
        raise NotCached


def _since(started: float) -> float:
    """Milliseconds since then."""
    return (perf_counter() - started) * 1000
