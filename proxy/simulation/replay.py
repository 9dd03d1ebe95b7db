"""The path of a call (`proxy.exchange`) for recorded calls: the same cache, the same order of questions, a
clock that shows the trace's time, and an upstream that answers at once and always.

What a hit is worth is judged here, from the labels; nothing that decides sees them.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from multidict import CIMultiDict, CIMultiDictProxy

from embeddings.base import Embedder, TextTooLong, Vector
from proxy.cache import Cache, Rules, Search, Tier
from proxy.dialects import openai_chat
from proxy.dialects.base import Usage
from proxy.flights import Question
from proxy.messages import Call, read_call, tenant_digest
from proxy.simulation.trace import Request, is_fresh, oracle
from storage.buffered import BufferedDocuments
from storage.documents_memory import MemoryDocuments

MODEL = "gpt-4o-mini"
TENANT = "trace"
"""Where the trace names none."""
MS_PER_TOKEN = 20.0
"""What a hit is taken to save; only tells eviction which answers are dear."""
_AT_ONCE = 100
_SWEPT = 20
"""Entries that the sweep looks at for each request, which adds one at most; in the proxy it
goes by the second."""


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    rules: Rules
    by_meaning: bool = True
    """False: the exact tier only."""


@dataclass(slots=True)
class Row:
    """Counts of requests."""

    requests: int = 0
    hits: int = 0
    right: int = 0
    """Hits on an answer that its group got no longer than `fresh_s` ago."""
    wrong: int = 0
    """Hits of labelled requests that are not right."""
    stale: int = 0
    """Those of the wrong that are of the right group and too old."""
    oracle: int = 0
    """Requests that a cache which knows the groups answers."""
    exact: int = 0
    semantic: int = 0
    inflight: int = 0
    upstream_calls: int = 0
    """Misses, and answers renewed behind a hit."""

    def add(self, request: Request, served: Served, known: bool) -> None:
        self.requests += 1
        self.oracle += known
        self.upstream_calls += served.calls
        if served.answer is None or served.tier is None:
            return
        self.hits += 1
        setattr(self, served.tier, getattr(self, served.tier) + 1)
        if request.group is not None:
            self._judge(request, served.answer)

    def _judge(self, request: Request, answer: Request) -> None:
        same = answer.group == request.group
        right = same and is_fresh(request, answer.t)
        self.right += right
        self.wrong += not right
        self.stale += same and not right


@dataclass(slots=True)
class Table:
    overall: Row = field(default_factory=Row)
    categories: defaultdict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    """By the label where there is one, else by the category that was decided on."""

    def add(self, request: Request, served: Served, known: bool) -> None:
        for row in (self.overall, self.categories[request.category or served.category]):
            row.add(request, served, known)


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a request."""

    category: str
    tier: Tier | None = None
    answer: Request | None = None
    """The request whose answer was served; None on a miss."""
    calls: int = 0
    """To the upstream."""


async def replay(
    trace: Sequence[Request],
    policy: Policy,
    embedder: Embedder,
    capacity: int,
    advance: Callable[[int], None],
) -> Table:
    """`advance` is told how many more requests are done. Raises `EmbeddingError`."""
    documents = BufferedDocuments(MemoryDocuments(), pending_count=len(trace))
    cache = Cache(policy.rules, embedder, documents, capacity)
    player = Player(trace, cache, policy.by_meaning)
    table = Table()
    try:
        for number, known in enumerate(oracle(trace)):
            table.add(trace[number], await player.play(number), known)
            if number % _AT_ONCE == 0:
                advance(_AT_ONCE)
                await asyncio.sleep(0)  # for the documents' writer, and for Ctrl-C
    finally:
        await documents.close()
    return table


class Player:
    def __init__(self, trace: Sequence[Request], cache: Cache, by_meaning: bool) -> None:
        self._trace = trace
        self._cache = cache
        self._by_meaning = by_meaning

    async def play(self, number: int) -> Served:
        call, now = _call(self._trace[number]), self._trace[number].t
        self._cache.sweep(now, _SWEPT)
        if served := await self._from(self._cache.exact(call, now), number, call):
            return served
        question = await self._understand(call)
        category = question.policy.category
        if category.barred:
            return Served(category.name, calls=1)
        if served := await self._from(self._cache.near(question, now), number, call):
            return served
        self._keep(question, number)
        return Served(category.name, calls=1)

    async def _from(self, search: Search, number: int, call: Call) -> Served | None:
        found, now = search.fresh, self._trace[number].t
        if found is None or await self._cache.load(found.entry, now) is None:
            return None
        if renews := found.verdict.freshness == "revalidate":
            self._keep(await self._cache.again(call, found.entry), number)
        answer = self._trace[int(found.entry.id)]
        return Served(found.policy.category.name, found.tier, answer, calls=int(renews))

    async def _understand(self, call: Call) -> Question:
        vector = await self._embed(call) if self._by_meaning else None
        return self._cache.question(call, self._cache.classify(call, vector).category, vector)

    async def _embed(self, call: Call) -> Vector | None:
        if call.text is None:
            return None
        try:
            return await self._cache.embed(call.text)
        except TextTooLong:
            return None

    def _keep(self, question: Question, number: int) -> None:
        """An entry's id is the position in the trace of the request that it answered."""
        request = self._trace[number]
        tokens = request.tokens_out or 0
        self._cache.keep(question, str(number), b"{}", Usage(0, tokens), tokens * MS_PER_TOKEN, request.t)


_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


def _call(request: Request) -> Call:
    message = {"role": "user", "content": request.query}
    body = json.dumps({"model": request.model or MODEL, "messages": [message]}).encode()
    tenant = tenant_digest(request.tenant or TENANT)
    call = read_call(openai_chat, "/v1/chat/completions", _HEADERS, body, tenant, 0)
    assert call is not None
    return call
