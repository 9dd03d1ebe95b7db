"""Sends calls upstream: the answer is relayed to all who ride along as it arrives, and stored if it ended
normally."""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from math import isfinite
from time import monotonic
from typing import Literal

from policies import storable
from policies.admission import Kind
from policies.finishing import Finishing
from proxy.aside import loaded
from proxy.cache import Cache
from proxy.dialects.base import MALFORMED, JsonObject, dump
from proxy.errors import CallError, Unreachable
from proxy.flights import Flight, Flights, Rider
from proxy.messages import Call, Question
from proxy.tasks import Tasks
from proxy.upstreams.fleet import Backend, Fleet, first_to_answer
from proxy.upstreams.upstream import Answer, Head, ReadAnswer

log = logging.getLogger("nearhit.forwarding")

SLICE = 128
"""Events that are gathered before other tasks on the event loop get a turn."""

_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
_FORMS = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, _RAW)}
"""The formats to try for each content coding (RFC 9110, section 8.4.1). Some servers send `deflate` without
the zlib header."""

REJECTED = (400, 422)
"""Statuses that servers give for a request with a member they do not know."""


class Forwarder:
    """Starts flights and sees them through."""

    def __init__(
        self,
        cache: Cache,
        fleet: Fleet,
        tasks: Tasks,
        clock: Callable[[], float],
        answer_bytes: int,
        finish_share: float | Literal["off"] = "off",
    ) -> None:
        """`answer_bytes`: largest answer that is kept. `finish_share`: share of an answer's usual time, 0 to
        1, after which it is finished even if all callers have left."""
        self.fleet = fleet
        self.flights = Flights()
        self.under_way = 0
        """Calls in flight, including private ones."""
        self._cache = cache
        self._tasks = tasks
        self._clock = clock
        self._answer_bytes = answer_bytes
        self._finishing: Finishing[Kind] | None = None if finish_share == "off" else Finishing(finish_share)

    def start(self, question: Question, private: bool = False, background: bool = False) -> Flight:
        """Sends a call upstream. `private`: neither joined by others nor stored. `background`: no caller
        waits for it. The flight has no riders yet: board it before the next await."""
        private = private or not question.call.controls.write
        flight = Flight(
            question, secrets.token_hex(12), self._clock(), self._answer_bytes, private, background
        )
        flight.finish = self._finish
        if not private:
            self.flights.add(flight)
        self.under_way += 1
        flight.task = self._tasks.spawn(self._fly(flight), name=f"flight-{flight.entry_id}")
        # Not in a `finally` of the task, which does not run if the task is cancelled before its first step.
        flight.task.add_done_callback(lambda _: self._over(flight))
        return flight

    def _over(self, flight: Flight) -> None:
        self.under_way -= 1
        self.flights.remove(flight)
        if not flight.landed:
            flight.fail(Unreachable("the call was given up"))
        flight.conclude(None)

    async def _fly(self, flight: Flight) -> None:
        try:
            head = await self._relay(flight)
        except CallError as error:
            flight.fail(error)
        else:
            await self._conclude(flight, head)

    async def _relay(self, flight: Flight) -> Head:
        """Sends the call upstream and passes the answer to the riders as it arrives. Raises `CallError`."""
        call, priority = flight.question.call, flight.question.policy.category.priority

        def ask(backend: Backend) -> AbstractAsyncContextManager[Answer | ReadAnswer]:
            opened = self._open(backend, flight)
            return backend.ask(call, priority, opened, flight.background, lambda: flight.overdue)

        with self.fleet.route(call.reading.model, flight.background) as route:
            async with first_to_answer(route, ask) as (backend, answer):
                flight.stands_in = not self.fleet.same_answers(call.reading.model, backend)
                flight.head.set_result(answer.head)
                async for chunk in answer.chunks():
                    await flight.push(chunk)
        flight.land()
        return answer.head

    @asynccontextmanager
    async def send_alone(
        self, call: Call, body: bytes, priority: int
    ) -> AsyncIterator[tuple[Backend, Answer | ReadAnswer]]:
        """Sends a call that has no riders and whose answer is not stored here. Raises `CallError`."""

        def ask(backend: Backend) -> AbstractAsyncContextManager[Answer | ReadAnswer]:
            return backend.ask(call, priority, backend.send(call, body))

        self.under_way += 1
        try:
            with self.fleet.route(call.reading.model) as route:
                async with first_to_answer(route, ask) as found:
                    yield found
        finally:
            self.under_way -= 1

    def overdue(self, flight: Flight) -> None:
        """A rider has waited long enough and gets a stale answer instead. The flight goes on without it, so
        that the next caller gets a fresh answer."""
        if flight.overdue:
            return
        flight.overdue = True
        if flight.sent_to is not None and not flight.head.done():
            flight.sent_to.missed("it did not answer in time")
            flight.sent_to.errors["timeout"] += 1
        if not flight.private:
            rider = flight.board(waits=True)
            self._tasks.spawn(_see_through(rider), name=f"late-{flight.entry_id}")

    def _finish(self, flight: Flight) -> bool:
        """The callback for `Flight.finish`: a flight that is nearly done goes on for a while, unless the
        upstream is under pressure."""
        call = flight.question.call
        if self._finishing is None or not flight.promising or self._cache.pressure(call.reading.model) > 0:
            return False
        patience = self._finishing.patience(_kind(call), monotonic() - flight.departed)
        if patience:
            work = _see_through(flight.board(waits=True), patience)
            self._tasks.spawn(work, name=f"finish-{flight.entry_id}")
        return bool(patience)

    @asynccontextmanager
    async def _open(self, backend: Backend, flight: Flight) -> AsyncIterator[Answer | ReadAnswer]:
        """Sends the call to one upstream. If the complete answer is wanted, the stream is asked to report its
        usage; if the upstream rejects that, the call is sent again unchanged."""
        flight.sent_to, flight.departed = backend, monotonic()
        call = flight.question.call
        enrichment = call.dialect.enrichment
        richer = enrichment.enrich(call.fields)
        flight.has_usage, rejected = True, False
        if richer is not None and flight.gathered and backend.knows_usage is not False:
            async with backend.send(call, dump(richer)) as answer:
                if answer.head.status not in REJECTED:
                    backend.knows_usage = backend.knows_usage or answer.head.status == 200 or None
                    yield answer
                    return
                read = ReadAnswer(answer.head, await answer.read())
            # An upstream that has never accepted it may reject it without saying why.
            rejected = enrichment.is_rejection(read.body)
            if not rejected and backend.knows_usage:
                yield read
                return
        async with backend.send(call, call.body) as answer:
            flight.has_usage = richer is None
            if rejected and answer.head.status == 200:  # otherwise the call itself was at fault
                log.warning("upstream %s knows no stream_options: its streams cannot be stored", backend.name)
                backend.knows_usage = False
            yield answer

    async def _conclude(self, flight: Flight, head: Head) -> None:
        """Turns a complete answer into one JSON object, stores it if it may be stored, and hands it to the
        riders who wait for the whole. Ignores errors and incomplete answers."""
        took_ms = (self._clock() - flight.started) * 1000
        call = flight.question.call
        if self._finishing is not None and head.status == 200:
            self._finishing.note(_kind(call), monotonic() - flight.departed)
        body = decoded(flight.whole, head.headers, self._answer_bytes) if head.status == 200 else None
        if body is None:
            return
        try:
            whole = await self._gathered(flight, body)
            if whole is None or not (ending := call.dialect.ending(whole)).whole:
                return
            kept = dump(whole, strict=True) if call.reading.stream else body
        except MALFORMED:
            return
        if storable.objection(head.status, ending) is None and self._may_store(flight):
            self._store(flight, kept, whole, took_ms, head.age)
        flight.conclude(kept)

    async def _gathered(self, flight: Flight, body: bytes) -> JsonObject | None:
        """The answer as one object, assembled from its events if it is a stream. None: it is incomplete.
        Raises one of `MALFORMED`."""
        call = flight.question.call
        if not call.reading.stream:
            return await _object(body)
        gatherer = call.dialect.gatherer()
        splitter = call.dialect.framing.splitter()
        events = [*splitter.feed(body.removeprefix(BOM_UTF8)), splitter.rest()]
        for number, event in enumerate(events):
            gatherer.feed(event)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        return gatherer.answer()

    def _may_store(self, flight: Flight) -> bool:
        """Whether the answer may be stored: not across a purge, and not over the answer to a later call."""
        question = flight.question
        newer = self._cache.entries.by_exact(question.exact)
        if newer is not None and newer.created > flight.started:
            return False
        return flight.keeps and question.call.generation == self._cache.generation

    def _store(self, flight: Flight, body: bytes, whole: JsonObject, took_ms: float, age: float) -> None:
        question, now = flight.question, self._clock()
        usage = question.call.dialect.usage(whole)
        flight.stored = self._cache.keep(question, flight.entry_id, body, usage, took_ms, now, age)


