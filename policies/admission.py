"""How many calls an upstream may have at once, and whose turn is next when more are waiting. No clock, no
I/O.

If a call takes longer to its first byte than a call alone would, the difference is time spent waiting. By
Little's law, of n calls that wait for a share w of their time, n·(1 - w) are being served. So one window at
full use tells how many calls the upstream serves, and the limit moves there at once, up or down. A window
below the limit says nothing about a higher limit, but it teaches how long a call takes alone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil, exp, log, sqrt
from typing import Generic, TypeVar

LEAST, START, MOST = 1, 8, 1024
"""Lowest, initial and highest limit. The initial one is small, so that the usual times are learned before the
upstream is full."""
WINDOW_S = 0.5
WINDOW_CALLS = 4
"""A window lasts at least `WINDOW_S`, and at least `WINDOW_CALLS` answers plus half the number of places.
Only calls sent within the window count, as older ones reflect an earlier limit."""
ROOM = 1.5
"""For s calls being served, the limit is `ROOM`·s + √s: a model that batches calls gets slower with many even
if none of them waits, and arrivals are uneven."""
CLEARLY_FASTER = log(0.8)
TOO_MANY_FAILURES = 0.1
"""Share of 429, 5xx and timeouts in a window from which the limit is cut."""
CUT_FOR_FAILURES = 0.7
SPARED = 4
"""Failures do not cut the limit below this. Failing calls hold their places only briefly, and with fewer
places a few long answers would hide that the failures are over."""
NEARLY_ALL = 0.8
"""Share of the limit that must be in use for it to grow."""
ALONE = 4
"""A call counts as alone, that is as not waiting for others, while at most 1/`ALONE` of the places is
used."""
LEARNED, MOST_LEARNED = 8, 32
"""Answers to calls alone after which the usual time is known, and over how many of them it is averaged."""
DOUBT = 200
"""If the usual time has not been learned for this many windows, it is measured again before the limit is cut
for slow answers."""
REST_CALLS = 32
"""Over how many answers the time from first byte to end is averaged."""
MOST_KINDS = 64

Kind = tuple[str, bool]
"""Model, and whether the answer is streamed. Times of different kinds are not comparable."""


@dataclass(slots=True)
class _Times:
    """Sums of log(time to first byte) over one kind's answers in a window."""

    all: float = 0.0
    count: int = 0
    alone: float = 0.0
    alone_count: int = 0


@dataclass(slots=True)
class _Window:
    since: float
    calls: int = 0
    failures: int = 0
    in_use: int = 0
    """Places in use, summed over the calls."""
    seconds: float = 0.0
    """Time to first byte, summed over the answers."""
    times: dict[Kind, _Times] = field(default_factory=dict)


@dataclass(slots=True)
class _Usual:
    """A mean of log(time to first byte), and the number of answers behind it."""

    time: float
    count: int

    def learn(self, total: float, count: int) -> None:
        self.time += (total - count * self.time) / max(1, self.count + count)
        self.count = min(self.count + count, MOST_LEARNED)


