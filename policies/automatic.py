"""`mode: auto`: a category's semantic tier is on, in shadow or off by what it was measured to gain.

    on        looks and serves. Too many wrong hits: shadow. Surely fewer hits than break even: off.
    shadow    looks, counts and does not serve. Surely few enough wrong hits: on. Too few hits: off.
    off       does not look, but for an exploration after every rest, which ends in on, in shadow, or in a
              longer rest.

"Surely" is at two and a half standard deviations either way, so that a category at break even stays where it
is; no state is left before `DWELL_S`, and rests double, up to an hour, for as long as explorations fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policies.economics import interval

State = Literal["on", "shadow", "off"]

DWELL_S = 120.0
LEAST_LOOKS = 100.0
"""Looks without which nothing is decided."""
LONGEST_LOOKS = 400.0
"""Looks after which an exploration ends without being sure. An average over more of them forgets."""
DEVIATIONS = 2.5
FIRST_REST_S, LONGEST_REST_S = 300.0, 3600.0
LEAST_VERDICTS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of now; None: not known, and then nothing is decided by it."""

    break_even: float | None
    wrong_low: float = 0.0
    wrong_high: float = 1.0
    """Bounds of the share of wrong hits."""
    verdicts: int = 0
    bearable: float | None = None
    """Share of wrong hits above which hits are not worth it."""

    @property
    def too_wrong(self) -> bool:
        known = self.bearable is not None and self.verdicts >= LEAST_VERDICTS
        return known and self.wrong_low > (self.bearable or 0.0)

    @property
    def right_enough(self) -> bool:
        return self.bearable is not None and self.wrong_high < self.bearable


@dataclass(frozen=True, slots=True)
class Switch:
    before: State
    after: State
    reason: str


@dataclass(slots=True)
class Automatic:
    """Of one category. It begins on: what has not been tried has no figures."""

    since: float
    state: State = "on"
    exploring: bool = False
    served: bool = True
    """Whether an exploration serves what it finds; not when too much of it was wrong."""
    reason: str = "not measured yet"
    rest_s: float = FIRST_REST_S
    looks: float = 0.0
    hits: float = 0.0

    @property
    def mode(self) -> State:
        """What calls go by now."""
        if self.exploring:
            return "on" if self.served else "shadow"
        return self.state

    def note(self, hit: bool) -> None:
        """A call looked."""
        if self.looks >= 2 * LONGEST_LOOKS:
            self.looks, self.hits = self.looks / 2, self.hits / 2
        self.looks += 1.0
        self.hits += hit

    def step(self, evidence: Evidence, now: float) -> Switch | None:
        """The switch, if there is one now. A clock that went back begins the present state anew."""
        self.since = min(self.since, now)
        if self.state == "off":
            if self.exploring:
                return self._explored(evidence, now)
            self._rest(evidence, now)
            return None
        if now - self.since < DWELL_S:
            return None
        if self._pays(evidence) is False:
            return self._switch("off", self._compared(evidence), now)
        if self.state == "on" and evidence.too_wrong:
            return self._switch("shadow", _wrong(evidence), now)
        if self.state == "shadow" and evidence.right_enough:
            return self._switch("on", _wrong(evidence), now)
        return None

    def _rest(self, evidence: Evidence, now: float) -> None:
        if now - self.since >= self.rest_s:
            self.exploring, self.served = True, not evidence.too_wrong
            self.looks = self.hits = 0.0

    def _explored(self, evidence: Evidence, now: float) -> Switch | None:
        self.served = self.served and not evidence.too_wrong
        pays = self._pays(evidence)
        if pays is None and self.looks < LONGEST_LOOKS:
            return None
        reason = self._compared(evidence)
        if pays:
            self.rest_s = FIRST_REST_S
            return self._switch("on" if self.served else "shadow", reason, now)
        self.exploring, self.since, self.reason = False, now, reason
        self.rest_s = min(LONGEST_REST_S, 2 * self.rest_s)
        return None

    def _pays(self, evidence: Evidence) -> bool | None:
        """None: not sure."""
        if self.looks < LEAST_LOOKS or evidence.break_even is None:
            return None
        low, high = interval(self.hits, self.looks, DEVIATIONS)
        return True if low > evidence.break_even else False if high < evidence.break_even else None

    def _compared(self, evidence: Evidence) -> str:
        if evidence.break_even is None:
            return "break-even hit rate not known"
        rate = self.hits / self.looks if self.looks else 0.0
        return f"hit rate {rate:.1%} of {self.looks:.0f} looks, break-even {evidence.break_even:.1%}"

    def _switch(self, after: State, reason: str, now: float) -> Switch:
        switch = Switch(self.state, after, reason)
        self.state, self.reason, self.since = after, reason, now
        self.exploring, self.looks, self.hits = False, 0.0, 0.0
        return switch


def _wrong(evidence: Evidence) -> str:
    bounds = f"between {evidence.wrong_low:.1%} and {evidence.wrong_high:.1%} of the hits are wrong"
    return f"{bounds}, bearable {evidence.bearable or 0.0:.1%}"


@dataclass(slots=True)
class Automatics:
    """The states of all categories whose mode is `auto`, by name."""

    of: dict[str, Automatic] = field(default_factory=dict)

    def mode(self, name: str) -> State:
        found = self.of.get(name)
        return "on" if found is None else found.mode

    def get(self, name: str, now: float) -> Automatic:
        found = self.of.get(name)
        if found is None:
            found = self.of[name] = Automatic(now)
        return found
