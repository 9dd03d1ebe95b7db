"""The limit under health, overload and noise; the line's order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import exp
from statistics import quantiles

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.limit import OFFERED, TIMEOUT, TOKENS, World
from policies.admission import (
    CUT_FOR_FAILURES,
    MOST,
    MOST_KINDS,
    ROOM,
    SPARED,
    START,
    TURN_OF_THE_OLDEST,
    Limit,
    Line,
    retry_after,
)
from proxy.simulation.queueing import Service

KIND = ("model", False)


def overloaded(
    capacity: int, answer_s: float, noise: float = 0.0, streams: bool = False, seed: int = 0
) -> World:
    """Offered half as much again as it serves, from the first moment on."""
    service = Service(capacity, None, answer_s / 20, answer_s * 0.95 / TOKENS)
    rate = OFFERED * capacity / answer_s
    return World(service, Limit(), rate, TIMEOUT * answer_s, noise, streams, seed)


def share_used(world: World, start: float, end: float) -> float:
    possible = world.service.capacity or 0
    mean_s = world.service.first_token_s + world.service.token_s * TOKENS * exp(world.noise**2 / 2)
    return len(world.seen.taken(start, end)) * mean_s / (possible * (end - start))


worlds = st.builds(
    overloaded,
    st.sampled_from([2, 3, 5, 8, 16, 40]),
    st.sampled_from([0.2, 1.0, 5.0]),
    st.sampled_from([0.0, 0.4]),
    st.booleans(),
    st.integers(0, 1000),
)


@settings(max_examples=25, deadline=None)
@given(worlds)
def test_started_amid_an_overload_it_settles_and_uses_the_server(world: World) -> None:
    capacity, answer_s = world.service.capacity or 0, world.service.token_s * TOKENS
    world.run(200 * answer_s)
    seen = world.seen.between(100 * answer_s, 200 * answer_s)
    assert max(seen) <= 2.5 * capacity + 4
    assert quantiles(seen, n=20)[0] >= 0.9 * capacity or world.noise
    assert share_used(world, 100 * answer_s, 200 * answer_s) >= 0.85


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("capacity", [8, 64])
def test_after_a_calm_time_it_never_overshoots(capacity: int, streams: bool) -> None:
    world = overloaded(capacity, 0.5, streams=streams)
    full, world.rate = world.rate, world.rate / 5
    world.run(30.0)
    world.rate = full
    world.run(90.0)
    assert max(world.seen.between(30.0, 90.0)) <= 2.5 * capacity
    assert set(world.seen.between(45.0, 90.0)) <= set(range(capacity, 2 * capacity + 1))
    assert share_used(world, 45.0, 90.0) >= 0.9


def test_it_follows_a_server_that_shrinks_and_grows() -> None:
    world = overloaded(64, 0.5)
    world.run(60.0)
    world.change(replace(world.service, capacity=8))
    world.run(90.0)
    assert max(world.seen.between(80.0, 90.0)) <= 20
    world.change(world.service)
    world.run(120.0)
    assert share_used(world, 110.0, 120.0) >= 0.9


def test_a_server_that_gets_faster_is_used() -> None:
    world = overloaded(16, 1.0)
    world.run(60.0)
    world.rate *= 3
    world.change(replace(world.service, token_s=world.service.token_s / 3))
    world.run(120.0)
    assert len(world.seen.taken(90.0, 120.0)) >= 0.9 * 30 * 16 / (0.05 + 0.95 / 3)


def test_a_server_that_gets_slower_for_good_is_used() -> None:
    world = overloaded(16, 1.0)
    world.run(60.0)
    world.change(replace(world.service, token_s=world.service.token_s * 4))
    world.run(1500.0)
    assert len(world.seen.taken(1200.0, 1500.0)) >= 0.85 * 300 * 16 / (0.05 + 0.95 * 4)


def test_long_answers_after_short_ones_are_soon_taken_for_what_they_are() -> None:
    """At one place for three minutes nine of ten callers would be refused."""
    world = overloaded(16, 2.0)
    world.run(60.0)
    world.change(replace(world.service, token_s=world.service.token_s / 40))
    world.run(80.0)
    world.change(world.service)
    world.run(240.0)
    assert len(world.seen.taken(180.0, 240.0)) >= 0.9 * 60 * 16 / 2


def test_models_that_work_in_batches_keep_their_batches() -> None:
    """Twice the time for each of 32 is no waiting."""
    service = Service(32, None, 0.0, 0.005, slowdown=1.0)
    world = World(service, Limit(), 60.0, 1.0)
    world.run(60.0)
    assert len(world.seen.taken(30.0, 60.0)) >= 0.85 * 30 * 32


def observe_all(
    limit: Limit, count: int, seconds: float | None, step: float = 0.05, start: float = 0.0
) -> None:
    for call in range(count):
        limit.observe(start + call * step, KIND, seconds, limit.places)


def test_it_grows_under_health() -> None:
    limit = Limit()
    observe_all(limit, 20_000, 0.01)
    assert limit.places == MOST


def test_failures_leave_some_places() -> None:
    limit = Limit(start=100)
    observe_all(limit, 2000, None)
    assert limit.places == SPARED


def test_a_burst_of_failures_is_one_sign_of_overload() -> None:
    limit = Limit(start=100)
    observe_all(limit, 2000, None, step=0.0)
    assert limit.places == 100
    observe_all(limit, 1, None, start=1.0)
    assert limit.places == int(100 * CUT_FOR_FAILURES)


def test_the_least_places_are_left_while_it_learns_what_is_usual() -> None:
    limit, seen = Limit(5, 10, start=10), set[int]()
    for call in range(100):
        limit.observe(2 * call, KIND, 0.1 if call < 20 else 1.5, limit.places)
        seen.add(limit.places)
    assert seen == {5, 10}


def test_made_up_models_fill_no_memory() -> None:
    limit = Limit()
    for call in range(20 * MOST_KINDS):
        limit.observe(call, KIND, 0.1, 1)
        limit.observe(call, (f"model {call}", False), 0.1, 1)
    assert len(limit._usual) == MOST_KINDS
    assert KIND in limit._usual


def test_what_got_slower_for_good_is_got_used_to() -> None:
    limit = Limit()
    observe_all(limit, 100, 0.1)
    for call in range(60):
        limit.observe(1000 + call * 100, KIND, 90.0, limit.places)
    assert limit.places > START


def test_growth_is_careful_near_where_calls_failed() -> None:
    limit, worst = Limit(), 0
    for call in range(6000):
        refused = limit.places > 40
        limit.observe(call / 20, KIND, None if refused else 0.01, limit.places)
        worst = max(worst, limit.places if call > 1000 else 0)
    assert 40 < worst <= 40 + 7


@pytest.mark.parametrize("in_use", [3, 6])
def test_an_idle_upstream_teaches_nothing(in_use: int) -> None:
    limit = Limit()
    for call in range(1000):
        limit.observe(call / 10, KIND, 0.1, in_use)
    assert limit.places == START


def test_a_new_kind_is_as_much_slower_as_the_known_ones_are() -> None:
    limit, other = Limit(start=40), ("other", False)
    for call in range(400):  # alone, then three times as slow with every place taken
        limit.observe(call / 10, KIND, 0.1, 1)
    for call in range(400, 500):
        limit.observe(call / 10, KIND, 0.3, limit.places)
    for call in range(500, 600):
        limit.observe(call / 10, other, 0.9, limit.places)
    before = limit.places
    for call in range(600, 650):
        limit.observe(call / 10, other, 0.3, limit.places)
    assert limit.places > before


def test_a_kind_that_is_new_under_load_is_known_to_wait_as_well() -> None:
    limit, other = Limit(start=40), ("other", False)
    for call in range(400):
        limit.observe(call, KIND, 0.1, 1)
    for call in range(400, 460):
        kind, seconds = (other, 0.9) if call > 430 and call % 2 else (KIND, 0.3)
        limit.observe(call, kind, seconds, limit.places)
    before = limit.places
    for call in range(460, 480):
        limit.observe(call, other, 0.9, limit.places)
    assert limit.places < before


def test_a_server_that_got_faster_is_known_to_be_fast_though_it_is_never_idle() -> None:
    limit = Limit(start=40)
    for call in range(400):
        limit.observe(call, KIND, 1.0, 1)
    for call in range(400, 800):
        limit.observe(call, KIND, 0.1, 40)
    before = limit.places
    for call in range(800, 900):
        limit.observe(call, KIND, 1.0, limit.places)
    assert limit.places < before / 2


def test_what_gets_slower_by_and_by_is_got_used_to() -> None:
    limit = Limit()
    for call in range(4000):
        limit.observe(call, KIND, 0.1 * 1.0005**call, 1)
    assert limit.places == START


def test_quick_answers_make_no_more_calls_served_than_there_are() -> None:
    limit = Limit()
    for call in range(400):
        limit.observe(call, KIND, 1.0, 1)
    observe_all(limit, 8, 0.1, step=1.0, start=400.0)
    assert START < limit.places <= ROOM * START + START**0.5


def test_kinds_are_not_compared_with_each_other() -> None:
    limit = Limit(start=100)
    for call in range(5000):
        slow = call > 2000 and call % 2
        limit.observe(call / 10, ("slow" if slow else "fast", False), 20.0 if slow else 0.1, limit.places)
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


def test_retry_after_is_when_a_place_is_free_for_one_more() -> None:
    assert retry_after(0, 1, 5.0) == 5
    assert retry_after(9, 5, 4.0) == 8


@given(st.integers(0, 10_000), st.integers(1, 1000), st.floats(0, 1e5))
def test_retry_after_is_a_time_that_clients_wait(waiting: int, places: int, held: float) -> None:
    assert 1 <= retry_after(waiting, places, held) <= 60
