"""Renews, in the background, answers that were served past their lifetime, so that the next caller gets a
fresh one."""

from __future__ import annotations

import asyncio
from time import monotonic

from embeddings.base import EmbeddingError
from proxy.cache import Cache, Found
from proxy.forwarding import Forwarder
from proxy.messages import Call
from proxy.tasks import Tasks
from proxy.upstreams.fleet import Backend
from storage.base import Entry

AT_ONCE = 64
"""Most renewals under way; further ones are dropped until the entry is served again."""


class Renewals:
    """At most one renewal per entry at a time. There are none while the upstream is busy. While it is down
    there is only an occasional one, as a probe that shows when it is back."""

    def __init__(self, cache: Cache, forwarder: Forwarder, tasks: Tasks) -> None:
        self._cache = cache
        self._forwarder = forwarder
        self._tasks = tasks
        self._under_way: set[str] = set()
        self.held_back = 0

    def start(self, call: Call, found: Found) -> None:
        entry, backend = found.entry, self._forwarder.fleet.of(call.reading.model)
        if not call.controls.write or entry.id in self._under_way or len(self._under_way) >= AT_ONCE:
            return
        probes = backend.outage.down
        if self._too_busy(found, backend) if not probes else not backend.outage.probe(monotonic()):
            self.held_back += 1
            return
        self._under_way.add(entry.id)
        task = self._tasks.spawn(self._renew(call, entry), name=f"renew-{entry.id}")
        task.add_done_callback(lambda _: self._ended(entry.id, backend if probes else None))

    def _too_busy(self, found: Found, backend: Backend) -> bool:
        policy = found.policy
        return backend.crowded or policy.pressure >= policy.category.load.renew_below

    def _ended(self, id: str, probed: Backend | None) -> None:
        self._under_way.discard(id)
        if probed is not None:
            probed.outage.probed()

    async def _renew(self, call: Call, entry: Entry) -> None:
        try:
            question = await self._cache.again(call, entry)
        except EmbeddingError:
            return
        if self._forwarder.flights.same(question.exact, call.generation) is None:
            flight = self._forwarder.start(question, background=True)
            with flight.board(waits=True):
                await asyncio.shield(flight.answer)
