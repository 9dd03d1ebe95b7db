"""The modelled upstream against schedules worked out by hand, against queueing theory, and against what must
hold of every queue."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.simulation.queueing import ModelledUpstream, Ride, Service


def run(service: Service, calls: Sequence[tuple[float, int]]) -> list[Ride | None]:
    """Sends (time, tokens) one after the other and lets all of them end."""
    upstream, rides, ended = ModelledUpstream(service), [], []
    for number, (now, tokens) in enumerate(calls):
        ended += [ride for step, ride in upstream.until(now) if step == "ended"]
        rides.append(upstream.send(number, tokens, now))
    ended += [ride for step, ride in upstream.until(float("inf")) if step == "ended"]
    assert sorted(ride.number for ride in ended) == [ride.number for ride in rides if ride]
    assert [ride.ended for ride in ended] == sorted(ride.ended for ride in ended)
    assert (upstream.running, upstream.waiting) == (0, 0)
    return rides


def times(rides: Sequence[Ride | None]) -> list[tuple[float, float, float] | None]:
    return [ride and (ride.started, ride.first, ride.ended) for ride in rides]


def test_two_places_three_calls() -> None:
    service = Service(capacity=2, first_token_s=1.0, token_s=0.5)
    rides = run(service, [(0.0, 2), (0.5, 4), (1.0, 2), (10.0, 0)])
    assert times(rides) == [(0.0, 1.0, 2.0), (0.5, 1.5, 3.5), (2.0, 3.0, 4.0), (10.0, 11.0, 11.0)]


def test_a_place_that_is_free_again_at_that_moment_is_free() -> None:
    rides = run(Service(capacity=1, first_token_s=1.0), [(0.0, 0), (1.0, 0)])
    assert times(rides) == [(0.0, 1.0, 1.0), (1.0, 2.0, 2.0)]


def test_a_full_queue_refuses() -> None:
    service = Service(capacity=1, queue=1, first_token_s=10.0, token_s=0.0)
    rides = run(service, [(0.0, 1), (1.0, 1), (2.0, 1), (10.0, 1), (11.0, 1)])
    assert [ride is None for ride in rides] == [False, False, True, False, True]


def test_without_a_capacity_nobody_waits() -> None:
    rides = run(Service(first_token_s=1.0, token_s=0.1, slowdown=5.0), [(0.0, 10)] * 50)
    assert set(times(rides)) == {(0.0, 1.0, 2.0)}


def test_tokens_slow_down_with_the_places_taken() -> None:
    service = Service(capacity=2, first_token_s=1.0, token_s=0.1, slowdown=1.0)
    assert times(run(service, [(0.0, 10), (0.0, 10)])) == [(0.0, 1.0, 2.5), (0.0, 1.0, 3.0)]


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_mean_wait_is_that_of_theory(load: float) -> None:
    """M/D/1: calls at random times, each of the same length S: S · ρ / (2 (1 − ρ)), after Pollaczek and
    Khinchine."""
    drawn, now, calls = random.Random(7), 0.0, []
    for _ in range(60_000):
        now += drawn.expovariate(load)
        calls.append((now, 0))
    rides = run(Service(capacity=1, first_token_s=1.0), calls)
    mean = sum(ride.started - ride.sent for ride in rides if ride) / len(calls)
    assert mean == pytest.approx(load / (2 * (1 - load)), rel=0.1)


gaps = st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30)), min_size=1, max_size=60)


@given(gaps, st.integers(1, 4), st.none() | st.integers(0, 5), st.floats(0, 3))
def test_what_holds_of_every_queue(
    arrivals: list[tuple[float, int]], capacity: int, queue: int | None, slowdown: float
) -> None:
    now, calls = 0.0, []
    for gap, tokens in arrivals:
        now += gap
        calls.append((now, tokens))
    service = Service(capacity, queue, first_token_s=0.5, token_s=0.1, slowdown=slowdown)
    rides = run(service, calls)
    taken = [ride for ride in rides if ride is not None]
    assert queue is not None or len(taken) == len(calls)
    started = [ride.started for ride in taken]
    assert started == sorted(started)  # first come, first served
    for ride in taken:
        assert ride.sent <= ride.started < ride.first <= ride.ended
        within = sum(other.started <= ride.started < other.ended for other in taken)
        assert within <= capacity
        if ride.started > ride.sent:  # nobody waits beside a free place
            assert sum(other.started < ride.started <= other.ended for other in taken) >= capacity
    assert rides == [] or times(run(service, calls)) == times(rides)  # no chance in it
