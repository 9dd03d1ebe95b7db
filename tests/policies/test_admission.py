"""The limit under health, overload and noise; the line's order."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from policies.admission import LEAST, MOST, START, TURN_OF_THE_OLDEST, Limit, Line, retry_after

KIND = ("model", False)


def serve(
    limit: Limit, capacity: int, windows: int, offered: int = 10_000, start: float = 0.0, seed: int = 1
) -> list[int]:
    """A server with `capacity` places and a queue before it: whoever has more calls there waits longer."""
    drawn, now, seen = random.Random(seed), start, []
    for _ in range(windows):
        in_use = min(limit.places, offered)
        for _ in range(20):
            now += 0.06
            slower = max(1.0, in_use / capacity)
            limit.observe(now, KIND, slower * drawn.lognormvariate(0.0, 0.5), in_use)
        seen.append(limit.places)
    return seen


def test_it_grows_under_health() -> None:
    limit = Limit()
    assert serve(limit, capacity=10_000, windows=100)[-1] == MOST


def test_it_settles_within_twice_the_capacity_and_does_not_swing() -> None:
    limit = Limit()
    serve(limit, capacity=200, windows=20, offered=10)
    last = serve(limit, capacity=200, windows=400, start=100.0)[200:]
    assert min(last) >= 150
    assert max(last) <= 550


def test_it_falls_when_the_server_slows_down_and_comes_back() -> None:
    limit = Limit()
    serve(limit, capacity=200, windows=60)
    before = limit.places
    assert min(serve(limit, capacity=20, windows=40, start=100.0)) < before / 3
    assert max(serve(limit, capacity=200, windows=60, start=200.0)) > before / 2


def test_it_falls_to_its_least_when_everything_fails() -> None:
    limit = Limit()
    for call in range(2000):
        limit.observe(call / 10, KIND, None, limit.places)
    assert limit.places == LEAST


def test_an_idle_upstream_teaches_nothing() -> None:
    limit = Limit()
    assert set(serve(limit, capacity=100, windows=50, offered=3)) == {START}


def test_answers_that_take_longer_for_other_reasons_are_got_used_to() -> None:
    limit = Limit()
    serve(limit, capacity=10_000, windows=5)
    now = 1000.0
    for _ in range(8000):
        now += 0.05
        limit.observe(now, KIND, 10.0, limit.places)
    assert limit.places > START


def test_kinds_are_not_compared_with_each_other() -> None:
    limit = Limit(start=100)
    now = 0.0
    for window in range(50):
        for call in range(20):
            now += 0.06
            slow = window > 20 and call % 2
            limit.observe(now, ("slow" if slow else "fast", False), 20.0 if slow else 0.1, limit.places)
    assert limit.places > 100


signals = st.lists(
    st.tuples(st.floats(0, 5), st.sampled_from("ab"), st.none() | st.floats(0, 1e6), st.integers(0, 2000)),
    max_size=300,
)


@given(signals, st.integers(1, 50), st.integers(0, 200))
def test_it_is_bounded(signals: list[tuple[float, str, float | None, int]], least: int, more: int) -> None:
    limit, now = Limit(least, least + more), 0.0
    for passed, model, seconds, in_use in signals:
        now += passed
        limit.observe(now, (model, False), seconds, in_use)
        assert least <= limit.places <= least + more


# The line


def line_of(*waiting: tuple[int, str]) -> Line[int]:
    line: Line[int] = Line()
    for number, (priority, tenant) in enumerate(waiting):
        line.add(number, priority, tenant)
    return line


def taken(line: Line[int]) -> list[int]:
    return [line.next() for _ in range(len(line))]


def test_priority_first_then_tenants_in_turn() -> None:
    line = line_of((1, "a"), (2, "a"), (2, "a"), (2, "a"), (2, "b"), (2, "c"))
    assert taken(line) == [1, 4, 5, 2, 3, 0]


def test_nobody_waits_for_ever() -> None:
    line = line_of((0, "low"))
    turns = 0
    for number in range(1, 100):
        line.add(number, 5, "high")
        turns += 1
        if line.next() == 0:
            break
    assert turns == TURN_OF_THE_OLDEST


def test_who_gives_way() -> None:
    full = line_of((1, "a"), (1, "a"), (1, "b"), (2, "b"))
    assert full.outranked(2, "x") == 1  # the newest of the tenant with most
    assert full.outranked(1, "x") == 1
    assert full.outranked(1, "b") is None
    assert full.outranked(0, "x") is None
    assert line_of().outranked(1, "x") is None


actions = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.sampled_from("abc")),
        st.tuples(st.just("next"), st.just(0), st.just("")),
        st.tuples(st.just("leave"), st.integers(0, 60), st.just("")),
    ),
    max_size=60,
)


@given(actions)
def test_everybody_is_served_once_or_has_left(actions: list[tuple[str, int, str]]) -> None:
    line: Line[int] = Line()
    waiting: dict[int, int] = {}
    ended: Counter[int] = Counter()
    for number, (what, value, tenant) in enumerate(actions):
        if what == "add":
            line.add(number, value, tenant)
            waiting[number] = value
        elif what == "leave":
            assert line.remove(value) == (waiting.pop(value, None) is not None)
        elif waiting:
            item = line.next()
            assert waiting.pop(item) >= 0
            ended[item] += 1
        assert len(line) == len(waiting)
    assert sorted(taken(line)) == sorted(waiting)
    assert all(count == 1 for count in ended.values())


@given(st.integers(0, 10_000), st.integers(1, 1000), st.floats(0, 1e5))
def test_retry_after_is_a_time_that_clients_wait(waiting: int, places: int, held: float) -> None:
    assert 1 <= retry_after(waiting, places, held) <= 60
