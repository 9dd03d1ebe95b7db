"""Whether an upstream is down, and how often to probe it while it is. No clock, no I/O."""

from __future__ import annotations

STRIKES = 3
"""Consecutive failures to connect or to answer in time after which it counts as down."""
PROBE_EVERY_S = 1.0
PATIENCE_S = 15.0
"""Seconds between probes while `UNANSWERED` of them have had no answer yet."""
UNANSWERED = 4


class Outage:
    """A circuit breaker that never makes a call fail: a call without a stale answer or a fallback is sent
    upstream even while it is open."""

    def __init__(self) -> None:
        self._strikes = 0
        self._probed = float("-inf")
        self._probing = 0

    @property
    def down(self) -> bool:
        return self._strikes >= STRIKES

    def failed(self) -> None:
        self._strikes += 1

    def answered(self) -> None:
        """Any answer at all, an error too, shows that the upstream is up."""
        self._strikes = 0

    def probe(self, now: float) -> bool:
        """Whether to send a probe now. If so, it counts as under way until `probed` is called."""
        pause = PROBE_EVERY_S if self._probing < UNANSWERED else PATIENCE_S
        if now - self._probed < pause:
            return False
        self._probed = now
        self._probing += 1
        return True

    def probed(self) -> None:
        self._probing -= 1
