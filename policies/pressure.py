"""How loaded an upstream is, as one number from 0 to 1, from everything we can observe of it.

Each signal x is normalised to `clamp((x - low) / (high - low), 0, 1)`. Pressure is their maximum, smoothed to
rise fast and fall slowly, with hysteresis. No clock here: `now` is in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import exp, isfinite

UP_S = 1.5
DOWN_S = 8.0
"""Time constants of the smoothing: pressure is believed sooner than relief."""
ENGAGE = 0.15
RELEASE = 0.05
"""Hysteresis: policies start to adapt above the first and stop below the second."""
BAND = 0.05
"""The held level follows the smoothed one only in steps of at least this size."""
STEP_S = 0.05
"""Minimum time between updates of level, medians and capacity, so that the cost per call does not grow with
the call rate."""

SAMPLES = 32
LEAST = 8
"""Most and fewest latencies for a median. From fewer, nothing is learned or concluded."""
FRESH_S = 15.0
"""Age up to which a latency or a scrape says something about now."""
FALL_S = 60.0
RISE_S = 6 * 3600.0
"""Time constants of a baseline: it falls quickly to what the upstream can do, and rises very slowly."""
PATIENCE_S = 3600.0
"""After this long with only slow answers, slow becomes the new baseline."""
OVERHEAD_TOKENS = 32.0
"""The fixed cost of an answer, in tokens; durations are compared per (`OVERHEAD_TOKENS` + tokens)."""

FAILURES_S = 5.0
FAILURES_MOST = 40.0
"""Memory of the failure rate, in seconds and in calls: both limit how long a burst is remembered."""
DOUBT = 4.0
"""Imaginary good calls added to the real ones, so that one failure out of one call is not overload."""
REMAINING_S = 3.0
REMAINING_DOUBT = 0.5
RECOVERED = 8
"""Good answers that cancel a `Retry-After`: it was then meant for one caller, not for all."""
RETRY_MOST_S = 60.0
"""Longest `Retry-After` that is believed; an upstream that is still busy after that will say so again."""
CAPACITY_S = 10.0
"""Time constant of a learned capacity."""
QUEUED = 2.0
"""Ratio of latency to its baseline from which calls must be queueing."""

BOUNDS: dict[str, tuple[float, float]] = {
    "in_flight": (1.0, 2.0),
    "first_byte": (2.0, 5.0),
    "duration": (2.0, 5.0),
    "silence": (2.0, 5.0),
    "failures": (0.1, 0.5),
    "retry_after": (0.0, 1.0),
    "rate_limit": (0.8, 1.0),
    "queue": (0.1, 1.0),
    "kv_cache": (0.85, 1.0),
}
"""(low, high) of each signal, in this order: calls in flight over capacity; two latencies over their
baselines; time without an answer over the baseline duration; share of failed calls; share of a Retry-After
still in force; share of a rate limit used up; waiting over running calls; share of the KV cache in use."""


def normalised(signal: str, x: float) -> float:
    """0 at the signal's low bound and below, 1 at its high bound and above."""
    low, high = BOUNDS[signal]
    return min(1.0, max(0.0, (x - low) / (high - low)))


class Level:
    """Smoothing and hysteresis: turns a noisy input from 0 to 1 into a steady one that settles at exactly
    0."""

    def __init__(self) -> None:
        self.smooth = 0.0
        self.held = 0.0
        """The level that policies adapt to."""
        self._at: float | None = None

    def step(self, raw: float, now: float) -> float:
        """Assumes that the input has been `raw` since the last step."""
        since = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self.smooth += (raw - self.smooth) * _settled(since / (UP_S if raw > self.smooth else DOWN_S))
        if self.smooth <= (RELEASE if self.held else ENGAGE):
            self.held = 0.0
        elif self.smooth > 1.0 - BAND / 5:
            self.held = 1.0
        elif abs(self.smooth - self.held) >= BAND:
            self.held = self.smooth
        return self.held


def _settled(x: float) -> float:
    return 1.0 - exp(-x)


