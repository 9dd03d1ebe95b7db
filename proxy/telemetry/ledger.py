"""What has happened: counts per category and the most recent decisions, both from the calls' reports.

Calls are told of in batches: a reader that hears of many in a row takes a third of the time, as what it
needs is in the core's caches then. Whoever reads what was made of the calls settles the ledger first, so
nobody sees that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from proxy.telemetry.report import Report

log = logging.getLogger("nearhit.ledger")

BATCH = 128
"""Calls that are told of at once: it holds up the loop for about a millisecond."""
WITHIN_S = 0.1
"""In which every call is told of, however few there are."""
RECENT = 1000
"""Decisions that are remembered one by one."""


@dataclass(slots=True)
class Tally:
    """Counts of calls, and sums over them, since the start."""

    requests: int = 0
    exact: int = 0
    semantic: int = 0
    inflight: int = 0
    stale: int = 0
    misses: int = 0
    bypasses: int = 0
    shadow: int = 0
    """Would have been hits, in categories that only try the cache."""
    errors: int = 0
    """Calls that ended with an error, ours or the upstream's."""
    degraded: int = 0
    stored: int = 0
    saved_ms: float = 0.0
    tokens_saved: int = 0
    total_ms: float = 0.0

    @property
    def hits(self) -> int:
        return self.exact + self.semantic + self.inflight

    def add(self, report: Report) -> None:
        self.requests += 1
        self.total_ms += report.total_ms
        self.errors += bool(report.error) or report.status >= 400
        self.degraded += bool(report.degraded)
        self.stored += report.stored
        match report.outcome:
            case "HIT":
                setattr(self, report.tier or "exact", getattr(self, report.tier or "exact") + 1)
            case "STALE":
                self.stale += 1
            case "SHADOW":
                self.shadow += 1
            case "BYPASS":
                self.bypasses += 1
            case "MISS":
                self.misses += 1
        if report.outcome in ("HIT", "STALE"):
            self.saved_ms += report.saved_ms
            self.tokens_saved += report.tokens_in + report.tokens_out


Reader = Callable[[Report], None]


class Ledger:
    def __init__(self, *readers: Reader) -> None:
        """`readers` are told of every call too: metrics, log. Who does not need to wait is no reader: by then
        the call is over."""
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._recent: deque[Report] = deque(maxlen=RECENT)
        self._published = 0
        self._readers: Sequence[Reader] = (self._count, *readers)
        self._waiting: list[Report] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def tallies(self) -> defaultdict[str, Tally]:
        self.settle()
        return self._tallies

    @property
    def recent(self) -> deque[Report]:
        """The newest last."""
        self.settle()
        return self._recent

    @property
    def published(self) -> int:
        """Calls since the start."""
        self.settle()
        return self._published

    def forget(self, meant: Callable[[Report], bool]) -> None:
        """Of the recent decisions; the counts stay."""
        self._recent = deque((each for each in self.recent if not meant(each)), maxlen=RECENT)

    def publish(self, report: Report) -> None:
        """Needs a running loop."""
        self._waiting.append(report)
        if len(self._waiting) >= BATCH:
            self.settle()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WITHIN_S, self.settle)

    def settle(self) -> None:
        """Every reader has heard of all calls so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        told, self._waiting = self._waiting, []
        for read in self._readers:
            _tell(read, told)

    def _count(self, report: Report) -> None:
        self._tallies[report.category or "none"].add(report)
        self._recent.append(report)
        self._published += 1


def _tell(read: Reader, reports: Iterable[Report]) -> None:
    """Whatever is wrong with a reader, the others hear of every call, and it of the next."""
    failed = None
    for report in reports:
        try:
            read(report)
        except Exception as error:  # noqa: BLE001
            failed = error
    if failed is not None:
        log.error("telling of calls failed", exc_info=failed)
