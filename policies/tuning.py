"""Thresholds from labelled pairs: the lowest one that keeps the share of wrong hits within a target.

A pair is two questions and whether the answer to one is also right for the other. It is a hit at a threshold
if its cosine reaches it and nothing else refuses it; a hit on a pair that is not equivalent is wrong. The
share in a sample may be lower than the true one, so a threshold must keep the upper bound of Clopper and
Pearson (1934) within the target.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from math import ceil, exp, lgamma, log, log1p, nan

STEP = 0.005
LOWEST = 0.5
"""Lowest threshold that is considered; below it two questions are about different things."""

_TINY = 1e-300
_CLOSE = 1e-10
_MOST = 1 << 20
"""Hits beyond which `hits_needed` says that no number is enough."""


@dataclass(frozen=True, slots=True)
class Pair:
    cosine: float
    refused: bool
    """By something other than the threshold, so it is not a hit at any threshold."""
    equivalent: bool


@dataclass(frozen=True, slots=True)
class Share:
    """The share found in a sample, with bounds on the true share.

    Each bound is wrong with a probability of at most 1 − confidence.
    """

    part: int
    whole: int
    low: float
    high: float

    @classmethod
    def of(cls, part: int, whole: int, confidence: float) -> Share:
        return cls(part, whole, lower_bound(part, whole, confidence), upper_bound(part, whole, confidence))

    @property
    def value(self) -> float:
        """NaN for an empty sample."""
        return self.part / self.whole if self.whole else nan


@dataclass(frozen=True, slots=True)
class Point:
    """How the pairs fare at one threshold."""

    threshold: float
    wrong: Share
    """Of the hits."""
    recall: Share
    """Hits among the equivalent pairs."""


@dataclass(frozen=True, slots=True)
class Advice:
    now: Point
    """At the threshold in force."""
    proposed: Point | None
    """None: no threshold is known to stay within the target."""
    missing: int | None
    """How many more pairs like these are needed for a proposal; 0 if there is one. None: no number is enough,
    because too many hits are wrong at every threshold."""
    curve: tuple[Point, ...]
    """From the lowest threshold up."""


def advise(
    pairs: Sequence[Pair], present: float, wanted: float, confidence: float, floor: float = 0.0
) -> Advice:
    """`wanted`: target share of wrong hits, in (0, 1). `floor`: lowest threshold to propose. No threshold
    below the cosine of the least similar hit is proposed either, as the pairs say nothing about hits
    there."""
    sample = _Sample(pairs, confidence)
    curve = tuple(map(sample.at, thresholds()))
    least_alike = min((pair.cosine for pair in pairs if not pair.refused), default=0.0)
    open_to = [point for point in curve if point.threshold >= floor and point.threshold > least_alike - STEP]
    proposed = next((point for point in open_to if point.wrong.high <= wanted), None)
    missing = 0 if proposed else _missing(open_to, len(pairs), wanted, confidence)
    return Advice(sample.at(present), proposed, missing, curve)


def thresholds() -> Iterator[float]:
    """Multiples of `STEP` from `LOWEST` to 1."""
    steps = round(1 / STEP)
    return (step / steps for step in range(round(LOWEST * steps), steps + 1))


class _Sample:
    def __init__(self, pairs: Sequence[Pair], confidence: float) -> None:
        self._confidence = confidence
        self._equivalent = sum(pair.equivalent for pair in pairs)
        self._right = sorted(pair.cosine for pair in pairs if pair.equivalent and not pair.refused)
        self._wrong = sorted(pair.cosine for pair in pairs if not pair.equivalent and not pair.refused)

    def at(self, threshold: float) -> Point:
        right = len(self._right) - bisect_left(self._right, threshold)
        wrong = len(self._wrong) - bisect_left(self._wrong, threshold)
        return Point(
            threshold,
            Share.of(wrong, wrong + right, self._confidence),
            Share.of(right, self._equivalent, self._confidence),
        )


def _missing(points: Sequence[Point], pairs: int, wanted: float, confidence: float) -> int | None:
    shares = [point.wrong for point in points if point.wrong.whole]
    if not shares:
        return hits_needed(0.0, wanted, confidence)
    needs = ((share.whole, hits_needed(share.value, wanted, confidence)) for share in shares)
    return min(
        (max(1, ceil((needed - hits) * pairs / hits)) for hits, needed in needs if needed), default=None
    )


def hits_needed(observed: float, wanted: float, confidence: float) -> int | None:
    """The fewest hits for which the upper bound is within `wanted` if a share `observed` of them is wrong.
    None: no number is enough."""
    if observed >= wanted:
        return None
    if observed == 0:
        return ceil(log1p(-confidence) / log1p(-wanted))
    few, many = 1, 2
    while not _within(observed, many, wanted, confidence):
        few, many = many, many * 2
        if many > _MOST:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if _within(observed, middle, wanted, confidence) else (middle, many)
    return many


def _within(observed: float, hits: int, wanted: float, confidence: float) -> bool:
    """Whether the upper bound is at most `wanted`."""
    return _beta(observed * hits + 1, hits - observed * hits, wanted) >= confidence


# Binomial bounds


@lru_cache(maxsize=4096)
def upper_bound(part: int, whole: int, confidence: float) -> float:
    """The share above which a sample would have `part` of `whole` or less with a probability of
    1 − `confidence`."""
    low, high = 0.0, 1.0
    while high - low > _CLOSE and part < whole:
        middle = (low + high) / 2
        enough = _beta(part + 1, whole - part, middle) >= confidence
        low, high = (low, middle) if enough else (middle, high)
    return high


def lower_bound(part: int, whole: int, confidence: float) -> float:
    """The share below which a sample would have `part` of `whole` or more with a probability of
    1 − `confidence`."""
    return 1.0 - upper_bound(whole - part, whole, confidence) if whole else 0.0


def _beta(a: float, b: float, x: float) -> float:
    """Distribution function of Beta(a, b), by the continued fraction of the incomplete beta function
    (DLMF 8.17.22), which converges quickly below the mean."""
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta(b, a, 1.0 - x)
    if x <= 0:
        return 0.0
    scale = lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)
    return exp(scale) / a * _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d₁/(1 + d₂/(1 + …))) by Lentz's method."""
    value, front, back = 1.0, 1.0, 0.0
    for number in count(1):
        term = _term(a, b, x, number)
        back = 1.0 / _nonzero(1.0 + term * back)
        front = _nonzero(1.0 + term / front)
        value *= front * back
        if abs(front * back - 1.0) < _CLOSE:
            break
    return 1.0 / value


def _term(a: float, b: float, x: float, number: int) -> float:
    m = number // 2
    if number % 2:
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
