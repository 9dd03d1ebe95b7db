"""What verdicts come of two answers, and what becomes of a threshold that follows them."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audit import (
    EVIDENCE,
    PART,
    PARTS,
    STEP,
    Audits,
    Budget,
    Verdict,
    bounds,
    compared,
    likeness,
    parts,
)
from policies.model import Audit, Category

CODE = Category("code", 0.85, 60.0, target_wrong_rate=0.02)
verdicts: st.SearchStrategy[Verdict] = st.sampled_from(["right", "wrong", "unsure"])


# One hit


@pytest.mark.parametrize(
    ("fresh", "stored", "cosine", "judged", "verdict", "by"),
    [
        ("Use git\nrevert.", "Use git revert.", 0.1, False, "right", "equal"),
        ("Use git revert.", "Use git reset.", 0.99, False, "wrong", "judge"),
        ("Call it off.", "Cancel the whole thing.", 0.3, True, "right", "judge"),
        ("That makes 54.5 dollars.", "That makes 16 dollars.", 0.99, None, "wrong", "numbers"),
        ("It opens at 9, closes at 5.", "It opens at 9, closes at 6.", 0.99, None, "unsure", ""),
        ("You can do that now.", "You cannot do that now.", 0.97, None, "unsure", ""),
        ("Run git reset --soft once.", "Run git reset --hard once.", 0.97, None, "unsure", ""),
        ("Use git revert for it.", "For it, use git revert.", 0.97, None, "right", "distance"),
        ("Use git revert for it.", "The tides follow the moon.", 0.2, None, "wrong", "distance"),
        ("Use git revert for it.", "Go back with reset.", 0.8, None, "unsure", ""),
        ("Use git revert for it.", "Go back with reset.", None, None, "unsure", ""),
        ("", " ", None, None, "unsure", ""),
    ],
)
def test_a_verdict(
    fresh: str, stored: str, cosine: float | None, judged: bool | None, verdict: Verdict, by: str
) -> None:
    found = compared(fresh, stored, cosine, judged)
    assert (found.verdict, found.by) == (verdict, by)
    assert found.condemns == (verdict == "wrong" and by in ("judge", "numbers"))


def test_numbers_in_long_answers_only_illustrate() -> None:
    a, b = ("word " * 80 + f"for example {n}" for n in (17, 23))
    assert compared(a, b, 0.95, None).verdict == "unsure"


def test_texts_that_the_guards_do_not_read_are_not_called_right() -> None:
    assert compared("word " * 2000, "words " * 2000, 0.99, None).verdict == "unsure"


@given(st.text(min_size=0, max_size=3 * PART * PARTS))
def test_parts_are_the_beginning_and_short(text: str) -> None:
    cut = parts(text)
    assert len(cut) <= PARTS
    assert all(0 < len(part) <= PART for part in cut)
    joined = "".join("".join(cut).split())
    assert "".join(text.split()).startswith(joined)
    assert len(cut) == PARTS or joined == "".join(text.split())


def test_parts_are_as_long_as_whole_words_let_them_be() -> None:
    assert {len(part) for part in parts("word " * 500)[:-1]} == {PART - 1}


def test_order_does_not_matter_but_what_is_missing_does() -> None:
    rows = np.eye(4, dtype=np.float32)
    assert likeness(rows[:3], rows[[2, 0, 1]]) == pytest.approx(1.0)
    assert likeness(rows[:2], rows[:1]) == pytest.approx(0.75)
    assert likeness(rows[:1], rows[:2]) == pytest.approx(0.75)


# The estimate


def test_unsure_counts_for_neither() -> None:
    audits = Audits()
    for verdict in ("wrong", "right", "unsure", "unsure", "right"):
        audits.note(CODE, 0.9, verdict)
    found = audits.estimate(CODE)
    assert (found.wrong.part, found.wrong.whole, found.unsure) == (1, 3, 2)
    assert found.wrong.low < 1 / 3 < found.wrong.high


# The threshold


def after(category: Category, audits: Audits, *seen: tuple[float, Verdict]) -> float:
    for cosine, verdict in seen:
        audits.note(category, cosine, verdict)
    return audits.threshold(category)


def test_it_does_not_move_without_a_target() -> None:
    free = replace(CODE, target_wrong_rate=None)
    assert after(free, Audits(), *[(0.9, "wrong")] * 500) == 0.85


def test_it_does_not_move_without_evidence() -> None:
    audits = Audits()
    assert after(CODE, audits, *[(0.9, "wrong")] * (EVIDENCE - 1)) == 0.85
    assert after(CODE, audits, *[(0.9, "unsure")] * 1000) == 0.85
    audits.note(CODE, 0.9, "wrong")


def test_each_step_needs_evidence_of_its_own_and_tells_it() -> None:
    audits = Audits()
    steps = [step for _ in range(3 * EVIDENCE) if (step := audits.note(CODE, 0.95, "wrong"))]
    assert [step.after for step in steps] == pytest.approx([0.85 + STEP * n for n in (1, 2, 3)])
    assert (steps[0].before, steps[0].evidence.wrong.part) == (0.85, EVIDENCE)
    assert str(steps[0]).startswith(
        "threshold of code: 0.8500 -> 0.8550 (30 wrong of 30, 0 unsure, so between"
    )


def test_without_a_floor_it_only_comes_back_to_the_base() -> None:
    audits = Audits()
    assert after(CODE, audits, *[(0.86, "wrong")] * 3 * EVIDENCE) > 0.86
    assert after(CODE, audits, *[(0.99, "right")] * 3000) == 0.85


def test_with_a_floor_it_goes_below_the_base_and_not_below_the_floor() -> None:
    low = replace(CODE, audit=Audit(threshold_floor=0.83))
    assert after(low, Audits(), *[(0.99, "right")] * 3000) == 0.83


def test_it_stays_strict_while_what_it_knows_of_looser_hits_is_bad() -> None:
    audits = Audits()
    (step,) = [step for _ in range(EVIDENCE) if (step := audits.note(CODE, 0.852, "wrong"))]
    strict = audits.threshold(CODE)
    assert step.after == strict == pytest.approx(0.855)
    assert step.evidence.wrong.part == EVIDENCE
    assert after(CODE, audits, *[(0.99, "right")] * 500) == strict


def test_it_does_not_get_looser_while_most_verdicts_are_unsure() -> None:
    low = replace(CODE, audit=Audit(threshold_floor=0.80))
    mixed: list[tuple[float, Verdict]] = [(0.99, "right"), (0.99, "unsure"), (0.99, "unsure")]
    assert after(low, Audits(), *mixed * 300) == 0.85


def test_a_changed_threshold_begins_with_evidence_of_its_own() -> None:
    audits, changed = Audits(), replace(CODE, threshold=0.8)
    after(CODE, audits, *[(0.95, "wrong")] * (3 * EVIDENCE - 1))
    assert after(changed, audits, *[(0.95, "wrong")] * (EVIDENCE - 1)) == 0.8
    assert after(changed, audits, (0.95, "wrong")) > 0.8


def test_a_changed_category_holds_at_once() -> None:
    audits = Audits()
    assert after(CODE, audits, *[(0.95, "wrong")] * 2 * EVIDENCE) == pytest.approx(0.86)
    assert audits.threshold(replace(CODE, ttl=5.0)) == pytest.approx(0.86)
    assert audits.threshold(replace(CODE, threshold=0.8)) == 0.8
    assert audits.threshold(replace(CODE, target_wrong_rate=None)) == 0.85
    assert audits.threshold(replace(CODE, audit=Audit(threshold_ceiling=0.855))) == 0.855


@given(
    st.lists(st.tuples(st.floats(0.8, 1), verdicts), max_size=400),
    st.floats(0.5, 1),
    st.floats(0.5, 1) | st.none(),
    st.floats(0, 1),
    st.floats(0.001, 0.3),
)
def test_it_is_bounded_whatever_comes(
    seen: list[tuple[float, Verdict]], base: float, floor: float | None, ceiling: float, target: float
) -> None:
    category = Category("c", base, 1.0, audit=Audit(0, 0, floor, ceiling), target_wrong_rate=target)
    audits, (low, high) = Audits(), bounds(category)
    assert low <= base <= high
    assert low == base if floor is None else low == min(floor, base)
    before = audits.threshold(category)
    for cosine, verdict in seen:
        audits.note(category, cosine, verdict)
        now = audits.threshold(category)
        assert low <= now <= high
        assert abs(now - before) <= STEP + 1e-6
        before = now


@given(st.lists(st.booleans(), min_size=EVIDENCE, max_size=300), st.data())
def test_more_wrong_never_makes_it_looser(right: list[bool], data: st.DataObject) -> None:
    """At one moment, with the same number of verdicts."""
    category = replace(CODE, audit=Audit(threshold_floor=0.8), target_wrong_rate=0.1)
    turned = data.draw(st.sets(st.sampled_from(range(len(right)))))

    def next_threshold(verdicts: list[bool]) -> float:
        audits = Audits()
        record = audits._record(category)
        record.seen.extend((0.95, "right" if each else "wrong") for each in verdicts)
        record.since = len(verdicts)
        return record.step(0.85, 0.1, *bounds(category))

    worse = [each and n not in turned for n, each in enumerate(right)]
    assert next_threshold(worse) >= next_threshold(right)


@pytest.mark.parametrize("target", [0.05, 0.1])
def test_it_settles_where_the_target_is_met(target: float) -> None:
    """A hit at cosine s is wrong with a probability that falls from 0.5 at 0.80 to 0 at 0.95; hits are spread
    evenly over what the threshold lets through."""
    category = Category("c", 0.80, 1.0, target_wrong_rate=target)
    draw, audits = random.Random(7), Audits()

    def wrong_at(cosine: float) -> float:
        return max(0.0, 0.5 * (0.95 - cosine) / 0.15)

    thresholds = []
    for _ in range(20_000):
        cosine = draw.uniform(audits.threshold(category), 1.0)
        audits.note(category, cosine, "wrong" if draw.random() < wrong_at(cosine) else "right")
        thresholds.append(audits.threshold(category))
    settled = thresholds[10_000:]
    rates = [np.mean([wrong_at(c) for c in np.linspace(each, 1.0, 200)]) for each in set(settled)]
    assert max(rates) < 2 * target
    assert min(rates) > target / 8
    assert max(settled) - min(settled) < 0.05


# The budget


def test_an_hour_later_there_is_as_much_again() -> None:
    budget = Budget()
    assert [budget.take(now, 1) for now in (0.0, 3599.0, 3600.0)] == [True, False, True]


@given(st.lists(st.floats(0, 20_000), max_size=200).map(sorted), st.integers(0, 20))
def test_never_more_than_the_budget_in_any_hour(times: list[float], per_hour: int) -> None:
    budget = Budget()
    taken = [t for t in times if budget.take(t, per_hour)]
    assert all(sum(t - 3600 < u <= t for u in taken) <= per_hour for t in taken)
    assert len(taken) == len(times) or per_hour < len(times)
