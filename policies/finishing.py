"""Whether to finish an answer whose callers have all left: most of its cost is spent already, and the next
caller may want it. No clock, no I/O."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

MOST_KINDS = 256
WEIGHT = 0.2
"""Weight of the newest answer in the moving average."""

K = TypeVar("K")


class Finishing(Generic[K]):
    """Learns for each kind of call how many seconds its answers usually take."""

    def __init__(self, share: float) -> None:
        """`share`: of the usual time that must have passed for an answer to be finished, 0 to 1."""
        self._share = share
        self._usual: OrderedDict[K, float] = OrderedDict()

    def note(self, kind: K, seconds: float) -> None:
        """Records that a complete answer took so many seconds."""
        usual = self._usual.pop(kind, seconds)
        self._usual[kind] = usual + WEIGHT * (seconds - usual)
        if len(self._usual) > MOST_KINDS:
            self._usual.popitem(last=False)

    def patience(self, kind: K, seconds: float) -> float:
        """How many more seconds to give an answer that has taken `seconds` so far; 0: give it up. It is also
        0 for a kind that has not been seen, as nothing says the answer is nearly done."""
        usual = self._usual.get(kind)
        if usual is None or seconds < self._share * usual:
            return 0.0
        return usual
