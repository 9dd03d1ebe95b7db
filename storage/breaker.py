"""Sparing callers the wait for a server that fails."""

from __future__ import annotations

from collections.abc import Callable

from storage.base import StorageError

BREAKER_FAILURES = 5
"""Failures in a row after which calls fail at once."""
BREAKER_PAUSE = 3.0
"""Seconds until one call is tried again."""


class Breaker:
    """After some failures in a row it lets through one call now and then, until one succeeds."""

    def __init__(self, what: str, clock: Callable[[], float]) -> None:
        self._what = what
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0

    @property
    def state(self) -> str:
        return "open" if self._failures >= BREAKER_FAILURES else "closed"

    def check(self) -> None:
        """Raises StorageError when the call is not to be tried."""
        if self.state == "open":
            now = self._clock()
            if now < self._next_try:
                raise StorageError(f"{self._what} failed repeatedly just now")
            self._next_try = now + BREAKER_PAUSE

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> bool:
        """Whether it opens now."""
        self._failures += 1
        self._next_try = self._clock() + BREAKER_PAUSE
        return self._failures == BREAKER_FAILURES
