"""The path of a call for embeddings. Each item has its own entry: cached vectors are reused, the missing ones
are requested in one call, and the answer has all of them in order.

There is only the exact tier. Vectors are small and quick to compute, so calls in flight are not shared
either.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

from aiohttp import web

from proxy.aside import aside
from proxy.cache import Cache, Found
from proxy.dialects import openai_embeddings as dialect
from proxy.dialects.base import Usage, dump
from proxy.dialects.openai_embeddings import Part
from proxy.errors import NotCached
from proxy.forwarding import Forwarder, decoded
from proxy.messages import Call, shown
from proxy.relay import WholeResponse, relay
from proxy.tasks import Tasks
from proxy.telemetry import report as reports
from proxy.trip import Reply, Trip
from proxy.upstreams.upstream import Answer, Head, ReadAnswer
from storage.breath import Breath


class Batches:
    def __init__(
        self, cache: Cache, forwarder: Forwarder, tasks: Tasks, answer_bytes: int, expose_scores: bool
    ) -> None:
        """`answer_bytes`: largest answer that is split into items."""
        self._cache = cache
        self._forwarder = forwarder
        self._tasks = tasks
        self._answer_bytes = answer_bytes
        self._expose_scores = expose_scores

    async def answer(self, trip: Trip) -> Reply:
        call, report = trip.call, trip.report
        items = [_call_for(call, item) for item in dialect.items(call.fields)]
        report.query = shown(items[0].text or "")
        report.classified(self._cache.classify(call, None))
        category = self._cache.rules.book.get(report.category)
        if barred := category.barred or ("" if call.controls.read or call.controls.write else "no-store"):
            return await self._forward(trip, items, barred)
        if not call.controls.read:
            return await self._forward(trip, items, "no-cache")
        known = await self._cached(trip, items)
        if len(known) == len(items):
            return self._from_cache(trip, list(known.values()))
        if not known:
            return await self._forward(trip, items)
        return await self._forward_missing(trip, items, {place: part for place, (_, part) in known.items()})

    # From the cache

    async def _cached(self, trip: Trip, items: Sequence[Call]) -> dict[int, tuple[Found, Part]]:
        """The cached vectors, by their position in the call. Empty if the category is in shadow mode."""
        found: dict[int, Found] = {}
        pressure = self._cache.pressure(trip.call.reading.model)
        for place, item in enumerate(items):
            fresh = self._cache.exact(item, trip.now, pressure).fresh
            if fresh is not None and fresh.verdict.freshness == "fresh":
                found[place] = fresh
        if any(each.shadowed for each in found.values()):
            if len(found) == len(items):
                trip.report.found(found[0], trip.now)
                trip.report.shadowed()
            return {}
        bodies = await self._cache.load_many([each.entry for each in found.values()], trip.now)
        known, breath = {}, Breath()
        for place, each in found.items():
            await breath.take()
            body = bodies.get(each.entry.id)
            if body is not None and (part := dialect.parts(body, [1])):
                known[place] = each, part[0]
        return known

    def _from_cache(self, trip: Trip, known: Sequence[tuple[Found, Part]]) -> Reply:
        report, entries = trip.report, [found.entry for found, _ in known]
        oldest = max((found for found, _ in known), key=lambda found: trip.now - found.entry.created)
        report.found(oldest, trip.now)
        report.ttl = min(found.verdict.remaining for found, _ in known)
        report.entry_id = report.entry_id if len(known) == 1 else ""
        report.saved_ms = sum(entry.cost_ms for entry in entries)
        report.tokens_in = sum(entry.tokens_in for entry in entries)
        told = self._cache_headers(trip, len(known), len(known))
        for_browsers = reports.for_browsers(trip.request, self._forwarder.fleet)
        body = dialect.joined([part for _, part in known])
        return WholeResponse(body, {**told, "Content-Type": "application/json", **for_browsers})

    # Going upstream

    async def _forward(self, trip: Trip, items: Sequence[Call], bypass: str = "") -> Reply:
        """Sends the whole call unchanged and relays the answer as it arrives. `bypass`: why the cache is not
        read."""
        if bypass:
            trip.report.bypassed(bypass)
        pieces: list[bytes] = []
        async with self._send(trip, trip.call.body) as answer:
            trip.report.stored = self._may_store(trip, answer.head)
            head = _with_headers(answer.head, self._cache_headers(trip, 0, len(items)))
            reply = await relay(trip.request, head, self._gathering(answer, pieces))
        if trip.report.stored:
            trip.report.stored = await self._store(trip, items, answer.head, pieces) is not None
        return reply

    async def _forward_missing(self, trip: Trip, items: Sequence[Call], known: dict[int, Part]) -> Reply:
        """Requests only the items that are not cached, and merges the two."""
        missing = [place for place in range(len(items)) if place not in known]
        given = dialect.items(trip.call.fields)
        body = dump({**trip.call.fields, "input": [given[place] for place in missing]})
        pieces: list[bytes] = []
        async with self._send(trip, body) as answer:
            if answer.head.status != 200:
                head = _with_headers(answer.head, self._cache_headers(trip, len(known), len(items)))
                return await relay(trip.request, head, answer.chunks())
            async for _ in self._gathering(answer, pieces):
                pass
        if not self._same_answers(trip):
            return await self._forward(trip, items)  # never mix vectors of two models
        trip.report.stored = self._may_store(trip, answer.head)
        fresh = await self._store(trip, [items[place] for place in missing], answer.head, pieces)
        if fresh is None:
            return await self._forward(trip, items)
        parts = known | dict(zip(missing, fresh, strict=True))
        whole = dialect.joined([parts[place] for place in range(len(items))])
        head = _with_headers(answer.head, self._cache_headers(trip, len(known), len(items)))
        for name in ("Content-Length", "Content-Encoding"):
            head.headers.popall(name, None)
        return web.Response(body=whole, headers=head.headers)

    @asynccontextmanager
    async def _send(self, trip: Trip, body: bytes) -> AsyncIterator[Answer | ReadAnswer]:
        call, report, started = trip.call, trip.report, perf_counter()
        if call.controls.only_if_cached:
            raise NotCached(
                "Not all of these vectors are in the cache, and the request accepts only cached ones"
            )
        report.forwarded = True
        priority = self._cache.rules.book.get(report.category).priority
        async with self._forwarder.send_alone(call, body, priority) as (backend, answer):
            report.upstream_ms = (perf_counter() - started) * 1000
            report.status, report.upstream = answer.head.status, backend.name
            yield answer

    async def _gathering(self, answer: Answer | ReadAnswer, pieces: list[bytes]) -> AsyncIterator[bytes]:
        """The chunks as they arrive. They are also collected in `pieces`, which is emptied once the answer is
        too large to be split into items."""
        size = 0
        async for chunk in answer.chunks():
            size += len(chunk)
            pieces.append(chunk)
            if size > self._answer_bytes:
                pieces.clear()
            yield chunk

    # Storing

    def _may_store(self, trip: Trip, head: Head) -> bool:
        """Whether the answer may be stored: not across a purge, not from a different model than the one asked
        for, and not in shadow mode, where entries would look fresher than they will be."""
        call, report = trip.call, trip.report
        barred = self._cache.rules.book.get(report.category).barred
        allowed = call.controls.write and not barred and report.outcome != "SHADOW"
        allowed = allowed and self._same_answers(trip)
        return allowed and head.status == 200 and call.generation == self._cache.generation

    def _same_answers(self, trip: Trip) -> bool:
        fleet = self._forwarder.fleet
        return fleet.same_answers(trip.call.reading.model, fleet.backends[trip.report.upstream])

    async def _store(
        self, trip: Trip, items: Sequence[Call], head: Head, pieces: list[bytes]
    ) -> list[Part] | None:
        """Splits the answer into items and stores them if that is allowed, even if the caller leaves in the
        meantime. None: it cannot be split."""
        body = decoded(pieces, head.headers, self._answer_bytes)
        weights = [len(item.text or "") for item in items]
        parts = await aside(len(body or b""), dialect.parts, body or b"", weights)
        if parts is not None and trip.report.stored:
            work = self._keep(trip, items, parts, head.age)
            await asyncio.shield(self._tasks.spawn(work, name=f"keep-{len(parts)}-vectors"))
        return parts

    async def _keep(self, trip: Trip, items: Sequence[Call], parts: Sequence[Part], age: float) -> None:
        cost_ms = (trip.report.upstream_ms or 0.0) / len(parts)
        breath = Breath()
        for item, part in zip(items, parts, strict=True):
            await breath.take()
            if item.generation != self._cache.generation:
                return  # there was a purge while the answer arrived
            question = self._cache.question(item, trip.report.category, None)
            usage = Usage.told(part.usage.get("prompt_tokens"))
            body = dialect.joined([part])
            self._cache.keep(question, secrets.token_hex(12), body, usage, cost_ms, trip.now, age)

    def _cache_headers(self, trip: Trip, known: int, items: int) -> dict[str, str]:
        told = reports.headers(trip.report, trip.call.controls.debug or self._expose_scores)
        told["X-Cache-Items"] = f"{known}/{items}"
        return told


def _call_for(call: Call, item: Any) -> Call:
    """The call for just one of its items. The item is written as JSON, so that a text cannot be mistaken for
    a list of tokens."""
    return replace(call, reading=replace(call.reading, text=dump(item).decode()))


def _with_headers(head: Head, told: dict[str, str]) -> Head:
    headers = head.headers.copy()
    reports.add(headers, told)
    return Head(head.status, head.reason, headers)
