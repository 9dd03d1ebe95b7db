"""Whether an answer for which nobody waits any more shall be finished: what was spent on it is spent, and the
next who asks may have it. No clock, no I/O."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

MOST_KINDS = 256
WEIGHT = 0.2
"""Of the newest answer in what is usual."""

K = TypeVar("K")


class Finishing(Generic[K]):
    """Learns for each kind of call how many seconds its answers usually take."""

    def __init__(self, share: float) -> None:
        """`share` of the usual time that must have passed, 0 to 1."""
        self._share = share
        self._usual: OrderedDict[K, float] = OrderedDict()

    def note(self, kind: K, seconds: float) -> None:
        """An answer was complete after so long."""
        usual = self._usual.pop(kind, seconds)
        self._usual[kind] = usual + WEIGHT * (seconds - usual)
        if len(self._usual) > MOST_KINDS:
            self._usual.popitem(last=False)

    def patience(self, kind: K, seconds: float) -> float:
        """For how many seconds more to go on with an answer that has taken so long; 0: not at all. Where
        nothing is known of the kind, nothing is known to be nearly there."""
        usual = self._usual.get(kind)
        if usual is None or seconds < self._share * usual:
            return 0.0
        return usual