class Limit:
    """As many places as the upstream serves calls, plus some headroom. Constant if `least` = `most`."""

    def __init__(self, least: int = LEAST, most: int = MOST, start: int = START) -> None:
        self._least, self._most = least, most
        self._limit = float(min(max(start, least), most))
        self._usual: OrderedDict[Kind, _Usual] = OrderedDict()
        """Time to first byte of a call alone, for the most recent kinds."""
        self._learned = 0
        """Answers learned from since there were last `LEARNED` of them."""
        self._windows_since = DOUBT
        """Windows since then."""
        self._asks = False
        """Whether this window has few places, so that calls run alone and the usual time can be measured."""
        self._rest = 0.0
        """Mean seconds from an answer's first byte to its end."""
        self._window: _Window | None = None
        self._brink = 0.0
        """The limit at which calls last failed; near it, growth is careful."""

    @property
    def places(self) -> int:
        return max(self._least, int(self._limit / ALONE if self._asks else self._limit))

    @property
    def adapts(self) -> bool:
        return self._least < self._most

    def observe(self, now: float, kind: Kind, seconds: float | None, in_use: int) -> None:
        """Records that a call had its first byte after `seconds`. None: the upstream was too busy for it, or
        did not answer in time. `in_use`: places in use when the call was sent, its own included."""
        window = self._window
        if window is None:
            window = self._window = _Window(now - (seconds or 0.0))
        elif seconds is not None and now - seconds < window.since:
            return
        window.calls += 1
        window.in_use += in_use
        if seconds is None:
            window.failures += 1
        else:
            window.seconds += seconds
            self._note(window, kind, log(max(seconds, 1e-4)), in_use)
        if window.calls >= WINDOW_CALLS + self.places // 2 and now - window.since >= WINDOW_S:
            self._step(window)
            self._window = _Window(now)

    def _note(self, window: _Window, kind: Kind, time: float, in_use: int) -> None:
        times = window.times.get(kind)
        if times is None:
            times = window.times[kind] = _Times()
        times.all += time
        times.count += 1
        if in_use * ALONE <= self._limit or in_use <= self._least:
            times.alone += time
            times.alone_count += 1

    def ended(self, seconds: float) -> None:
        """Records that an answer ended so many seconds after its first byte."""
        self._rest += (seconds - self._rest) / REST_CALLS

    def _step(self, window: _Window) -> None:
        slower = self._slower(window)
        served = self._served(window, slower)
        self._learn(window, slower)
        if self._asks:
            self._asks = False
        elif window.in_use > ROOM * served * window.calls and self._windows_since > DOUBT:
            self._asks = True
        else:
            self._limit = min(max(self._stepped(window, served), self._least), self._most)

    def _served(self, window: _Window, slower: float) -> float:
        """How many of the calls in flight are being served rather than waiting."""
        answers = max(1, window.calls - window.failures)
        first_byte = window.seconds / answers
        waited = first_byte * (1.0 - exp(-max(0.0, slower)))
        return window.in_use / window.calls * (1.0 - waited / (first_byte + self._rest or 1.0))

    def _slower(self, window: _Window) -> float:
        """Mean of log(time / usual time) of the kinds that are known."""
        known = [
            (times, self._usual[kind].time) for kind, times in window.times.items() if kind in self._usual
        ]
        count = sum(times.count for times, _ in known)
        return sum(times.all - times.count * usual for times, usual in known) / max(1, count)

    def _stepped(self, window: _Window, served: float) -> float:
        limit, in_use = self._limit, window.in_use / window.calls
        if window.failures > TOO_MANY_FAILURES * window.calls:
            self._brink = limit
            return max(limit * CUT_FOR_FAILURES, min(limit, SPARED))
        wanted = ROOM * served + sqrt(served)
        if wanted < limit:
            return wanted if in_use > ROOM * served else limit
        if limit < 2 * self._brink:
            wanted = min(wanted, limit + sqrt(limit))
        return wanted if in_use >= NEARLY_ALL * self.places else limit

    def _learn(self, window: _Window, slower: float) -> None:
        """Updates the usual times, normally from calls alone. If calls are clearly faster than usual, all of
        them count; at the lowest limit new times count for more, so that a wrong one does not keep the limit
        there. A new kind is assumed to be as much slower than usual as the known ones are."""
        for kind, times in window.times.items():
            usual = self._usual.pop(kind, None) or _Usual(times.all / times.count - max(0.0, slower), 2)
            if slower < CLEARLY_FASTER:
                usual.learn(times.all, times.count)
            else:
                if self.places == self._least:
                    usual.count = min(usual.count, LEARNED)
                usual.learn(times.alone, times.alone_count)
            self._usual[kind] = usual
            self._learned += times.alone_count
        self._windows_since += 1
        if self._learned >= LEARNED:
            self._learned = self._windows_since = 0
        while len(self._usual) > MOST_KINDS:
            self._usual.popitem(last=False)


T = TypeVar("T")

TURN_OF_THE_OLDEST = 8
"""One turn in so many goes to whoever has waited longest, so that no priority starves."""


class Line(Generic[T]):
    """The queue for places: by priority, and within a priority round-robin over tenants."""

    def __init__(self) -> None:
        self._everybody: OrderedDict[T, tuple[int, str]] = OrderedDict()
        self._by_priority: dict[int, OrderedDict[str, OrderedDict[T, None]]] = {}
        self._turns = 0

    def __len__(self) -> int:
        return len(self._everybody)

    def add(self, item: T, priority: int, tenant: str) -> None:
        self._everybody[item] = priority, tenant
        tenants = self._by_priority.setdefault(priority, OrderedDict())
        tenants.setdefault(tenant, OrderedDict())[item] = None

    def remove(self, item: T) -> bool:
        """Returns whether it was still there."""
        if (place := self._everybody.pop(item, None)) is None:
            return False
        priority, tenant = place
        tenants = self._by_priority[priority]
        del tenants[tenant][item]
        if not tenants[tenant]:
            del tenants[tenant]
        if not tenants:
            del self._by_priority[priority]
        return True

    def next(self) -> T:
        """Removes and returns whoever's turn it is. The line must not be empty."""
        self._turns += 1
        if self._turns % TURN_OF_THE_OLDEST == 0:
            item = next(iter(self._everybody))
        else:
            item = next(iter(next(iter(self._by_priority[max(self._by_priority)].values()))))
        priority, tenant = self._everybody[item]
        self.remove(item)
        if tenant in (tenants := self._by_priority.get(priority, OrderedDict())):
            tenants.move_to_end(tenant)
        return item

    def outranked(self, priority: int, tenant: str) -> T | None:
        """Who should leave a full line for a newcomer: the newest item of the tenant with the most waiting in
        the lowest priority, if that priority is below the newcomer's, or if it is the same and that tenant
        has at least two more waiting than the newcomer's."""
        lowest = min(self._by_priority, default=priority)
        tenants = self._by_priority.get(lowest, OrderedDict())
        waiting = max(tenants.values(), key=len, default=OrderedDict())
        own = len(tenants.get(tenant, ()))
        if lowest > priority or (lowest == priority and len(waiting) < own + 2):
            return None
        return next(reversed(waiting), None)


def retry_after(waiting: int, places: int, seconds_held: float) -> int:
    """Whole seconds until places should have come free for all who wait and one more; 1 to 60."""
    return min(60, max(1, ceil((waiting + 1) * seconds_held / places)))
