"""The benchmark of overload counts what it says it counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from benchmarks import overload
from benchmarks.overload import Caller, Plan, Run, compared
from policies.book import Book
from policies.model import Load


def test_a_hit_on_the_answer_to_another_group_is_wrong_as_far_as_is_known() -> None:
    caller = Caller(cast(Any, None), "", [])
    caller.origin = {"a": "apples"}
    caller.answers = [("MISS", "b", "x"), ("HIT exact", "a", "apples"), ("HIT semantic", "a", "pears")]
    caller.answers += [("HIT semantic", "unknown", "pears"), ("failed", "", "pears")]
    run = Run("fixed")
    caller.sum_up(run)
    assert (run.calls, run.hits, run.wrong, run.failed) == (5, 3, 1, 1)


def test_bars_are_taken_from_both_arms() -> None:
    fixed = Run("fixed", upstream=100, hits=100, wrong=1, p95_ms=1000, base_after_s=0.0)
    adapted = Run("bent", upstream=80, hits=100, wrong=3, p95_ms=500, base_after_s=None)
    found = compared([fixed, adapted, Run("limited")], "bent")
    assert found["bars"] == {
        "upstream_cut": True,
        "wrong_rise": False,
        "p95_ratio": True,
        "base_within_a_minute": False,
    }


def test_the_fixed_arm_differs_in_nothing_but_load(tmp_path: Path) -> None:
    packaged = Book.from_folder(None).categories
    fixed = Book.from_folder(overload._categories(tmp_path, adapts=False)).categories
    assert fixed.keys() == packaged.keys()
    assert {category.load for category in fixed.values()} == {Load(share_flights=False)}
    assert all(fixed[name].threshold == packaged[name].threshold for name in packaged)


def test_the_capacity_is_two_thirds_of_what_would_reach_the_upstream() -> None:
    assert Plan(rate=40.0, seconds=1.0, warm=0).capacity == 11
