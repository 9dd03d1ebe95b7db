"""Whether an upstream answers at all, and how often that is tried while it does not. No clock, no I/O."""

from __future__ import annotations

STRIKES = 3
"""Failures to connect or to answer in time, with no answer in between, after which it counts as down."""
PROBE_EVERY_S = 1.0
PATIENCE_S = 15.0
"""Between probes while `UNANSWERED` of them are still waiting for their answer."""
UNANSWERED = 4


class Outage:
    """Calls that have nothing else are sent up whatever this says; so it never makes a call fail."""

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
        """Whatever it said: it is there."""
        self._strikes = 0

    def probe(self, now: float) -> bool:
        """Whether a call shall go up to see. If so, it counts as under way until `probed`."""
        pause = PROBE_EVERY_S if self._probing < UNANSWERED else PATIENCE_S
        if now - self._probed < pause:
            return False
        self._probed = now
        self._probing += 1
        return True

    def probed(self) -> None:
        self._probing -= 1
