from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import digest

from storage.index.demand import NEVER, REMEMBERED, SPAN, Demand

CAPACITY = 10


def others(demand: Demand, asks: int) -> None:
    for _ in range(asks):
        demand.asked(NEVER)


def test_every_ask_counts_one() -> None:
    demand = Demand(10_000)
    mark = demand.asked(NEVER)
    assert demand.of(mark) == 1.0
    assert demand.of(demand.asked(mark)) == pytest.approx(2.0, rel=1e-4)
    assert demand.of(NEVER) == 0.0
    assert demand.of(demand.once()) == 1.0


def test_silence_halves_a_demand_of_one_in_a_span() -> None:
    demand = Demand(CAPACITY)
    mark = demand.asked(NEVER)
    others(demand, SPAN * CAPACITY)
    assert demand.of(mark) == pytest.approx(0.5)


@given(st.integers(1, 50), st.integers(0, 2_000))
def test_demand_wears_down_by_the_formula_and_is_never_above_what_silence_allows(
    asks: int, silence: int
) -> None:
    demand, mark = Demand(CAPACITY), NEVER
    for _ in range(asks):
        mark = demand.asked(mark)
    before = demand.of(mark)
    others(demand, silence)
    span = SPAN * CAPACITY
    assert demand.of(mark) == pytest.approx(1 / (1 / before + silence / span))
    assert silence == 0 or demand.of(mark) <= span / silence


@given(st.integers(1, 40), st.integers(1, 40))
def test_what_is_asked_for_more_often_is_more_in_demand(one: int, other: int) -> None:
    demand, marks = Demand(CAPACITY), {one: NEVER, other: NEVER}
    for ask in range(3_000):
        for every in marks:
            if ask % every == 0:
                marks[every] = demand.asked(marks[every])
    average = {every: demand.of(mark) for every, mark in marks.items()}
    if max(one, other) > 1.5 * min(one, other):
        assert average[min(one, other)] > average[max(one, other)]


def test_what_was_popular_falls_behind_what_is_asked_for_now() -> None:
    demand, old, new = Demand(CAPACITY), NEVER, NEVER
    for _ in range(1_000):
        old = demand.asked(old)
    for _ in range(10):
        others(demand, 2 * CAPACITY)
        new = demand.asked(new)
    assert demand.of(new) > demand.of(old)


def test_what_left_is_remembered() -> None:
    demand = Demand(CAPACITY)
    assert demand.recall(digest("a")) == NEVER
    mark = demand.asked(NEVER)
    demand.remember(digest("a"), mark)
    assert demand.recall(digest("a")) == mark
    assert demand.recall(digest("b")) == NEVER


def test_of_two_that_meet_the_one_in_more_demand_is_remembered() -> None:
    demand = Demand(1)
    places = {number: demand._place(digest(str(number)))[0] for number in range(20)}
    one, other = [digest(str(number)) for number, place in places.items() if place == places[0]][:2]
    weak = demand.asked(NEVER)
    strong = demand.asked(demand.asked(NEVER))
    demand.remember(one, strong)
    demand.remember(other, weak)
    assert (demand.recall(one), demand.recall(other)) == (strong, NEVER)
    others(demand, 1_000)
    newer = demand.asked(NEVER)
    demand.remember(other, newer)
    assert (demand.recall(one), demand.recall(other)) == (NEVER, newer)


def test_what_is_remembered_is_bounded() -> None:
    demand = Demand(CAPACITY)
    for number in range(1_000):
        demand.remember(digest(str(number)), demand.asked(NEVER))
    remembered = sum(demand.recall(digest(str(number))) > -math.inf for number in range(1_000))
    assert 0 < remembered <= REMEMBERED * CAPACITY
    assert demand._marks.nbytes + demand._tags.nbytes == 12 * REMEMBERED * CAPACITY
