"""How pressure follows what an upstream lets us see. Times are seconds of no clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.pressure import (
    BAND,
    BOUNDS,
    DOWN_S,
    ENGAGE,
    RELEASE,
    SAMPLES,
    UP_S,
    Latency,
    Level,
    Pressure,
    normalised,
)

RAW = st.floats(0.0, 1.0)
STEPS = st.lists(st.tuples(RAW, st.floats(0.0, 30.0)), max_size=60)
EVENT = st.sampled_from(("began", "answered", "ended", "failed", "told", "scraped"))
EVENTS = st.lists(
    st.tuples(EVENT, st.floats(0.0, 1e4), st.floats(0.0, 5.0)),
    max_size=150,
)


def play(pressure: Pressure, kind: str, x: float, now: float) -> None:
    match kind:
        case "began":
            pressure.began(now)
        case "answered":
            pressure.answered(x, 200, now)
        case "ended":
            pressure.ended(x, True, now)
        case "failed":
            pressure.ended(None, False, now)
        case "told":
            pressure.told(x, x / 1e4, now)
        case "scraped":
            pressure.scraped(x, 1.0, x / 1e4, now)


def steady(
    pressure: Pressure,
    start: float,
    seconds: float,
    each_s: float = 0.1,
    takes_s: float = 1.0,
    ok: Callable[[int], bool] = lambda number: True,
) -> float:
    """A call every `each_s`, each taking `takes_s`. Gives the time of the last event."""
    events = []
    for number in range(int(seconds / each_s)):
        begun = start + number * each_s
        events += [(begun, "began", number), (begun + takes_s, "ended", number)]
    for at, kind, number in sorted(events):
        if kind == "began":
            pressure.began(at)
        elif ok(number):
            pressure.answered(takes_s / 4, 200, at)
            pressure.ended(takes_s, True, at)
        else:
            pressure.ended(None, False, at)
    return start + seconds + takes_s


def transitions(level: Level, raws: Sequence[float], step_s: float) -> int:
    """How often it began or ceased to act."""
    held = [level.step(raw, number * step_s) for number, raw in enumerate(raws)]
    return sum((a == 0) != (b == 0) for a, b in pairwise(held))


# The level


@given(STEPS)
def test_the_level_is_bounded_and_near_what_was_smoothed(steps: list[tuple[float, float]]) -> None:
    level, now = Level(), 0.0
    for raw, since in steps:
        now += since
        held = level.step(raw, now)
        assert 0.0 <= held <= 1.0
        assert held == 0.0 or abs(held - level.smooth) <= BAND
        assert held > 0.0 or level.smooth <= ENGAGE


@given(STEPS, st.data())
def test_more_of_a_signal_never_means_less_pressure(
    steps: list[tuple[float, float]], data: st.DataObject
) -> None:
    low, high, now = Level(), Level(), 0.0
    for raw, since in steps:
        now += since
        low.step(raw, now)
        high.step(data.draw(st.floats(raw, 1.0)), now)
        assert low.smooth <= high.smooth + 1e-12


@given(STEPS)
def test_the_level_settles_at_nothing_and_at_everything(steps: list[tuple[float, float]]) -> None:
    level, now = Level(), 0.0
    for raw, since in steps:
        now += since
        level.step(raw, now)
    assert level.step(0.0, now + 40.0) == 0.0
    assert level.step(1.0, now + 60.0) == 1.0


def test_a_step_is_followed_once_each_way() -> None:
    raws = [0.0] * 100 + [1.0] * 300 + [0.0] * 600
    assert transitions(Level(), raws, 0.1) == 2


def test_a_ramp_is_followed_once_each_way() -> None:
    ramp = [number / 600 for number in range(600)]
    assert transitions(Level(), [*ramp, *reversed(ramp), *[0.0] * 400], 0.1) == 2


def test_noise_below_the_point_of_engagement_moves_nothing() -> None:
    drawn = random.Random(1)
    assert transitions(Level(), [drawn.uniform(0.0, ENGAGE) for _ in range(5000)], 0.1) == 0


@given(st.lists(RAW, min_size=1, max_size=400), st.floats(0.01, 2.0))
def test_however_wild_the_signal_policies_do_not_oscillate(raws: list[float], step_s: float) -> None:
    """From calm to pressed and back takes the time of a fall from the one bound to the other."""
    least_s = DOWN_S  # ln(ENGAGE / RELEASE) > 1 time constants
    assert ENGAGE / RELEASE > 2.718
    assert transitions(Level(), raws, step_s) <= 2 * (len(raws) * step_s / least_s + 1)


@pytest.mark.parametrize("every", [5, 20, 50])
def test_a_train_of_short_spikes_is_one_state_and_not_many(every: int) -> None:
    spikes = [1.0 if number % every == 0 else 0.0 for number in range(6000)]
    assert transitions(Level(), spikes, 0.1) <= 1


def test_a_spike_alone_does_nothing() -> None:
    assert transitions(Level(), [0.0, 1.0, *[0.0] * 100], 0.1) == 0


def test_a_sudden_rise_is_believed_sooner_than_relief() -> None:
    level = Level()
    level.step(0.0, 0.0)
    assert level.step(1.0, 2 * UP_S) > 0.8
    assert level.step(0.0, 4 * UP_S) > 0.5


def test_policies_move_in_steps_and_not_with_every_call() -> None:
    level, drawn = Level(), random.Random(2)
    for number in range(600):
        level.step(0.5, number / 10)
    held = {level.step(drawn.uniform(0.47, 0.53), 60 + number / 10) for number in range(5000)}
    assert len(held) <= 2


def test_a_clock_that_steps_back_stands_still() -> None:
    level = Level()
    level.step(1.0, 100.0)
    assert level.step(1.0, 50.0) == 0.0
    assert level.step(1.0, 55.0) > 0.9


# The signals


@given(st.sampled_from(sorted(BOUNDS)), st.floats(-1e3, 1e3), st.floats(0.0, 1e3))
def test_each_signal_is_bounded_and_monotone(name: str, x: float, more: float) -> None:
    assert 0.0 <= normalised(name, x) <= normalised(name, x + more) <= 1.0


@given(EVENTS, st.sampled_from((None, 4.0)))
def test_whatever_happens_the_pressure_is_bounded_and_settles(
    events: list[tuple[str, float, float]], capacity: float | None
) -> None:
    pressure, now = Pressure(capacity), 0.0
    for kind, x, since in events:
        now += since
        play(pressure, kind, x, now)
        assert 0.0 <= pressure.level(now) <= 1.0
        assert pressure.signals(now).keys() == BOUNDS.keys()
        assert all(0.0 <= value <= 1.0 for value in pressure.signals(now).values())
    while pressure.in_flight:
        pressure.ended(None, None, now)
    for _ in range(300):
        now += 0.5
        pressure.level(now)
    assert pressure.level(now) == 0.0


def test_calls_beyond_a_given_capacity_press() -> None:
    pressure = Pressure(capacity=10)
    for number in range(20):
        pressure.began(number * 0.01)
    assert pressure.signals(1.0)["in_flight"] == 1.0
    assert pressure.level(1.0) == 0.0 or pressure.level(1.0) < 1.0
    assert pressure.level(20.0) == 1.0


def test_an_upstream_that_serves_well_is_not_pressed() -> None:
    pressure = Pressure()
    now = steady(pressure, 0.0, 300.0)
    assert pressure.level(now) == 0.0
    assert pressure.capacity is None


def test_slower_answers_press_and_teach_the_capacity() -> None:
    pressure = Pressure()
    now = steady(pressure, 0.0, 60.0)
    now = steady(pressure, now, 60.0, takes_s=6.0)
    assert pressure.signals(now)["duration"] == 1.0
    assert pressure.level(now) == 1.0
    assert pressure.capacity == pytest.approx(10.0, rel=0.3)


def test_quicker_service_of_more_calls_raises_a_learned_capacity() -> None:
    pressure = Pressure()
    now = steady(pressure, steady(pressure, 0.0, 60.0), 60.0, takes_s=6.0)
    now = steady(pressure, now + 60, 120.0, each_s=0.02, takes_s=1.0)
    assert pressure.capacity == pytest.approx(50.0, rel=0.1)
    assert pressure.level(now + 60) == 0.0


def test_fewer_calls_do_not_lower_a_learned_capacity() -> None:
    pressure = Pressure()
    now = steady(pressure, steady(pressure, 0.0, 60.0), 60.0, each_s=0.05, takes_s=6.0)
    assert (learned := pressure.capacity or 0.0) > 15
    steady(pressure, now + 60, 120.0)
    assert pressure.capacity == learned


def test_a_given_capacity_is_not_unlearned() -> None:
    pressure = Pressure(capacity=100)
    now = steady(pressure, 0.0, 60.0)
    steady(pressure, now, 60.0, takes_s=6.0)
    assert pressure.capacity == 100


def test_a_slow_upstream_is_not_learned_as_the_usual_under_pressure() -> None:
    pressure = Pressure()
    now = steady(pressure, 0.0, 60.0)
    now = steady(pressure, now, 1800.0, takes_s=6.0)
    assert pressure.level(now) == 1.0


def test_what_has_been_slow_for_over_an_hour_is_the_usual() -> None:
    pressure = Pressure()
    now = steady(pressure, 0.0, 60.0)
    now = steady(pressure, now, 5000.0, each_s=0.5, takes_s=6.0)
    assert pressure.level(now) == 0.0


def test_long_answers_are_not_slow_ones() -> None:
    pressure = Pressure()
    now, drawn = 0.0, random.Random(3)
    for number in range(3000):
        tokens = drawn.choice((20, 1000)) if number < 1500 else 1000
        now += 0.1
        pressure.began(now)
        pressure.ended(0.6 + tokens * 0.02, True, now, tokens)
    assert pressure.signals(now)["duration"] == 0.0


def test_few_calls_say_nothing_about_latency() -> None:
    pressure = Pressure()
    now = steady(pressure, 0.0, 60.0)
    now = steady(pressure, now + 60, 60.0, each_s=5.0, takes_s=30.0)
    assert pressure.signals(now)["duration"] == 0.0


def test_calls_that_failed_early_teach_no_baseline() -> None:
    pressure = Pressure()
    now = steady(pressure, 0.0, 60.0)
    for _ in range(500):
        now += 0.1
        pressure.began(now)
        pressure.answered(0.001, 429, now)
        pressure.ended(0.001, False, now)
    now = steady(pressure, now + 60, 30.0)
    assert pressure.signals(now)["duration"] == pressure.signals(now)["first_byte"] == 0.0


def test_an_upstream_that_falls_silent_is_noticed_before_any_call_times_out() -> None:
    pressure = Pressure()
    now = steady(pressure, 0.0, 60.0)
    for _ in range(20):
        pressure.began(now)
    assert pressure.level(now + 1) == 0.0
    assert pressure.signals(now + 6)["silence"] == 1.0


def test_nobody_asking_is_no_silence() -> None:
    pressure = Pressure()
    now = steady(pressure, 0.0, 60.0) + 3600
    for _ in range(20):
        pressure.began(now)
    assert pressure.signals(now)["silence"] == 0.0


def test_failures_press_by_their_share() -> None:
    one, half = Pressure(), Pressure()
    now = steady(one, 0.0, 30.0, ok=lambda number: number % 20 != 0)
    assert one.level(now) == 0.0
    now = steady(half, 0.0, 30.0, ok=lambda number: number % 2 == 0)
    assert half.level(now) > 0.7


def test_a_burst_of_failures_is_forgotten_by_the_good_answers_after_it() -> None:
    pressure = Pressure()
    for number in range(600):
        pressure.began(0.0)
        pressure.ended(None, number >= 400, number / 1000)
    assert pressure.signals(0.6)["failures"] == 0.0


def test_one_failure_of_one_call_presses_nothing() -> None:
    pressure = Pressure()
    pressure.began(0.0)
    pressure.ended(None, False, 1.0)
    assert max(pressure.level(1.0 + number / 10) for number in range(600)) == 0.0


def test_retry_after_holds_until_it_passes() -> None:
    pressure = Pressure()
    pressure.told(10.0, None, 0.0)
    assert pressure.signals(9.9)["retry_after"] == 1.0
    assert pressure.level(9.9) > 0.9
    assert pressure.signals(10.0)["retry_after"] == 0.0


def test_a_retry_after_amid_good_answers_was_for_one_caller() -> None:
    pressure = Pressure()
    pressure.told(50.0, None, 0.0)
    for number in range(8):
        pressure.answered(None, 200, 1.0 + number)
    assert pressure.signals(20.0)["retry_after"] == 0.0
    pressure.told(50.0, None, 21.0)
    assert pressure.signals(22.0)["retry_after"] == 1.0


def test_refusals_after_a_retry_after_do_not_outweigh_it() -> None:
    pressure = Pressure()
    pressure.told(50.0, None, 0.0)
    for number in range(20):
        pressure.answered(None, 429, 1.0 + number)
    assert pressure.signals(30.0)["retry_after"] == 1.0


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -5.0, 0.0])
def test_a_retry_after_that_is_no_time_counts_for_nothing(seconds: float) -> None:
    pressure = Pressure()
    pressure.told(seconds, None, 0.0)
    assert pressure.signals(1.0)["retry_after"] == 0.0


def test_no_retry_after_holds_for_ever() -> None:
    pressure = Pressure()
    pressure.told(1e9, None, 0.0)
    assert pressure.signals(61.0)["retry_after"] == 0.0


def test_a_rate_limit_nearly_used_up_presses() -> None:
    pressure = Pressure()
    for number in range(20):
        pressure.told(None, 0.5, number * 0.1)
    assert pressure.signals(2.0)["rate_limit"] == 0.0
    for number in range(40):
        pressure.told(None, 0.02, 2.0 + number * 0.1)
    assert pressure.signals(6.0)["rate_limit"] > 0.4
    assert pressure.signals(60.0)["rate_limit"] == 0.0


def test_what_the_upstream_says_of_itself_holds_for_a_while() -> None:
    pressure = Pressure()
    pressure.scraped(8.0, 8.0, 0.99, 0.0)
    assert pressure.signals(1.0)["queue"] == 1.0
    assert pressure.signals(1.0)["kv_cache"] > 0.9
    assert max(pressure.signals(16.0).values()) == 0.0


def test_calls_of_others_that_the_upstream_tells_of_count_against_the_capacity() -> None:
    pressure = Pressure(capacity=10)
    pressure.scraped(5.0, 10.0, None, 0.0)
    assert pressure.signals(0.0)["in_flight"] == 0.5


def test_pressure_is_gone_within_a_minute_of_the_last_call() -> None:
    pressure = Pressure(capacity=10)
    now = steady(pressure, 0.0, 60.0)
    now = steady(pressure, now, 60.0, takes_s=10.0, ok=lambda number: number % 2 == 0)
    assert pressure.level(now) == 1.0
    assert pressure.level(now + 20) > 0.0
    for number in range(120):
        pressure.level(now + number / 2)
    assert pressure.level(now + 60) == 0.0


def test_pressure_is_gone_within_a_minute_of_the_load_falling() -> None:
    pressure = Pressure()
    now = steady(pressure, steady(pressure, 0.0, 60.0), 120.0, takes_s=8.0)
    now = steady(pressure, now, 59.0, each_s=0.3)
    assert pressure.level(now) == 0.0


def test_a_call_costs_a_few_microseconds() -> None:
    pressure, calls = Pressure(), 5000
    started = time.perf_counter()
    for number in range(calls):
        now = number * 0.01
        pressure.began(now)
        pressure.level(now)
        pressure.answered(0.1, 200, now)
        pressure.told(None, 0.5, now)
        pressure.ended(0.2, True, now)
    each_us = (time.perf_counter() - started) / calls * 1e6
    print(f"{each_us:.1f} us a call")
    assert each_us < 200


def test_nothing_is_taken_for_usual_before_it_was_calm() -> None:
    latency = Latency()
    for number in range(SAMPLES):
        latency.note(9.0, number / 10, calm=False)
    assert latency.inflation(4.0) is None


def test_a_burst_of_answers_counts_though_medians_are_taken_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    latency, taken, median = Latency(), [0], Latency._of_recent

    def counted(self: Latency) -> float | None:
        taken[0] += 1
        return median(self)

    monkeypatch.setattr(Latency, "_of_recent", counted)
    for second in range(SAMPLES):
        latency.note(1.0, second / 10, calm=True)
    before = taken[0]
    for _ in range(1000):
        latency.note(4.0, SAMPLES / 10, calm=False)
    assert taken[0] <= before + 1
    assert latency.inflation(SAMPLES / 10) == pytest.approx(4.0, rel=0.01)
