"""Counts over time: sums per category in buckets, which are finer for the last hour than for the last month.

Every figure is a sum, so buckets are merged by adding. A call only adds to the open bucket; everything else
is done when a bucket ends. Size: at most 3240 buckets, of about 360 bytes per category with calls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from math import ceil
from operator import add
from pathlib import Path
from typing import IO, Any

from policies.audit import Verdict
from proxy.telemetry.report import Report
from storage.documents.claim import locked

log = logging.getLogger("nearhit.history")

NAMES = (
    "requests", "exact", "semantic", "inflight", "stale", "misses", "bypasses", "shadow", "errors",
    "saved_ms", "tokens_saved", "cost_saved", "pressure", "right", "wrong",
)  # fmt: skip
EDGES_MS = (1, 2, 5, 10, 50, 200, 1000, 5000, 20_000)
"""Upper bounds of the latency bins; the last bin has none."""
_AT = {name: place for place, name in enumerate(NAMES)}
_BINS = len(EDGES_MS) + 1
_HITS, _OTHERS = len(NAMES), len(NAMES) + _BINS
_WIDTH = _OTHERS + _BINS
_REQUESTS, _ERRORS, _PRESSURE = _AT["requests"], _AT["errors"], _AT["pressure"]
_SAVED_MS, _TOKENS, _COST = _AT["saved_ms"], _AT["tokens_saved"], _AT["cost_saved"]
_OUTCOMES = {name: _AT[name] for name in ("exact", "semantic", "inflight")} | {
    "STALE": _AT["stale"], "MISS": _AT["misses"], "BYPASS": _AT["bypasses"], "SHADOW": _AT["shadow"],
}  # fmt: skip

MOST_POINTS = 360
"""Most buckets in one answer; a longer window has wider ones."""
SAVE_EVERY_S = 30.0
BACK_S = 3600.0
"""How far time may go back within a bucket: longer than any call takes."""

Bucket = dict[str, "array[float]"]
Verdicts = Callable[[], Mapping[tuple[str, Verdict], int]]


@dataclass(slots=True)
class Level:
    width: int
    """Length of a bucket in seconds."""
    count: int
    """Most buckets that are kept."""
    buckets: dict[int, Bucket] = field(default_factory=dict)
    """By their start, oldest first."""
    dirty: set[int] = field(default_factory=set)

    def add(self, start: int, rows: Mapping[str, Sequence[float]]) -> None:
        start -= start % self.width
        bucket = self.buckets.setdefault(start, {})
        for name, row in rows.items():
            known = bucket.get(name)
            bucket[name] = array("d", row if known is None else map(add, known, row))
        self.dirty.add(start)
        while len(self.buckets) > self.count:
            oldest = min(self.buckets)
            del self.buckets[oldest]
            self.dirty.discard(oldest)


class History:
    def __init__(self, verdicts: Verdicts, now: float, file: HistoryFile | None = None) -> None:
        """`verdicts`: the number of verdicts since the start, by category and verdict."""
        self.levels = (Level(10, 360), Level(60, 1440), Level(1800, 1440))
        self._verdicts = verdicts
        self._judged: dict[tuple[str, Verdict], int] = {}
        self._open: dict[str, list[float]] = {}
        """Lists, as adding to an element of an array takes twice as long."""
        self._start = int(now) - int(now) % self.levels[0].width
        self._until = float(self._start + self.levels[0].width)
        self._file = file

    def observe(self, report: Report) -> None:
        if report.at >= self._until:
            self.roll(report.at)
        name = report.category or "none"
        row = self._open.get(name)
        if row is None:
            row = self._open[name] = [0.0] * _WIDTH
        outcome = report.outcome
        row[_REQUESTS] += 1
        row[_OUTCOMES[(report.tier or "exact") if outcome == "HIT" else outcome]] += 1
        if report.error or report.status >= 400:
            row[_ERRORS] += 1
        if report.pressure:
            row[_PRESSURE] += report.pressure
        if outcome == "HIT" or outcome == "STALE":
            row[_SAVED_MS] += report.saved_ms
            row[_TOKENS] += report.tokens_in + report.tokens_out
            if report.saved_cost:
                row[_COST] += report.saved_cost
            row[_HITS + bisect_left(EDGES_MS, report.total_ms)] += 1
        else:
            row[_OTHERS + bisect_left(EDGES_MS, report.total_ms)] += 1

    def roll(self, now: float) -> None:
        """Closes the open bucket if its time is over. `now` may be a little earlier than the open bucket, as
        calls do not end in the order in which they began; if it is much earlier, the clock was wrong, and a
        new bucket is opened."""
        if self._start - BACK_S < now < self._until:
            return
        self._note_verdicts()
        if self._open:
            for level in self.levels:
                level.add(self._start, self._open)
            self._open = {}
        width = self.levels[0].width
        self._start = int(now) - int(now) % width
        self._until = float(self._start + width)

    def _note_verdicts(self) -> None:
        for (name, verdict), count in self._verdicts().items():
            if verdict in _AT and (more := count - self._judged.get((name, verdict), 0)):
                self._open.setdefault(name, [0.0] * _WIDTH)[_AT[verdict]] += more
                self._judged[name, verdict] = count

    # Reading

    async def since(
        self, now: float, window: float, group: Callable[[str], str | None] = str
    ) -> tuple[int, list[tuple[int, Bucket]]]:
        """The length of a bucket in seconds, and (start, sums by group) of all buckets with calls, oldest
        first. `group`: maps a category to its group, or to None to leave it out."""
        self.roll(now)
        self._note_verdicts()
        level = next((each for each in self.levels if each.width * each.count >= window), self.levels[-1])
        step = level.width * max(1, ceil(window / level.width / MOST_POINTS))
        found = Level(step, MOST_POINTS + 1)
        closed: list[tuple[int, Mapping[str, Sequence[float]]]] = sorted(level.buckets.items())
        for number, (start, rows) in enumerate([*closed, (self._start, self._open)]):
            if start + step > now - window:
                for name, row in rows.items():
                    if (its := group(name)) is not None:
                        found.add(start, {its: row})
            if number % 32 == 31:
                await asyncio.sleep(0)
        return step, sorted(found.buckets.items())

    # Saving

    async def load(self, now: float) -> None:
        """Loads what the file has. If it cannot be read, or belongs to another proxy, it is left alone and
        nothing will be saved."""
        if self._file is None:
            return
        try:
            await asyncio.to_thread(self._file.claim)
            rows = await asyncio.to_thread(self._file.load)
        except (sqlite3.Error, OSError) as error:
            log.warning("the history will not be saved: %s: %s", self._file.path, error)
            self._file.release()
            self._file = None
            return
        for level in self.levels:
            oldest = now - level.width * level.count
            for start, name, row in rows.get(level.width, []):
                if oldest < start <= now:
                    level.add(start, {name: row})
            level.dirty.clear()

    async def save(self) -> None:
        """Saves what has changed since the last time. If that fails, the next call tries again."""
        if self._file is None:
            return
        changed = [(level, level.dirty) for level in self.levels]
        for level in self.levels:
            level.dirty = set()
        rows = [row for level, starts in changed for row in _rows(level, starts)]
        oldest = {level.width: min(level.buckets, default=0) for level in self.levels}
        try:
            await asyncio.to_thread(self._file.save, rows, oldest)
        except (sqlite3.Error, OSError) as error:
            log.warning("could not save the history, will try again: %s", error)
            for level, starts in changed:
                level.dirty |= starts & level.buckets.keys()

    async def close(self, now: float) -> None:
        self.roll(max(now, self._until))
        await self.save()
        if self._file is not None:
            self._file.release()

    async def keep(self, clock: Callable[[], float]) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            self.roll(clock())
            await self.save()


Row = tuple[int, int, str, bytes]


def _rows(level: Level, starts: Iterable[int]) -> Iterator[Row]:
    for start in starts:
        for name, row in level.buckets.get(start, {}).items():
            yield level.width, start, name, row.tobytes()


class HistoryFile:
    """The history in its own SQLite file. Blocking, so to be used in a thread. Raises `sqlite3.Error` and
    `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    def claim(self) -> None:
        """Two proxies would overwrite each other's sums. Raises `OSError` if another one has the file."""
        try:
            self._lock = locked(self.path.resolve())
        except BlockingIOError:
            raise OSError("another proxy saves its history there; name another file in `history`") from None

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def load(self) -> dict[int, list[tuple[int, str, array[float]]]]:
        """(start, category, sums) of all buckets, by their width."""
        found: dict[int, list[tuple[int, str, array[float]]]] = {}
        with self._open() as connection:
            for width, start, name, blob in connection.execute(
                "SELECT width, start, category, sums FROM history ORDER BY start"
            ):
                if isinstance(blob, bytes) and len(blob) == 8 * _WIDTH:
                    found.setdefault(width, []).append((start, name, array("d", blob)))
        return found

    def save(self, rows: Iterable[Row], oldest: Mapping[int, int]) -> None:
        with self._open() as connection:
            connection.executemany("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)", rows)
            for width, start in oldest.items():
                connection.execute("DELETE FROM history WHERE width = ? AND start < ?", (width, start))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(self.path, timeout=5.0)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS history (width INTEGER, start INTEGER, category TEXT, sums BLOB,"
                " PRIMARY KEY (width, start, category)) WITHOUT ROWID"
            )
            yield connection


def shown(row: array[float]) -> dict[str, Any]:
    """A bucket as JSON: counts as integers, the mean pressure of the calls, latencies as counts per bin."""
    told: dict[str, Any] = {name: row[place] for name, place in _AT.items()}
    for name in told.keys() - {"saved_ms", "cost_saved", "pressure"}:
        told[name] = round(told[name])
    told["pressure"] = row[_PRESSURE] / row[_REQUESTS] if row[_REQUESTS] else 0.0
    told["hit_ms"] = [round(each) for each in row[_HITS:_OTHERS]]
    told["other_ms"] = [round(each) for each in row[_OTHERS:]]
    return told