class Latency:
    """The median of recent latencies, and a baseline: the same median while the upstream was not
    overloaded."""

    def __init__(self) -> None:
        self.base: float | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._median: float | None = None
        self._behind = False
        """Whether latencies have come in since the median was computed."""
        self._at = 0.0
        self._slow_since: float | None = None

    def note(self, seconds: float, now: float, calm: bool) -> None:
        """`calm`: the upstream is not under pressure, so the baseline may learn from this."""
        self._recent.append((now, seconds))
        if self._median is not None and now - self._at < STEP_S:
            self._behind = True
            return
        self._forget(now)
        median = self._median = self._of_recent()
        self._behind = False
        since, self._at = min(FRESH_S, max(0.0, now - self._at)), now
        if median is None:
            return
        if self.base is None:
            self.base = median if calm else None
        elif calm:
            self.base += (median - self.base) * _settled(since / (FALL_S if median < self.base else RISE_S))
        self._mind_patience(median, now)

    def _mind_patience(self, median: float, now: float) -> None:
        if self.base is None or median < QUEUED * self.base:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = now
        elif now - self._slow_since > PATIENCE_S:
            self.base, self._slow_since = median, None

    def inflation(self, now: float) -> float | None:
        """Ratio of the recent median to the baseline. None: too few recent calls."""
        if self._forget(now) or self._behind:
            self._median = self._of_recent()
            self._behind = False
        if self._median is None or not self.base:
            return None
        return self._median / self.base

    def _forget(self, now: float) -> bool:
        recent, before = self._recent, len(self._recent)
        while recent and recent[0][0] < now - FRESH_S:
            recent.popleft()
        return len(recent) < before

    def _of_recent(self) -> float | None:
        ordered = sorted([seconds for _, seconds in self._recent])
        return ordered[len(ordered) // 2] if len(ordered) >= LEAST else None


class Share:
    """A mean with exponential decay over time and, if `most` is given, over the number of values. It is
    smoothed by a prior of `doubt` values equal to `default`, so that a few values change it little."""

    def __init__(self, memory_s: float, doubt: float, default: float, most: float = float("inf")) -> None:
        self._memory_s, self._doubt, self._default, self._most = memory_s, doubt, default, most
        self._sum = self._weight = 0.0
        self._at = 0.0

    def note(self, value: float, now: float) -> None:
        self._fade(now)
        shrunk = min(1.0, self._most / (self._weight + 1.0))
        self._sum = (self._sum + value) * shrunk
        self._weight = (self._weight + 1.0) * shrunk

    def value(self, now: float) -> float:
        self._fade(now)
        return (self._sum + self._doubt * self._default) / (self._weight + self._doubt)

    def _fade(self, now: float) -> None:
        if now > self._at:
            kept = exp((self._at - now) / self._memory_s)
            self._sum, self._weight, self._at = self._sum * kept, self._weight * kept, now


@dataclass(frozen=True, slots=True)
class Scrape:
    """What an upstream's own metrics reported. None: it has no such metric."""

    at: float
    waiting: float | None
    running: float | None
    cache_usage: float | None


class Pressure:
    """The load of one upstream, or of one model there. Each call is reported once to `began` and once to
    `ended`; each costs a few microseconds.

    `capacity`: calls it serves at once. None: learned when calls begin to queue.
    """

    def __init__(self, capacity: float | None = None) -> None:
        self.in_flight = 0
        self._given = capacity
        self._learned: float | None = None
        self._learned_at = 0.0
        self._first_byte = Latency()
        self._duration = Latency()
        self._pace = Latency()
        self._quiet_since = 0.0
        self._failures = Share(FAILURES_S, DOUBT, 0.0, FAILURES_MOST)
        self._remaining = Share(REMAINING_S, REMAINING_DOUBT, 1.0)
        self._retry_until = float("-inf")
        self._good_since_retry = 0
        self._scrape: Scrape | None = None
        self._level = Level()
        self._next = float("-inf")

    @property
    def capacity(self) -> float | None:
        """Calls it serves at once, configured or learned. None: it has not been seen at its limit yet."""
        return self._given or self._learned

    # Events

    def began(self, now: float) -> None:
        """A call is to be sent. Time spent in our own queue counts too: it is part of the same wait."""
        self._advance(now)
        if not self.in_flight:
            self._quiet_since = now
        self.in_flight += 1

    def answered(self, first_byte_s: float | None, status: int, now: float) -> None:
        """The head of an answer arrived. `first_byte_s`: seconds since `began`, for streams only, as the head
        of a JSON answer arrives together with its end."""
        self._advance(now)
        self._quiet_since = now
        if 200 <= status < 300:
            self._good_since_retry += 1
            if first_byte_s is not None:
                self._first_byte.note(first_byte_s, now, self.calm)

    def ended(self, duration_s: float | None, ok: bool | None, now: float, tokens: float = 0.0) -> None:
        """A call is over. `ok` is False for a 429, a 5xx, a timeout, an unreachable upstream or a broken-off
        answer, and None if it says nothing about the upstream: the caller left, or sent a bad request.
        `duration_s`: since `began`; None: do not learn from it. `tokens`: rough length of the answer."""
        self._advance(now)
        if ok is not None:
            self._quiet_since = now
            self._failures.note(0.0 if ok else 1.0, now)
        if ok and duration_s is not None:
            self._duration.note(duration_s / (OVERHEAD_TOKENS + tokens), now, self.calm)
            self._pace.note(duration_s, now, self.calm)
            self._learn_capacity(now)
        self.in_flight = max(0, self.in_flight - 1)

    def told(self, retry_after_s: float | None, remaining_share: float | None, now: float) -> None:
        """What an answer's headers say: Retry-After, and the lowest remaining share of a rate limit, 0 to
        1."""
        self._advance(now)
        if retry_after_s is not None and isfinite(retry_after_s) and retry_after_s > 0:
            self._retry_until = max(self._retry_until, now + min(retry_after_s, RETRY_MOST_S))
            self._good_since_retry = 0
        if remaining_share is not None and isfinite(remaining_share):
            self._remaining.note(min(1.0, max(0.0, remaining_share)), now)

    def scraped(
        self, waiting: float | None, running: float | None, cache_usage: float | None, now: float
    ) -> None:
        """Takes the upstream's own metrics, which count for `FRESH_S` seconds."""
        self._advance(now)
        self._scrape = Scrape(now, waiting, running, cache_usage)

    # Results

    @property
    def calm(self) -> bool:
        """As of the last event."""
        return self._level.held == 0.0

    def level(self, now: float) -> float:
        """0 to 1; exactly 0 if there is no overload."""
        self._advance(now)
        return self._level.held

    def signals(self, now: float) -> dict[str, float]:
        """The normalised signals by name, 0 to 1 each, without smoothing or hysteresis."""
        return {name: normalised(name, x) for name, x in self._measured(now).items()}

    def _advance(self, now: float) -> None:
        if now >= self._next:
            self._level.step(max(self.signals(now).values()), now)
            self._next = now + STEP_S

    def _measured(self, now: float) -> dict[str, float]:
        scrape = self._scrape if self._scrape and now - self._scrape.at <= FRESH_S else None
        waiting = (scrape and scrape.waiting) or 0.0
        running = (scrape and scrape.running) or 0.0
        return {
            "in_flight": max(self.in_flight, waiting + running) / (self.capacity or float("inf")),
            "first_byte": self._first_byte.inflation(now) or 0.0,
            "duration": self._duration.inflation(now) or 0.0,
            "silence": self._silence(now),
            "failures": self._failures.value(now),
            "retry_after": self._in_retry(now),
            "rate_limit": 1.0 - self._remaining.value(now),
            "queue": waiting / max(1.0, running),
            "kv_cache": (scrape and scrape.cache_usage) or 0.0,
        }

    def _silence(self, now: float) -> float:
        """Time without an answer over the baseline duration: a stalled upstream gives no slow answers that
        the latencies could show."""
        base = self._pace.base
        return (now - self._quiet_since) / base if base and self.in_flight >= LEAST else 0.0

    def _in_retry(self, now: float) -> float:
        return max(0.0, 1.0 - self._good_since_retry / RECOVERED) if now < self._retry_until else 0.0

    def _learn_capacity(self, now: float) -> None:
        """Little's law: of n calls that take r times as long as on an idle upstream, n/r are being served.
        The estimate only falls while calls are queueing."""
        if now - self._learned_at < STEP_S or self.in_flight < LEAST:
            return
        slowness = max(self._first_byte.inflation(now) or 0.0, self._duration.inflation(now) or 0.0)
        since, self._learned_at = min(1.0, max(0.0, now - self._learned_at)), now
        if not slowness:
            return
        served, learned = self.in_flight / max(1.0, slowness), self._learned
        if learned is None:
            self._learned = served if slowness >= QUEUED else None
        elif served > learned or slowness >= QUEUED:
            self._learned = learned + (served - learned) * _settled(since / CAPACITY_S)
