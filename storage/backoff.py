"""Pauses between attempts at what fails."""

from __future__ import annotations


class BackOff:
    """`first` seconds after the first failure in a row, then twice as long each time, up to `longest`."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.failures = 0
        """In a row."""

    def succeeded(self) -> None:
        self.failures = 0

    def failed(self) -> float:
        """Seconds until the next attempt."""
        self.failures += 1
        return min(self._longest, self._first * 2.0 ** min(self.failures - 1, 16))
