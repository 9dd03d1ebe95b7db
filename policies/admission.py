"""How many calls an upstream may have at once, and who goes next where more want to. No clock, no I/O.

The limit follows the upstream: it grows while answers come as fast as they use to, and falls when they take
longer or the upstream says that it has too much. A limit is only learned from when it was nearly reached;
what an upstream does with half of it says nothing about the other half.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil, log, sqrt
from typing import Generic, TypeVar

LEAST, START, MOST = 4, 8, 1024
"""Places that are always left, that are there at first, and that are never exceeded. Few at first, so that
what is usual is learned before the upstream is full."""
WINDOW_S = 1.0
WINDOW_CALLS = 8
"""A window ends when it has both lasted that long and brought so many answers."""
SLOWER = log(2.0)
"""How much slower than usual is too slow: with a queue in front of a full server, twice the usual time is
as much waiting as serving."""
TOO_MANY_FAILURES = 0.1
"""Share of 429, 5xx and timeouts in a window."""
CUT_FOR_FAILURES, CUT_FOR_SLOWNESS = 0.7, 0.9
NEARLY_ALL = 0.8
"""Share of the limit that must have been in use for it to grow, and half of it that it may be learned what
is usual."""
MOST_KINDS = 64

Kind = tuple[str, bool]
"""Model, and whether the answer is streamed: their times are not to be compared."""


@dataclass(slots=True)
class _Window:
    since: float | None = None
    calls: int = 0
    failures: int = 0
    most_in_use: int = 0
    slower: float = 0.0
    """Sum over the answers of log(time / usual time)."""
    logs: dict[Kind, tuple[float, int]] = field(default_factory=dict)
    """Sum of log(time) and count."""


class Limit:
    """Additive increase, multiplicative decrease, and doubling up to the first decrease. With `least` =
    `most` it is a constant."""

    def __init__(self, least: int = LEAST, most: int = MOST, start: int = START) -> None:
        self._least, self._most = least, most
        self._limit = float(min(max(start, least), most))
        self._usual: OrderedDict[Kind, float] = OrderedDict()
        """log of the time to the first byte, of the kinds seen last."""
        self._window = _Window()
        self._cut = False

    @property
    def places(self) -> int:
        return int(self._limit)

    @property
    def adapts(self) -> bool:
        return self._least < self._most

    def observe(self, now: float, kind: Kind, seconds: float | None, in_use: int) -> None:
        """An answer's first byte came after `seconds` while `in_use` places were taken; None: the upstream
        was too busy for it, or did not answer in time."""
        window = self._window
        if window.since is None:
            window.since = now
        window.calls += 1
        window.most_in_use = max(window.most_in_use, in_use)
        if seconds is None:
            window.failures += 1
        else:
            self._note(window, kind, log(max(seconds, 1e-4)))
        if window.calls >= WINDOW_CALLS and now - window.since >= WINDOW_S:
            self._step(window)
            self._window = _Window(since=now)

    def _note(self, window: _Window, kind: Kind, time: float) -> None:
        usual = self._usual.get(kind)
        window.slower += 0.0 if usual is None else time - usual
        total, count = window.logs.get(kind, (0.0, 0))
        window.logs[kind] = total + time, count + 1

    def _step(self, window: _Window) -> None:
        self._limit = min(max(self._stepped(window), self._least), self._most)
        self._learn(window)

    def _stepped(self, window: _Window) -> float:
        limit, answers = self._limit, window.calls - window.failures
        failed = window.failures > TOO_MANY_FAILURES * window.calls
        if failed or (answers and window.slower / answers > SLOWER):
            self._cut = True
            return limit * (CUT_FOR_FAILURES if failed else CUT_FOR_SLOWNESS)
        if window.most_in_use >= NEARLY_ALL * self.places:
            return limit + (sqrt(limit) if self._cut else limit)
        return limit

    def _learn(self, window: _Window) -> None:
        """Faster is believed at once. Slower only with half the limit in use, or when it is as low as it
        goes: then it is not for want of places."""
        calm = window.most_in_use < NEARLY_ALL / 2 * self.places or self.places <= self._least
        for kind, (total, count) in window.logs.items():
            mean = total / count
            usual = self._usual.pop(kind, mean)
            if mean < usual or calm:
                usual += 0.3 * (mean - usual)
            self._usual[kind] = usual
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
