"""`mode: auto`: a category's semantic tier is on, in shadow or off, depending on its measured gain.

    on        looks up and serves. Too many wrong hits: to shadow. Hit rate below break-even: to off.
    shadow    looks up and counts, but does not serve. Few enough wrong hits: to on. Too few hits: to off.
    off       does not look up. After a rest it explores for a while, which leads to on, to shadow, or to
              a longer rest.

A rate counts as above or below a bound at two and a half standard deviations, so a category near break-even
stays where it is. A state lasts `DWELL_S` at least. The rest doubles after every failed exploration, up to an
hour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policies.economics import interval

State = Literal["on", "shadow", "off"]

DWELL_S = 120.0
LEAST_LOOKS = 100.0
"""Look-ups needed for any decision."""
LONGEST_LOOKS = 400.0
"""Look-ups after which an exploration ends even if undecided. At twice as many, old ones begin to fade."""
DEVIATIONS = 2.5
FIRST_REST_S, LONGEST_REST_S = 300.0, 3600.0
LEAST_VERDICTS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known now. None: not known, so nothing is decided by it."""

    break_even: float | None
    wrong_low: float = 0.0
    wrong_high: float = 1.0
    """Bounds on the share of wrong hits."""
    verdicts: int = 0
    bearable: float | None = None
    """Share of wrong hits above which hits do more harm than good."""

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
    """The state of one category. It starts as on, as there is nothing to measure until it has been tried."""

    since: float
    state: State = "on"
    exploring: bool = False
    served: bool = True
    """Whether an exploration serves what it finds. It does not if too many hits were wrong."""
    reason: str = "not measured yet"
    rest_s: float = FIRST_REST_S
    looks: float = 0.0
    hits: float = 0.0

    @property
    def mode(self) -> State:
        """The mode that applies to calls at present."""
        if self.exploring:
            return "on" if self.served else "shadow"
        return self.state

    def note(self, hit: bool) -> None:
        """Records a look-up."""
        if self.looks >= 2 * LONGEST_LOOKS:
            self.looks, self.hits = self.looks / 2, self.hits / 2
        self.looks += 1.0
        self.hits += hit

    def step(self, evidence: Evidence, now: float) -> Switch | None:
        """Switches the state if it is time to. If the clock went back, the present state starts over."""
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
        """Whether the hit rate is above break-even. None: too close to say."""
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
