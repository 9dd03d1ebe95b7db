"""Are the hits right? The verdict on one hit, a category's share of wrong hits, and the threshold that
follows it.

A verdict has three values, because two good answers of the same model may differ in wording and in their
examples. `unsure` counts neither as right nor as wrong; it is reported, and it keeps a threshold from
loosening.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from policies.guards.facts import LONGEST, facts
from policies.guards.objections import objection
from policies.model import Category
from policies.tuning import Share

Verdict = Literal["right", "wrong", "unsure"]

SAME = 0.92
"""Cosine of two answers from which they count as the same, if no guard objects."""
OTHER = 0.45
"""Cosine below which two answers are about different things."""
SHORT = 60
"""Words up to which a number in an answer is taken to be the answer. In longer ones it may only
illustrate."""
_OBJECTIONS = ("numbers", "dates", "negation", "identifiers", "entities")

PART = 500
"""Characters embedded at once: well within the 256 tokens that the model reads."""
PARTS = 12
"""Parts of an answer that are compared; the rest is ignored."""

WINDOW = 1000
"""Most recent verdicts that a category's estimate is based on."""
CONFIDENCE = 0.975
"""Of each bound, so 95 % for the interval."""
EVIDENCE = 30
"""Verdicts needed between two steps of a threshold."""
STEP = 0.005


# One hit


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    by: Literal["equal", "judge", "numbers", "distance", ""] = ""
    """What decided; "" if nothing did."""

    @property
    def condemns(self) -> bool:
        """Whether the stored answer should be deleted. Distance alone is not enough evidence for that."""
        return self.verdict == "wrong" and self.by != "distance"


def compared(fresh: str, stored: str, cosine: float | None, judged: bool | None) -> Finding:
    """Compares two answers to one question. `cosine`: of the two, if known. `judged`: whether a judge says
    that both answer the same question, if one was asked."""
    if (words := fresh.split()) == stored.split():
        return Finding("right", "equal") if words else Finding("unsure")  # a picture, or sound
    if judged is not None:
        return Finding("right" if judged else "wrong", "judge")
    if _other_numbers(fresh, stored):
        return Finding("wrong", "numbers")
    if cosine is not None and cosine < OTHER:
        return Finding("wrong", "distance")
    if cosine is not None and cosine >= SAME and not objection(_OBJECTIONS, fresh, stored):
        return Finding("right", "distance")
    return Finding("unsure")


def _other_numbers(fresh: str, stored: str) -> bool:
    """Whether both are short answers with numbers, and have no number in common."""
    if max(len(fresh), len(stored)) > LONGEST or max(len(fresh.split()), len(stored.split())) > SHORT:
        return False
    mine, theirs = facts(fresh).numbers.keys(), facts(stored).numbers.keys()
    return bool(mine and theirs) and mine.isdisjoint(theirs)


def parts(text: str) -> list[str]:
    """The first `PARTS` pieces of up to `PART` characters each, cut between words where possible."""
    rest = text.strip()
    found: list[str] = []
    while rest and len(found) < PARTS:
        end = len(rest) if len(rest) <= PART else rest.rfind(" ", 1, PART)
        found.append(rest[: end if end > 0 else PART])
        rest = rest[len(found[-1]) :].lstrip()
    return found