async def _see_through(rider: Rider, patience_s: float | None = None) -> None:
    """Stays aboard until the flight ends, or for `patience_s` seconds."""
    with rider, suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await asyncio.shield(rider.flight.answer)


def _kind(call: Call) -> Kind:
    return call.reading.model, call.reading.stream


def decoded(pieces: list[bytes] | None, headers: Mapping[str, str], limit: int) -> bytes | None:
    """The body without its content coding. None: it is incomplete, larger than `limit` bytes, or in a coding
    that we do not support."""
    if pieces is None:
        return None
    body, coding = b"".join(pieces), headers.get("Content-Encoding", "identity").strip().lower()
    if coding == "identity":
        return body
    for form in _FORMS.get(coding, ()):
        inflater = zlib.decompressobj(wbits=form)
        with suppress(zlib.error):
            plain = inflater.decompress(body, limit)
            return plain if inflater.eof and not inflater.unused_data else None
    return None


async def _object(body: bytes) -> JsonObject | None:
    value = await loaded(body, parse_constant=_finite, parse_float=_finite)
    return value if isinstance(value, dict) else None


def _finite(number: str) -> float:
    """Raises ValueError for a number that would be written as `NaN` or `Infinity`, which is not JSON."""
    if isfinite(value := float(number)):
        return value
    raise ValueError(number)
