"""Checks hits against fresh answers in the background: nothing here delays a call, fails it or stores an
answer. policies/audit.py decides what follows from the verdicts."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings.base import EmbeddingError
from policies.audit import Budget, Finding, Verdict, compared, likeness, parts
from proxy.aside import aside
from proxy.cache import Cache, Found
from proxy.flights import Flight
from proxy.forwarding import Forwarder
from proxy.judge import Judge
from proxy.messages import Call
from proxy.tasks import Tasks

log = logging.getLogger("nearhit.auditing")

AT_ONCE = 8
"""Most hits being checked at a time; further ones are not checked."""
DEADLINE_S = 300.0


@dataclass(slots=True)
class Hit:
    """A stored answer that was served, or would have been."""

    call: Call
    found: Found
    body: bytes

    @property
    def category(self) -> str:
        return self.found.policy.category.name


class Auditor:
    def __init__(
        self,
        cache: Cache,
        forwarder: Forwarder,
        tasks: Tasks,
        clock: Callable[[], float],
        judge: Judge | None = None,
        pairs: Path | None = None,
    ) -> None:
        self._cache = cache
        self._forwarder = forwarder
        self._tasks = tasks
        self._clock = clock
        self._judge = judge
        self._pairs = pairs
        self._draw = random.random
        self._budgets: defaultdict[str, Budget] = defaultdict(Budget)
        self._running = 0

    def served(self, hit: Hit) -> None:
        """Told of a hit that was served. Some are checked by another call with the caller's credentials."""
        audit = hit.found.policy.category.audit
        if not audit.share or self._draw() >= audit.share or not self._may(hit):
            return
        if self._budgets[hit.category].take(self._clock(), audit.per_hour):
            self._spawn(self._ask(hit), hit)

    def _may(self, hit: Hit) -> bool:
        """Whether this hit may be checked. Exact hits say nothing about a threshold, and an upstream under
        pressure must not get additional calls."""
        asked_for = hit.found.tier == "semantic" and hit.call.controls.write
        calm = self._cache.pressure(hit.call.reading.model) == 0
        return asked_for and calm and self._running < AT_ONCE

    def shadowed(self, hit: Hit, flight: Flight) -> None:
        """Told of a hit in shadow mode, which the caller's own call, `flight`, checks at no extra cost."""
        if hit.found.tier == "semantic" and self._running < AT_ONCE:
            flight.compared = True
            self._spawn(self._settle(hit, flight), hit)

    def told(self, category: str, cosine: float, verdict: Verdict) -> None:
        """Records a verdict on a hit, from feedback or from a check. `cosine`: of the two questions."""
        kind = self._cache.rules.book.categories.get(category)
        if kind is not None and (step := self._cache.audits.note(kind, cosine, verdict)):
            log.info("%s", step)

    def _spawn(self, work: Coroutine[Any, Any, None], hit: Hit) -> None:
        self._running += 1
        task = self._tasks.spawn(work, name=f"audit-{hit.found.entry.id}")
        task.add_done_callback(lambda _: self._ended())

    def _ended(self) -> None:
        self._running -= 1

    async def _ask(self, hit: Hit) -> None:
        question = self._cache.question(hit.call, hit.category, None)
        flight = self._forwarder.start(question, private=True, background=True)
        flight.compared = True
        with flight.board(waits=True):
            await self._settle(hit, flight)

    async def _settle(self, hit: Hit, flight: Flight) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._check(hit, flight)
        except TimeoutError:
            log.warning("could not check the hit on %s within %g s", hit.found.entry.id, DEADLINE_S)

    async def _check(self, hit: Hit, flight: Flight) -> None:
        fresh = await asyncio.shield(flight.answer)
        if fresh is None or flight.stands_in:
            return
        finding = await self._compare(hit, fresh)
        self.told(hit.category, hit.found.similarity, finding.verdict)
        log.debug("hit on %s: %s by %s", hit.found.entry.id, finding.verdict, finding.by or "nothing")
        if finding.condemns and not hit.found.shadowed:
            self._cache.drop(hit.found.entry.id)
        if self._pairs is not None and finding.verdict != "unsure":
            await asyncio.to_thread(_append, self._pairs, _pair(hit, finding))

    async def _compare(self, hit: Hit, fresh: bytes) -> Finding:
        new, old, same = await aside(len(fresh) + len(hit.body), _read, hit, fresh)
        if same:
            return compared(new, old, None, None)
        judged = await self._judge.same(hit.call.text or "", old, new) if self._judge else None
        cosine = await self._cosine(new, old) if judged is None else None
        return await asyncio.to_thread(compared, new, old, cosine, judged)

    async def _cosine(self, new: str, old: str) -> float | None:
        mine, theirs = parts(new), parts(old)
        if not mine or not theirs:
            return None
        try:
            rows = await self._cache.embedder.embed_many([*mine, *theirs])
        except EmbeddingError:
            return None
        return likeness(rows[: len(mine)], rows[len(mine) :])


def _read(hit: Hit, fresh: bytes) -> tuple[str, str, bool]:
    """The texts of the fresh and the stored answer, and whether they are the same word for word."""
    said = hit.call.dialect.said
    new, old = said(json.loads(fresh)), said(json.loads(hit.body))
    return new, old, new.split() == old.split()


def _pair(hit: Hit, finding: Finding) -> dict[str, Any]:
    """A row in the format of `nearhit tune`."""
    return {
        "a": hit.call.text,
        "b": hit.found.entry.text,
        "equivalent": finding.verdict == "right",
        "category": hit.category,
    }


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=True) + "\n")