def likeness(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The mean cosine of each part to the most similar part of the other answer, averaged over both
    directions.

    Rows are unit vectors. The order of parts does not matter, but a part that only one answer has does.
    """
    cosines = mine @ theirs.T
    return float((cosines.max(axis=1).mean() + cosines.max(axis=0).mean()) / 2)


# The share of wrong ones


@dataclass(frozen=True, slots=True)
class Estimate:
    wrong: Share
    """Of the hits with a right or wrong verdict, with Clopper-Pearson bounds."""
    unsure: int

    def __str__(self) -> str:
        share = self.wrong
        counts = f"{share.part} wrong of {share.whole}, {self.unsure} unsure"
        return f"{counts}, so between {share.low:.1%} and {share.high:.1%}"


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a threshold, with its reason."""

    category: str
    before: float
    after: float
    target: float
    evidence: Estimate

    def __str__(self) -> str:
        moved = f"threshold of {self.category}: {self.before:.4f} -> {self.after:.4f}"
        return f"{moved} ({self.evidence}; target {self.target:.1%})"


@dataclass(slots=True)
class Record:
    """The verdicts on one category's hits, and its adjusted threshold."""

    base: float
    """The category's own threshold when `adjusted` began."""
    adjusted: float
    seen: deque[tuple[float, Verdict]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """(cosine of the two questions, verdict), oldest first."""
    since: int = 0
    """Right or wrong verdicts since the last step."""

    def estimate(self, threshold: float) -> Estimate:
        """The estimate for the hits that this threshold would let through."""
        counts = Counter(verdict for cosine, verdict in self.seen if cosine >= threshold)
        decided = counts["right"] + counts["wrong"]
        return Estimate(Share.of(counts["wrong"], decided, CONFIDENCE), counts["unsure"])

    def step(self, threshold: float, target: float, low: float, high: float) -> float:
        """The next threshold, within [low, high]: stricter if the wrong share is surely above the target,
        looser if it would surely be below the target at the looser threshold too, else the same."""
        stricter, looser = min(high, threshold + STEP), max(low, threshold - STEP)
        if self.since < EVIDENCE:
            return threshold
        if self.estimate(threshold).wrong.low > target:
            return round(stricter, 6)
        there = self.estimate(looser)
        if there.wrong.high < target and there.unsure <= there.wrong.whole:
            return round(looser, 6)
        return threshold


class Audits:
    """The records of all categories, and the thresholds that follow from them."""

    def __init__(self) -> None:
        self._of: dict[str, Record] = {}
        self.verdicts: Counter[tuple[str, Verdict]] = Counter()
        """Since the start, by category and verdict."""

    def threshold(self, category: Category) -> float:
        """The category's own threshold, or the adjusted one if it follows a target. A change of the
        category's threshold or bounds applies at once."""
        record = self._of.get(category.name)
        if record is None or category.target_wrong_rate is None or record.base != category.threshold:
            return category.threshold
        low, high = bounds(category)
        return min(high, max(low, record.adjusted))

    def estimate(self, category: Category) -> Estimate:
        return self._record(category).estimate(self.threshold(category))

    def note(self, category: Category, cosine: float, verdict: Verdict) -> Step | None:
        """Records a verdict on a hit whose questions had that cosine. Returns the step, if it led to one."""
        record = self._record(category)
        record.seen.append((cosine, verdict))
        record.since += verdict != "unsure"
        self.verdicts[category.name, verdict] += 1
        before, target = self.threshold(category), category.target_wrong_rate
        if target is None:
            return None
        record.adjusted = record.step(before, target, *bounds(category))
        if record.adjusted == before:
            return None
        record.since = 0
        return Step(category.name, before, record.adjusted, target, record.estimate(before))

    def _record(self, category: Category) -> Record:
        base = category.threshold
        record = self._of.setdefault(category.name, Record(base, base))
        if record.base != base:
            record.base, record.adjusted, record.since = base, base, 0
        return record


def bounds(category: Category) -> tuple[float, float]:
    """The range in which a category's threshold may move. It always includes the category's own threshold."""
    audit, base = category.audit, category.threshold
    low = base if audit.threshold_floor is None else audit.threshold_floor
    return min(low, base), max(audit.threshold_ceiling, base)


class Budget:
    """A sliding-window limit of so many an hour."""

    def __init__(self) -> None:
        self._spent: deque[float] = deque()

    def take(self, now: float, per_hour: int) -> bool:
        while self._spent and self._spent[0] <= now - 3600:
            self._spent.popleft()
        if len(self._spent) >= per_hour:
            return False
        self._spent.append(now)
        return True
