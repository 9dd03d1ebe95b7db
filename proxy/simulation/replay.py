"""The path of a call (`proxy.exchange`) for recorded calls: the same cache and flights and the same order of
steps, on a virtual clock and against a simulated upstream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from multidict import CIMultiDict, CIMultiDictProxy

from embeddings.base import Embedder, TextTooLong, Vector
from policies.pressure import Pressure
from proxy.cache import Cache, Found, Rules
from proxy.dialects import openai_chat
from proxy.dialects.base import Usage
from proxy.flights import Flight, Flights
from proxy.messages import Call, Question, read_call, tenant_digest
from proxy.simulation.queueing import Ride, Service
from proxy.simulation.rows import Served, Table
from proxy.simulation.trace import Request, oracle
from proxy.simulation.traffic import Journal, Traffic
from storage.documents.buffered import BufferedDocuments
from storage.documents.memory import MemoryDocuments

MODEL = "gpt-4o-mini"
TENANT = "trace"
"""The model of requests that name none."""
EXACT_S = 0.0003
"""Time of an exact look-up and its answer, as measured (docs/performance.md)."""
_AT_ONCE = 100
_SWEPT = 20
"""Entries that the sweep looks at per request, which adds at most one; in the proxy it sweeps once a
second."""
_BODY = b"{}"


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    rules: Rules
    by_meaning: bool = True
    """False: only the exact tier."""
    adapts: bool = False
    """Whether thresholds and lifetimes follow the pressure of the upstream."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions under which all policies are replayed."""

    service: Service = field(default_factory=Service)
    entries: int = 100_000
    """Capacity of the memory."""
    lookup_s: float = 0.0065
    """Embedding and search, before a semantic hit as well as before a miss."""

    def pressure(self) -> Pressure | None:
        """None if the upstream accepts any number of calls, so that there is nothing to adapt to."""
        return Pressure(self.service.capacity) if self.service.capacity else None


@dataclass(frozen=True, slots=True)
class Played:
    table: Table
    journal: Journal


async def replay(
    trace: Sequence[Request],
    policy: Policy,
    embedder: Embedder,
    conditions: Conditions,
    advance: Callable[[int], None],
) -> Played:
    """`advance` is told the number of requests after each step. Raises `EmbeddingError`."""
    documents = BufferedDocuments(MemoryDocuments(), pending_count=2 * len(trace))
    player, table = Player(trace, policy, embedder, documents, conditions), Table()
    try:
        for number, known in enumerate(oracle(trace)):
            table.add(trace[number], await player.play(number), known)
            if number % _AT_ONCE == 0:
                advance(_AT_ONCE)
                await asyncio.sleep(0)  # for the documents' writer, and for Ctrl-C
        player.catch_up(float("inf"))
    finally:
        await documents.close()
    return Played(table, player.traffic.journal)


def replay_bound(trace: Sequence[Request], answered: Iterable[bool], conditions: Conditions) -> Journal:
    """The upstream's load if a cache answers exactly the requests that are `answered`, at once and correctly.

    All False means no cache; `oracle(trace)` means a cache that knows the groups.
    """
    traffic = Traffic(trace, conditions.service, conditions.pressure())
    for number, known in enumerate(answered):
        list(traffic.until(trace[number].t))
        traffic.arrived(number)
        if known:
            traffic.journal.hit[number], traffic.journal.latency[number] = True, 0.0
        elif traffic.send(number):
            traffic.board(number, number, 0.0)
    list(traffic.until(float("inf")))
    return traffic.journal


