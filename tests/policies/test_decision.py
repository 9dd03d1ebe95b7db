"""The judgement with plain values: no server, no clock."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.decision import ON_CALL, Controls, Offer, judge, kept, lifetime, required_similarity
from policies.model import Category, InForce, Load, Stale, in_force

NONE = Controls()


def policy(threshold: float = 0.9, ttl: float = 100.0, **more: Any) -> InForce:
    return in_force(Category(more.pop("name", "c"), threshold, ttl, guards=(), **more), 0.0)


def offer(similarity: float = 0.95, age: float = 10.0, stored: InForce | None = None, **more: Any) -> Offer:
    return Offer("stored", similarity, age, more.pop("ttl", None), stored or policy(), **more)


RENEWED = policy(stale=Stale(20, 60))


def verdict(given_offer: Offer, asked: InForce | None = None, controls: Controls = NONE) -> tuple[str, str]:
    found = judge(given_offer, "asked", asked or policy(), controls)
    return found.freshness, found.reason


@pytest.mark.parametrize(
    ("stored", "asked", "controls", "expected"),
    [
        (offer(), policy(), NONE, ("fresh", "")),
        (offer(similarity=0.89), policy(), NONE, ("refused", "threshold")),
        (offer(similarity=0.9), policy(), NONE, ("fresh", "")),
        (offer(similarity=0.5, exact=True), policy(), NONE, ("fresh", "")),
        (offer(similarity=1.0), policy(), NONE, ("fresh", "")),
        (offer(similarity=1.0), policy(), Controls(threshold=1.0), ("refused", "threshold")),
        (offer(similarity=1.0, stored=policy(1.0)), policy(), NONE, ("refused", "threshold")),
        (offer(stored=policy(0.97)), policy(), NONE, ("refused", "threshold")),
        (offer(), policy(), Controls(threshold=0.97), ("refused", "threshold")),
        (offer(similarity=0.89), policy(), Controls(threshold=0.1), ("refused", "threshold")),
        (offer(age=101), policy(), NONE, ("refused", "expired")),
        (offer(age=100, stored=RENEWED), RENEWED, NONE, ("revalidate", "")),
        (offer(age=120, stored=RENEWED), RENEWED, NONE, ("revalidate", "")),
        (offer(age=160, stored=RENEWED), RENEWED, NONE, ("stale", "")),
        (offer(age=-59), policy(), NONE, ("fresh", "")),
        (offer(age=-61), policy(), NONE, ("refused", "expired")),
        (offer(age=-61, exact=True), policy(), Controls(max_stale=math.inf), ("refused", "expired")),
        (offer(age=60, stored=policy(ttl=50)), policy(), NONE, ("refused", "expired")),
        (offer(age=60, ttl=50.0), policy(), NONE, ("refused", "expired")),
        (offer(age=60), policy(), Controls(max_age=50), ("refused", "max-age")),
        (offer(age=60), policy(), Controls(max_age=60), ("fresh", "")),
        (offer(age=110), policy(), Controls(max_stale=20), ("fresh", "max-stale")),
        (offer(age=110), policy(), Controls(max_stale=10), ("fresh", "max-stale")),
        (offer(age=110), policy(), Controls(max_stale=5), ("refused", "expired")),
        (offer(age=110), policy(), Controls(max_stale=math.inf), ("fresh", "max-stale")),
        (offer(age=110, stored=RENEWED), RENEWED, NONE, ("revalidate", "")),
        (offer(age=110, stored=RENEWED), RENEWED, Controls(max_age=500), ("stale", "")),
        (offer(age=110, stored=RENEWED), RENEWED, Controls(max_stale=5), ("stale", "")),
        (offer(age=60, ttl=50.0, stored=RENEWED), RENEWED, NONE, ("revalidate", "")),
        (offer(age=61, ttl=50.0, stored=RENEWED), RENEWED, NONE, ("stale", "")),
        (offer(age=130, stored=RENEWED), RENEWED, NONE, ("stale", "")),
        (offer(age=130, stored=RENEWED), RENEWED, Controls(stale_if_error=0), ("refused", "expired")),
        (offer(age=130), policy(), Controls(stale_if_error=60), ("stale", "")),
        (offer(age=110), policy(stale=Stale(20, 20), name="other"), NONE, ("refused", "expired")),
        (
            offer(age=110, stored=policy(stale=Stale(0, 20))),
            policy(stale=Stale(20, 0), name="other"),
            NONE,
            ("refused", "expired"),
        ),
        (
            offer(age=110, stored=policy(stale=Stale(20))),
            policy(stale=Stale(20), name="other"),
            NONE,
            ("revalidate", ""),
        ),
        (offer(age=110), policy(), Controls(max_stale=20, max_age=50), ("refused", "max-age")),
    ],
)
def test_verdicts(stored: Offer, asked: InForce, controls: Controls, expected: tuple[str, str]) -> None:
    assert verdict(stored, asked, controls) == expected


def test_a_guard_has_the_last_word_on_what_is_alike_and_none_on_what_is_the_same() -> None:
    guarded = in_force(Category("c", 0.5, 100.0, guards=("numbers",)), 0.0)
    near = Offer("add 2 and 3", 0.99, 1.0, None, policy())
    assert judge(near, "add 2 and 4", guarded, NONE).reason.startswith("numbers")
    same = Offer("add 2 and 3", 1.0, 1.0, None, policy(), exact=True)
    assert judge(same, "add 2 and 3", guarded, NONE).freshness == "fresh"


def test_guards_of_the_category_it_was_stored_under_count_too() -> None:
    guarded = in_force(Category("c", 0.5, 100.0, guards=("numbers",)), 0.0)
    near = Offer("add 2 and 3", 0.99, 1.0, None, guarded)
    assert judge(near, "add 2 and 4", policy(), NONE).freshness == "refused"


shares = st.floats(0, 1)
spans = st.floats(1, 1e7)
loads = st.builds(Load, shares, shares, st.floats(1, 10), spans)
categories = st.builds(lambda t, ttl, load: Category("c", t, ttl, load=load), shares, spans, loads)


@given(categories, shares)
def test_floor_and_ceiling_hold_under_any_pressure(category: Category, pressure: float) -> None:
    bent, load = in_force(category, pressure), category.load
    assert min(category.threshold, load.threshold_floor) <= bent.threshold <= category.threshold
    assert category.ttl <= bent.ttl <= max(category.ttl, load.ttl_ceiling)


@given(categories, shares, shares)
def test_more_pressure_never_means_a_stricter_policy(category: Category, a: float, b: float) -> None:
    low, high = in_force(category, min(a, b)), in_force(category, max(a, b))
    assert high.threshold <= low.threshold
    assert high.ttl >= low.ttl


@given(categories)
def test_without_pressure_a_policy_is_as_written(category: Category) -> None:
    assert (in_force(category, 0.0).threshold, in_force(category, 0.0).ttl) == (
        category.threshold,
        category.ttl,
    )


@given(categories, categories, st.none() | shares)
def test_the_strictest_threshold_rules(a: Category, b: Category, asked: float | None) -> None:
    required = required_similarity(in_force(a, 0), in_force(b, 0), Controls(threshold=asked))
    assert required == max(a.threshold, b.threshold, asked or 0.0)


@given(categories, categories, spans)
def test_a_caller_may_shorten_a_life_and_lengthen_it_only_to_the_ceiling(
    a: Category, b: Category, ttl: float
) -> None:
    asked, stored = in_force(a, 0), in_force(b, 0)
    life = lifetime(asked, stored, ttl)
    assert life <= ttl
    assert life <= max(asked.ttl, stored.ttl, b.load.ttl_ceiling)
    assert life <= kept(stored, ttl) or life <= kept(stored, None)


@given(categories, shares, spans, st.floats(0, 2e7))
def test_what_is_served_is_near_enough_and_young_enough(
    category: Category, similarity: float, ttl: float, age: float
) -> None:
    stored = in_force(Category("d", 0.5, ttl, guards=()), 0)
    asked = in_force(category, 0)
    if judge(Offer("a", similarity, age, None, stored), "a", asked, NONE).freshness == "fresh":
        assert similarity >= max(category.threshold, 0.5)
        assert age < min(category.ttl, ttl)


def test_a_callers_ttl_holds_in_its_own_category_only() -> None:
    load = Load(ttl_ceiling=1000.0)
    code = in_force(Category("code", 0.9, 100.0, load=load), 0)
    news = in_force(Category("news", 0.9, 5.0), 0)
    assert lifetime(code, code, 900.0) == 900.0
    assert lifetime(code, code, 0.0) == 0.0
    assert lifetime(news, news, 900.0) == 5.0
    assert lifetime(news, code, 900.0) == 5.0


@pytest.mark.parametrize("stale", [Stale(20, 6000), Stale(6000, 20)])
def test_an_entry_is_kept_for_as_long_as_it_may_stand_in_for_another(stale: Stale) -> None:
    assert kept(policy(stale=stale), None) == 6100
    assert kept(policy(stale=stale), 50.0) == 6050


def test_an_entry_is_kept_for_callers_who_would_take_a_stale_one() -> None:
    assert kept(policy(), None) == 100 + ON_CALL
