"""Counts per category and the most recent decisions, from the calls' reports; also passes the reports on to
other readers.

Reports are processed in batches: a reader that gets many in a row takes a third of the time, thanks to the
CPU caches. Whoever reads the results settles the ledger first, so the delay is not visible.
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
"""Most reports processed at once, which blocks the loop for about a millisecond."""
WITHIN_S = 0.1
"""Longest delay of a report, however few there are."""
RECENT = 1000
"""How many of the latest decisions are kept."""


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
    """Hits that were counted but not served, in shadow mode."""
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
        """`readers` get every report too, some time after the call has ended: metrics, log and so on."""
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
        """The latest decisions, newest last."""
        self.settle()
        return self._recent

    @property
    def published(self) -> int:
        """Calls since the start."""
        self.settle()
        return self._published

    def forget(self, meant: Callable[[Report], bool]) -> None:
        """Removes those of the recent decisions for which `meant` is true. The counts stay."""
        self._recent = deque((each for each in self.recent if not meant(each)), maxlen=RECENT)

    def publish(self, report: Report) -> None:
        """Queues a report for all readers. Needs a running loop."""
        self._waiting.append(report)
        if len(self._waiting) >= BATCH:
            self.settle()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WITHIN_S, self.settle)

    def settle(self) -> None:
        """Passes all queued reports to the readers now."""
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
    """Passes the reports to one reader. An error in it is logged, and affects neither the other readers nor
    the other reports."""
    failed = None
    for report in reports:
        try:
            read(report)
        except Exception as error:  # noqa: BLE001
            failed = error
    if failed is not None:
        log.error("processing the report of a call failed", exc_info=failed)
