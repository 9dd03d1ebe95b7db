"""How many calls an upstream may have at once, and who goes next where more want to. No clock, no I/O.

What a call takes longer to its first byte than one alone, it waits. By Little's law, of n calls that wait for
a share w of their time n·(1 - w) are being served. So one look at full use says how many the upstream serves,
and the limit goes there at once, up or down. What an upstream does with less than its limit says nothing
about more; it says how long an answer takes alone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil, exp, log, sqrt
from typing import Generic, TypeVar

LEAST, START, MOST = 1, 8, 1024
"""Places that are always left, that are there at first, and that are never exceeded. Few at first, so that
what is usual is learned before the upstream is full."""
WINDOW_S = 0.5
WINDOW_CALLS = 4
"""A window lasts so long at least, and for so many answers and half of the places more, all to calls that
went up in it: others tell of an earlier limit."""
ROOM = 1.5
"""So many times the calls that are being served, and their square root more, get a place: a model that works
on calls in batches is slower with many without any of them waiting, and arrivals are not even."""
CLEARLY_FASTER = log(0.8)
TOO_MANY_FAILURES = 0.1
"""Share of 429, 5xx and timeouts in a window."""
CUT_FOR_FAILURES = 0.7
SPARED = 4
"""Places that failures leave: what fails holds them for a moment only, and with fewer a few long answers
would keep everybody from seeing that it is over."""
NEARLY_ALL = 0.8
"""Share of the limit that must be in use for it to grow."""
ALONE = 4
"""Calls that take up a fourth of the places at most do not wait for each other."""
LEARNED, MOST_LEARNED = 8, 32
"""Answers to such calls after which the usual time is known, and of how many it is the mean."""
DOUBT = 200
"""Unless it was learned in so many windows, it is asked for before slow answers are believed to be slow."""
REST_CALLS = 32
"""Memory of the time from an answer's first byte to its end."""
MOST_KINDS = 64

Kind = tuple[str, bool]
"""Model, and whether the answer is streamed: their times are not to be compared."""


@dataclass(slots=True)
class _Times:
    """Sums of log(time) of a kind's answers in a window."""

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
    """Sum over the calls."""
    seconds: float = 0.0
    """Sum over the answers."""
    times: dict[Kind, _Times] = field(default_factory=dict)


@dataclass(slots=True)
class _Usual:
    """A mean of log(time), and of how many answers."""

    time: float
    count: int

    def learn(self, total: float, count: int) -> None:
        self.time += (total - count * self.time) / max(1, self.count + count)
        self.count = min(self.count + count, MOST_LEARNED)


class Limit:
    """As many places as calls are being served, and some. With `least` = `most` it is a constant."""

    def __init__(self, least: int = LEAST, most: int = MOST, start: int = START) -> None:
        self._least, self._most = least, most
        self._limit = float(min(max(start, least), most))
        self._usual: OrderedDict[Kind, _Usual] = OrderedDict()
        """Time to the first byte of the kinds seen last, each alone."""
        self._learned = 0
        self._windows_since = DOUBT
        """Answers that were learned from, and windows since there were enough of them."""
        self._asks = False
        """Few places are left for a window, to learn what is usual."""
        self._rest = 0.0
        self._window: _Window | None = None
        self._brink = 0.0
        """The limit under which calls last failed: growth is careful near it."""

    @property
    def places(self) -> int:
        return max(self._least, int(self._limit / ALONE if self._asks else self._limit))

    @property
    def adapts(self) -> bool:
        return self._least < self._most

    def observe(self, now: float, kind: Kind, seconds: float | None, in_use: int) -> None:
        """An answer's first byte came after `seconds`; when its call went up it was the `in_use`th at once.
        None: the upstream was too busy for it, or did not answer in time."""
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
        """So long after its first byte an answer was over."""
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
        """Calls, of those on their way."""
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
        """From calls alone, sooner at the least limit, which must not last if it is wrong, and from all
        where they are faster. A new kind is as much slower than usual as the known ones are."""
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
"""Every so many turns the one who waits longest is next, whatever its priority."""


class Line(Generic[T]):
    """Who waits: by priority, and of one priority by tenants in turn.

    One turn in `TURN_OF_THE_OLDEST` goes to whoever waits longest, so no priority waits for ever.
    """

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
        """Whether it was still there."""
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
        """Takes out whose turn it is. Somebody must be waiting."""
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
        """Who should leave a full line for a newcomer: the newest of the tenant with most waiting in the
        lowest priority, if that is below the newcomer's, or the same and the tenant has two more waiting."""
        lowest = min(self._by_priority, default=priority)
        tenants = self._by_priority.get(lowest, OrderedDict())
        waiting = max(tenants.values(), key=len, default=OrderedDict())
        own = len(tenants.get(tenant, ()))
        if lowest > priority or (lowest == priority and len(waiting) < own + 2):
            return None
        return next(reversed(waiting), None)


def retry_after(waiting: int, places: int, seconds_held: float) -> int:
    """Whole seconds after which as many places have come free as were wanted; 1 to 60."""
    return min(60, max(1, ceil((waiting + 1) * seconds_held / places)))
