"""Gives a caller its answer, stored or from the upstream, in the form it asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass

from multidict import CIMultiDict

from proxy.aside import aside, loaded
from proxy.dialects.base import EVENTS
from proxy.errors import CallError
from proxy.flights import Flight, Rider
from proxy.messages import Call
from proxy.relay import WholeResponse, paced, relay
from proxy.sse import failure
from proxy.telemetry import report as reports
from proxy.telemetry.report import Report
from proxy.trip import Reply, Trip
from proxy.upstreams.fleet import Fleet
from proxy.upstreams.load import BYTES_PER_TOKEN
from proxy.upstreams.upstream import Head


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """The settings for how answers are given."""

    expose_scores: bool = False
    stale_after_s: float = 10.0
    """Least time for which a caller waits for a fresh answer if there is a stale one."""
    tokens_per_second: float | None = None
    """Pace at which a stored answer is replayed as a stream. None: all at once."""
    keep_alive_s: float | None = None
    """Interval of comments to callers of event streams who wait for a place at the upstream. None: no
    comments."""


class Answers:
    def __init__(self, fleet: Fleet, options: AnswerOptions) -> None:
        self._fleet = fleet
        self._options = options

    async def from_cache(self, trip: Trip, body: bytes) -> Reply:
        """A complete answer, in the form that this caller asked for. `body`: its JSON object."""
        trip.report.status = 200
        if not trip.call.reading.stream:
            return WholeResponse(body, self._headers(trip, "application/json"))
        dialect, answer = trip.call.dialect, await loaded(body)
        events = await aside(len(body), list, dialect.scatter(answer, trip.call.fields))
        headers = self._headers(trip, dialect.framing.content_type)
        if self._options.tokens_per_second is None:
            return WholeResponse(b"".join(events), headers)
        tokens = dialect.usage(answer).tokens_out or len(body) / BYTES_PER_TOKEN
        seconds = tokens / self._options.tokens_per_second
        trip.report.paced_ms = seconds * 1000
        return await relay(trip.request, Head(200, "OK", CIMultiDict(headers)), paced(events, seconds))

    async def for_leader(self, trip: Trip, head: Head, rider: Rider, chunks: AsyncIterator[bytes]) -> Reply:
        """The upstream's answer as it arrives, for the caller whose call it is. Its headers can only say
        whether the answer is meant to be stored; the report says in the end whether it was."""
        report, flight = trip.report, rider.flight
        report.stored = head.status == 200 and flight.keeps
        if report.outcome != "SHADOW":
            report.entry_id = flight.entry_id if report.stored else ""
        return await _settled(report, flight, self._relayed(trip, head, head.headers.copy(), rider, chunks))

    async def for_rider(self, trip: Trip, head: Head, rider: Rider, chunks: AsyncIterator[bytes]) -> Reply:
        """The same for another caller, without the headers that are meant only for the first one: cookies,
        request id, rate limits."""
        kept = {k: head.headers[k] for k in ("Content-Type", "Content-Encoding") if k in head.headers}
        headers = CIMultiDict({**kept, **self._for_browsers(trip)})
        return await self._relayed(trip, head, headers, rider, chunks)

    async def _relayed(
        self, trip: Trip, head: Head, headers: CIMultiDict[str], rider: Rider, chunks: AsyncIterator[bytes]
    ) -> Reply:
        trip.report.status = head.status
        if _must_filter(trip.call, rider.flight, head):
            headers.popall("Content-Length", None)
            chunks = _filtered(chunks, trip.call)
        reports.add(headers, self._cache_headers(trip))
        return await relay(trip.request, Head(head.status, head.reason, headers), chunks)

    # Comments while a caller waits

    async def is_kept_waiting(self, trip: Trip, flight: Flight) -> bool:
        """Whether the caller of an event stream is still waiting for a place at the upstream after
        `keep_alive_s` and has no stale answer."""
        every, events = self._options.keep_alive_s, trip.call.dialect.framing is EVENTS
        if every is None or not events or not trip.call.reading.stream or trip.stale is not None:
            return False
        await asyncio.wait([flight.head], timeout=every)
        return not flight.head.done() and flight.sent_to is None

    async def with_comments(self, trip: Trip, flight: Flight, rider: Rider) -> Reply:
        """A stream that begins before the upstream has answered, with comments until it does. Status 200 has
        been sent by then, so an error is sent as an event."""
        trip.report.status = 200
        headers = CIMultiDict(self._headers(trip, EVENTS.content_type))
        answer = self._comments(trip, flight, rider)
        return await _settled(trip.report, flight, relay(trip.request, Head(200, "OK", headers), answer))

    async def _comments(self, trip: Trip, flight: Flight, rider: Rider) -> AsyncIterator[bytes]:
        """Comments until the upstream answers, then its answer."""
        while not flight.head.done():
            yield b": keep-alive\n\n"
            await asyncio.wait([flight.head], timeout=self._options.keep_alive_s)
        report = trip.report
        try:
            head = flight.head.result()
        except CallError as error:
            report.error = error.code
            yield failure(trip.call.dialect.error(error.status, error.code, error.message))
            return
        if head.status != 200:
            report.upstream_status = head.status
            yield failure(b"".join([chunk async for chunk in rider.chunks()]))
            return
        chunks = rider.chunks()
        if _must_filter(trip.call, flight, head):
            chunks = _filtered(chunks, trip.call)
        async for chunk in chunks:
            yield chunk

    # Headers

    def _headers(self, trip: Trip, content_type: str) -> dict[str, str]:
        return {**self._cache_headers(trip), "Content-Type": content_type, **self._for_browsers(trip)}

    def _for_browsers(self, trip: Trip) -> dict[str, str]:
        return reports.for_browsers(trip.request, self._fleet)

    def _cache_headers(self, trip: Trip) -> dict[str, str]:
        return reports.headers(trip.report, trip.call.controls.debug or self._options.expose_scores)


async def _settled(report: Report, flight: Flight, relaying: Awaitable[Reply]) -> Reply:
    """Relays the answer, then records in the report whether it was stored. If the caller leaves and the
    flight goes on without it, the report keeps the entry's id, so that a purge of that entry finds the
    report."""
    try:
        reply = await relaying
        if flight.keeps:
            await asyncio.shield(flight.answer)
        return reply
    finally:
        report.stored = flight.stored
        if report.outcome != "SHADOW" and (flight.stored or flight.answer.done()):
            report.entry_id = flight.entry_id if flight.stored else ""


def _must_filter(call: Call, flight: Flight, head: Head) -> bool:
    """Whether the stream reports a usage that this caller did not ask for."""
    return (
        call.reading.stream
        and flight.has_usage
        and head.status == 200
        and "Content-Encoding" not in head.headers
        and head.headers.get("Content-Type", "").startswith("text/event-stream")
        and call.dialect.enrichment.enrich(call.fields) is not None
    )


async def _filtered(chunks: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
    filter = call.dialect.enrichment.filter()
    async for chunk in chunks:
        if kept := filter.feed(chunk):
            yield kept
    if rest := filter.rest():
        yield rest
