"""Places at an upstream: a call takes one before it is sent, and waits in line while there is none."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from policies.admission import Kind, Limit, Line, retry_after
from proxy.errors import CallError, Crowded, UpstreamSlow

OVERLOADED = frozenset({429, 500, 502, 503, 504, 529})
"""Statuses by which APIs show that they are overloaded, or fail under load."""


@dataclass(slots=True)
class Place:
    """A place held by one call."""

    taken: float
    in_use: int
    kind: Kind
    answered: float | None = None
    """When the first byte of a good answer arrived, in monotonic seconds."""


class Admission:
    """Up to `queue` callers may wait up to `timeout_s` seconds for one of the places that `limit` allows.
    `waited` is told the seconds that each of them waited, whether it got a place or not.

    State changes are synchronous: the place of a call that ends goes straight to the next in line.
    """

    def __init__(
        self,
        limit: Limit,
        queue: int,
        timeout_s: float,
        waited: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.limit = limit
        self.in_use = 0
        self.refused: Counter[str] = Counter()
        """By reason: `full`, `timeout`, `outranked`, `background`."""
        self._queue = queue
        self._timeout_s = timeout_s
        self._waited = waited
        self._clock = clock
        self._line: Line[asyncio.Future[None]] = Line()
        self._held_s = 1.0
        """Seconds for which a place is held, as a moving average."""

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def free(self) -> bool:
        return self.in_use < self.limit.places and not self._line

    @asynccontextmanager
    async def place(
        self, kind: Kind, priority: int, tenant: str, background: bool = False
    ) -> AsyncIterator[Place]:
        """A place, returned at the end of the block. Higher priorities come first, and within a priority the
        tenants take turns. `background` calls do not wait. Raises `Crowded` if there is no place in time."""
        if self.free:
            self.in_use += 1
        elif background:
            raise self._refusal("background")
        else:
            await self._wait(priority, tenant)
        place = Place(self._clock(), self.in_use, kind)
        try:
            yield place
        finally:
            self._left(place, self._clock())
            self._release()

    def _left(self, place: Place, now: float) -> None:
        self._held_s += 0.1 * (now - place.taken - self._held_s)
        if place.answered is not None:
            self.limit.ended(now - place.answered)

    def answered(self, place: Place, status: int) -> None:
        """The first byte has arrived. A client error (4xx) is ignored, as it comes at once and says nothing
        about how long answers take."""
        now = self._clock()
        if status in OVERLOADED:
            self._observe(place, None, now)
        elif 200 <= status < 300:
            place.answered = now
            self._observe(place, now - place.taken, now)

    def failed(self, place: Place, error: CallError) -> None:
        if isinstance(error, UpstreamSlow):
            self._observe(place, None, self._clock())

    def _observe(self, place: Place, seconds: float | None, now: float) -> None:
        if self.limit.adapts:
            self.limit.observe(now, place.kind, seconds, place.in_use)
            self._grant()

    async def _wait(self, priority: int, tenant: str) -> None:
        """Returns with a place taken."""
        self._make_room(priority, tenant)
        loop, started = asyncio.get_running_loop(), self._clock()
        granted: asyncio.Future[None] = loop.create_future()
        self._line.add(granted, priority, tenant)
        deadline = loop.call_later(self._timeout_s, self._refuse, granted, "timeout")
        try:
            await granted
        except asyncio.CancelledError:
            self._leave(granted)
            raise
        finally:
            deadline.cancel()
            self._waited(self._clock() - started)

    def _make_room(self, priority: int, tenant: str) -> None:
        if len(self._line) < self._queue:
            return
        loser = self._line.outranked(priority, tenant)
        if loser is None:
            raise self._refusal("full")
        self._refuse(loser, "outranked")

    def _refuse(self, granted: asyncio.Future[None], reason: str) -> None:
        if self._line.remove(granted) and not granted.done():
            granted.set_exception(self._refusal(reason))

    def _leave(self, granted: asyncio.Future[None]) -> None:
        """Removes a caller from the line. If it was granted a place at the same moment, the next one gets
        it."""
        still_waiting = self._line.remove(granted)
        if not still_waiting and not granted.cancelled() and granted.exception() is None:
            self._release()

    def _release(self) -> None:
        self.in_use -= 1
        self._grant()

    def _grant(self) -> None:
        while self._line and self.in_use < self.limit.places:
            granted = self._line.next()
            if not granted.done():  # otherwise its caller has just left
                self.in_use += 1
                granted.set_result(None)

    def _refusal(self, reason: str) -> Crowded:
        self.refused[reason] += 1
        return Crowded(retry_after(len(self._line), self.limit.places, self._held_s))

    def shown(self) -> dict[str, Any]:
        return {
            "limit": self.limit.places,
            "adapts": self.limit.adapts,
            "in_use": self.in_use,
            "waiting": self.waiting,
            "refused": dict(self.refused),
        }
