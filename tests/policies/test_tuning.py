"""Thresholds out of labelled pairs: known bounds, and what must hold for any sample."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.tuning import (
    LOWEST,
    Advice,
    Pair,
    Share,
    advise,
    hits_needed,
    lower_bound,
    thresholds,
    upper_bound,
)

CONFIDENCE = 0.95
confidences = st.floats(0.5, 0.999)
rates = st.floats(0.001, 0.5)
parts = st.integers(1, 5000).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole)))
samples = st.lists(
    st.builds(
        Pair, st.floats(0.4, 1.0), st.sampled_from([False, False, True]), st.sampled_from([True, True, False])
    ),
    max_size=300,
)


def at_most(part: int, whole: int, share: float) -> float:
    return sum(comb(whole, k) * share**k * (1 - share) ** (whole - k) for k in range(part + 1))


def pairs(right: int, wrong: int, cosine: float = 0.9) -> list[Pair]:
    return [Pair(cosine, False, True)] * right + [Pair(cosine, False, False)] * wrong


def ask(sample: list[Pair], wanted: float = 0.01, floor: float = 0.0) -> Advice:
    return advise(sample, 0.85, wanted, CONFIDENCE, floor)


# Bounds


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        (0, 299, 0.0, 1 - 0.05 ** (1 / 299)),  # by hand: (1 - p)^299 = 0.05
        (3, 500, 0.0016373, 0.0154337),  # quantiles of Beta(3, 498) and Beta(4, 497), from scipy 1.15
        (5, 5, 0.05 ** (1 / 5), 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_bounds_are_those_of_clopper_and_pearson(part: int, whole: int, low: float, high: float) -> None:
    assert lower_bound(part, whole, CONFIDENCE) == pytest.approx(low, abs=1e-7)
    assert upper_bound(part, whole, CONFIDENCE) == pytest.approx(high, abs=1e-7)


@given(st.integers(0, 40), st.integers(1, 60), confidences)
def test_a_sample_as_low_as_this_is_as_rare_as_said(part: int, more: int, confidence: float) -> None:
    share = upper_bound(part, part + more, confidence)
    assert at_most(part, part + more, share) == pytest.approx(1 - confidence, rel=1e-6)


@given(parts, confidences)
def test_the_interval_holds_the_share_of_the_sample(counts: tuple[int, int], confidence: float) -> None:
    share = Share.of(*counts, confidence)
    assert 0.0 <= share.low <= share.value <= share.high <= 1.0


@given(parts, confidences)
def test_more_of_the_same_narrows_the_interval(counts: tuple[int, int], confidence: float) -> None:
    part, whole = counts
    few, many = Share.of(part, whole, confidence), Share.of(4 * part, 4 * whole, confidence)
    assert many.high <= few.high + 1e-9
    assert many.low >= few.low - 1e-9


@given(parts, st.floats(0.5, 0.9), st.floats(0.91, 0.999))
def test_more_confidence_widens_it(counts: tuple[int, int], less: float, more: float) -> None:
    assert upper_bound(*counts, less) <= upper_bound(*counts, more)
    assert lower_bound(*counts, less) >= lower_bound(*counts, more)


# Advice


def test_the_lowest_threshold_that_keeps_within_the_rate_is_proposed() -> None:
    sample = pairs(400, 0, cosine=0.9) + pairs(100, 0, cosine=0.8) + pairs(50, 50, cosine=0.7)
    advice = ask(sample)
    assert advice.proposed is not None
    assert advice.proposed.threshold == 0.705
    assert (advice.proposed.wrong.part, advice.proposed.wrong.whole) == (0, 500)
    assert advice.proposed.recall.value == pytest.approx(500 / 550)
    assert (advice.now.threshold, advice.now.wrong.whole) == (0.85, 400)


def test_what_is_refused_is_no_hit_but_lowers_the_recall() -> None:
    advice = ask(pairs(400, 0) + [Pair(0.99, True, False)] * 100 + [Pair(0.99, True, True)] * 100)
    assert advice.proposed is not None
    assert advice.proposed.wrong.whole == 400
    assert advice.proposed.recall.value == pytest.approx(0.8)


def test_a_cosine_of_just_the_threshold_is_a_hit() -> None:
    advice = ask(pairs(300, 0, cosine=0.9))
    assert advice.proposed is not None
    assert sum(point.wrong.whole == 300 for point in advice.curve) == sum(t <= 0.9 for t in thresholds())


def test_nothing_below_the_floor_is_proposed() -> None:
    proposed = ask(pairs(400, 0) + pairs(50, 0, cosine=0.6), floor=0.82).proposed
    assert proposed is not None
    assert proposed.threshold == 0.82
    assert ask(pairs(400, 0), floor=0.95).proposed is None


def test_nothing_below_the_least_like_hit_is_proposed_as_no_pair_tells_of_it() -> None:
    proposed = ask(pairs(400, 0, cosine=0.9312) + [Pair(0.6, True, False)] * 9).proposed
    assert proposed is not None
    assert proposed.threshold == 0.93


@pytest.mark.parametrize(("right", "missing"), [(298, 1), (200, 99), (1, 298)])
def test_too_few_pairs_are_refused_and_counted(right: int, missing: int) -> None:
    advice = ask(pairs(right, 0))
    assert advice.proposed is None
    assert advice.missing == missing


def test_without_a_hit_as_many_are_missing_as_could_be_enough() -> None:
    assert ask([]).missing == ask([Pair(0.3, False, True)] * 9).missing == 299


def test_no_number_of_pairs_helps_where_too_many_are_wrong() -> None:
    advice = ask(pairs(900, 100))
    assert (advice.proposed, advice.missing) == (None, None)


@pytest.mark.parametrize(
    ("observed", "wanted", "needed"), [(0.0, 0.01, 299), (0.0, 0.02, 149), (0.01, 0.01, None)]
)
def test_hits_needed(observed: float, wanted: float, needed: int | None) -> None:
    assert hits_needed(observed, wanted, CONFIDENCE) == needed


@given(st.integers(1, 40), st.integers(2, 8))
def test_hits_needed_are_enough_and_one_less_is_not(percent: int, factor: int) -> None:
    observed, wanted = percent / 100, min(0.9, factor * percent / 100)
    needed = hits_needed(observed, wanted, CONFIDENCE)
    assert needed is not None
    assert upper_bound(int(observed * needed), needed, CONFIDENCE) <= wanted + 1e-9
    assert upper_bound(int(observed * (needed - 1)) + 1, needed - 1, CONFIDENCE) > wanted


@given(samples, rates, rates)
def test_who_accepts_more_gets_no_higher_threshold(sample: list[Pair], one: float, other: float) -> None:
    strict, loose = (ask(sample, rate).proposed for rate in sorted((one, other)))
    if strict is not None:
        assert loose is not None
        assert loose.threshold <= strict.threshold


@given(samples, rates)
def test_a_proposal_keeps_within_the_rate_and_what_is_refused_misses_pairs(
    sample: list[Pair], wanted: float
) -> None:
    advice = ask(sample, wanted)
    if advice.proposed is not None:
        assert advice.proposed.wrong.value <= advice.proposed.wrong.high <= wanted
        assert advice.missing == 0
        lower = (p.wrong for p in advice.curve if p.threshold < advice.proposed.threshold)
        assert all(share.high > wanted or share == advice.proposed.wrong for share in lower)
    else:
        assert advice.missing != 0


@given(samples)
def test_hits_and_recall_fall_as_the_threshold_rises(sample: list[Pair]) -> None:
    curve = ask(sample).curve
    assert [point.threshold for point in curve] == list(thresholds())
    assert (curve[0].threshold, curve[-1].threshold) == (LOWEST, 1.0)
    for below, above in pairwise(curve):
        assert below.wrong.whole >= above.wrong.whole
        assert below.recall.part >= above.recall.part


@given(samples, rates)
def test_fewer_than_could_be_enough_are_always_refused(sample: list[Pair], wanted: float) -> None:
    enough = hits_needed(0.0, wanted, CONFIDENCE)
    assert enough is not None
    assert ask(sample[: enough - 1], wanted).proposed is None
