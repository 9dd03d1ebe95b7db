"""How often each answer is asked for of late, those included that are not stored any more.

Time is counted in asks, all answers' together. Silence wears demand down, a lot of it faster than a little:

    demand after n asks for others:  1 / (1/demand + n/span)        after one more ask for it:  demand + 1

So no demand is above what the silence since the last ask allows, and what was popular counts no more than
what is new before long. In other words demand is span / (asks so far − mark), and only an ask moves the mark:
of two answers the one with the smaller mark is less in demand, now and later.
"""

from __future__ import annotations

import math

import numpy as np

SPAN = 15
"""Asks per entry of capacity that halve a demand of one. A longer span is better by half a percent where
popularity stays, and slower where it changes (tools/study_eviction.py)."""
REMEMBERED = 4
"""Places per entry of capacity for what is not stored."""
NEVER = -math.inf
"""Mark of what nobody asked for, or not that anybody remembers."""


class Demand:
    """Of the answers that a memory of `capacity` entries has or had; each goes by its exact digest.

    What left is remembered in a table in which a digest has one place. Of those that meet there the one more
    in demand keeps it. So it takes 48 bytes per entry of capacity, whatever comes.
    """

    def __init__(self, capacity: int) -> None:
        self._span = self._asks = SPAN * capacity  # so that an empty place has the smallest mark, zero
        self._marks = np.zeros(REMEMBERED * capacity)
        self._tags = np.zeros(REMEMBERED * capacity, np.uint32)

    def of(self, mark: float) -> float:
        return self._span / (self._asks - mark)

    def asked(self, mark: float) -> float:
        """The mark after one more ask, now."""
        self._asks += 1
        return self._asks - self._span / (1.0 + self.of(mark))

    def once(self) -> float:
        """The mark that has a demand of one now."""
        return float(self._asks - self._span)

    def remember(self, exact: bytes, mark: float) -> None:
        place, tag = self._place(exact)
        if mark >= self._marks.item(place) or self._tags.item(place) == tag:
            self._marks[place], self._tags[place] = mark, tag

    def recall(self, exact: bytes) -> float:
        """The mark of what left."""
        place, tag = self._place(exact)
        return self._marks.item(place) if self._tags.item(place) == tag else NEVER

    def _place(self, exact: bytes) -> tuple[int, int]:
        return int.from_bytes(exact[:8], "little") % len(self._marks), int.from_bytes(exact[8:12], "little")
