"""What has happened: counts per category and the most recent decisions, both from the calls' reports."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from proxy.report import Report

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


class Ledger:
    def __init__(self, *readers: Callable[[Report], None]) -> None:
        """`readers` are told of every call too: metrics, log."""
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.recent: deque[Report] = deque(maxlen=RECENT)
        self.published = 0
        self._readers = readers

    def forget(self, meant: Callable[[Report], bool]) -> None:
        """Of the recent decisions; the counts stay."""
        self.recent = deque((each for each in self.recent if not meant(each)), maxlen=RECENT)

    def publish(self, report: Report) -> None:
        self.tallies[report.category or "none"].add(report)
        self.recent.append(report)
        self.published += 1
        for read in self._readers:
            read(report)