class Player:
    def __init__(
        self,
        trace: Sequence[Request],
        policy: Policy,
        embedder: Embedder,
        documents: BufferedDocuments,
        conditions: Conditions,
    ) -> None:
        self._now = 0.0
        self.traffic = Traffic(trace, conditions.service, conditions.pressure())
        self.cache = Cache(
            policy.rules,
            embedder,
            documents,
            conditions.entries,
            pressure=lambda model: self.traffic.level(self._now) if policy.adapts else 0.0,
        )
        self._trace = trace
        self._by_meaning = policy.by_meaning
        self._lookup_s = conditions.lookup_s if policy.by_meaning else EXACT_S
        self._flights = Flights()
        self._flying: dict[int, Flight] = {}

    async def play(self, number: int) -> Served:
        """Plays one request. Requests must come in order."""
        self.catch_up(self._trace[number].t)
        self.traffic.arrived(number)
        self.cache.sweep(self._now, _SWEPT)
        served = await self._answer(number, _call(self._trace[number]))
        self._note(number, served)
        return served

    def catch_up(self, now: float) -> None:
        """Stores the answers of all calls that end no later than `now`."""
        for ride in self.traffic.until(now):
            self._now = ride.ended
            if flight := self._flying.pop(ride.number, None):
                self._land(flight, ride)
        self._now = now

    def _note(self, number: int, served: Served) -> None:
        request, journal = self._trace[number], self.traffic.journal
        journal.hit[number] = served.answer is not None
        journal.wrong[number] = served.wrong(request)

    # The path of a call, in the order of `Exchange.answer`

    async def _answer(self, number: int, call: Call) -> Served:
        search = self.cache.exact(call, self._now, self.cache.pressure(call.reading.model))
        if served := await self._from(search.fresh, number, call):
            return served
        if served := await self._stale_at_once(number, search.stale):
            return served
        if flight := self._flights.same(call.exact(call.tenant), call.generation):
            return self._join(number, flight, EXACT_S)
        question = await self._understand(call)
        if question.policy.category.barred:
            return await self._lead(number, question, search.stale, private=True)
        near = await self.cache.semantic(question, self._now)
        if served := await self._from(near.fresh, number, call):
            return served
        if served := await self._stale_at_once(number, search.stale or near.stale):
            return served
        if found := self._flights.boardable(question, self.cache.alike):
            return self._join(number, found[0], self._lookup_s)
        return await self._lead(number, question, search.stale or near.stale)

    async def _from(self, found: Found | None, number: int, call: Call) -> Served | None:
        if found is None or await self.cache.load(found.entry, self._now) is None:
            return None
        if found.shadowed:
            question = self.cache.question(call, found.entry.category, None)
            return await self._lead(number, question, None, private=True)
        calls = await self._renew(number, call, found) if found.verdict.freshness == "revalidate" else 0
        self.traffic.journal.latency[number] = EXACT_S if found.tier == "exact" else self._lookup_s
        return self._serve(found, calls)

    def _serve(self, found: Found, calls: int) -> Served:
        answer, entry = self._trace[int(found.entry.id)], found.entry
        return Served(found.policy.category.name, found.tier, answer, entry.created, calls)

    async def _renew(self, number: int, call: Call, found: Found) -> int:
        """Renews a stale answer if allowed, and returns the number of upstream calls that took."""
        if found.policy.pressure >= found.policy.category.load.renew_below:
            return 0
        question = await self.cache.again(call, found.entry)
        if self._flights.same(question.exact, call.generation) is not None:
            return 0
        self._start(number, question)
        return 1

    async def _understand(self, call: Call) -> Question:
        vector = await self._embed(call) if self._by_meaning else None
        return self.cache.question(call, self.cache.classify(call, vector).category, vector)

    async def _embed(self, call: Call) -> Vector | None:
        if call.text is None:
            return None
        try:
            return await self.cache.embed(call.text)
        except TextTooLong:
            return None

    def _join(self, number: int, flight: Flight, lookup_s: float) -> Served:
        leader = int(flight.entry_id)
        self.traffic.board(leader, number, lookup_s)
        category = flight.question.policy.category.name
        return Served(category, "inflight", self._trace[leader], self._now)

    async def _lead(
        self, number: int, question: Question, stale: Found | None, private: bool = False
    ) -> Served:
        """Sends the request upstream, or serves a stale answer if the upstream refuses it."""
        if self._start(number, question, private):
            self.traffic.board(number, number, self._lookup_s)
        elif served := await self._instead(number, stale, calls=1):
            return served
        return Served(question.policy.category.name, calls=1)

    async def _stale_at_once(self, number: int, stale: Found | None) -> Served | None:
        """Serves the stale answer at once, if the category prefers that to asking a busy upstream."""
        bound = stale.policy.category.load.stale_at if stale else None
        if stale is None or bound is None or stale.policy.pressure < bound:
            return None
        return await self._instead(number, stale, calls=0)

    async def _instead(self, number: int, stale: Found | None, calls: int) -> Served | None:
        if stale is None or stale.shadowed or await self.cache.load(stale.entry, self._now) is None:
            return None
        self.traffic.journal.latency[number] = self._lookup_s
        return self._serve(stale, calls)

    def _start(self, number: int, question: Question, private: bool = False) -> bool:
        """Starts a call; False if the upstream refused it. An entry's id is the number of the request that it
        answered."""
        if not self.traffic.send(number):
            return False
        if not private:
            flight = self._flying[number] = Flight(question, str(number), self._now, capacity=0)
            self._flights.add(flight)
        return True

    def _land(self, flight: Flight, ride: Ride) -> None:
        self._flights.remove(flight)
        took_ms = (ride.ended - ride.sent) * 1000
        usage = Usage(0, ride.tokens)
        self.cache.keep(flight.question, flight.entry_id, _BODY, usage, took_ms, self._now)


_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


def _call(request: Request) -> Call:
    message = {"role": "user", "content": request.query}
    before = [{"role": "system", "content": request.context}] if request.context else []
    body = json.dumps({"model": request.model or MODEL, "messages": [*before, message]}).encode()
    tenant = tenant_digest(request.tenant or TENANT)
    call = read_call(openai_chat, "/v1/chat/completions", _HEADERS, body, tenant)
    assert call is not None
    return call
