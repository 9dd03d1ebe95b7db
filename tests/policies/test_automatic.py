from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.automatic import DWELL_S, LONGEST_REST_S, Automatic, Evidence, Switch

BREAK_EVEN = 0.05
RIGHT = Evidence(BREAK_EVEN, 0.0, 0.01, 100, 0.05)
WRONG = Evidence(BREAK_EVEN, 0.2, 0.4, 100, 0.05)
UNKNOWN = Evidence(None)

PER_SECOND = 5


def play(
    automatic: Automatic,
    rate: Callable[[float], float],
    seconds: int,
    evidence: Callable[[float], Evidence] = lambda now: RIGHT,
    seed: int = 1,
    start: int = 0,
) -> list[tuple[float, Switch]]:
    """Calls that hit at `rate(now)` whenever the category looks, and a step a second."""
    drawn, switches = random.Random(seed), []
    for second in range(start, start + seconds):
        for _ in range(PER_SECOND if automatic.mode != "off" else 0):
            automatic.note(drawn.random() < rate(second))
        if switch := automatic.step(evidence(second), second):
            switches.append((second, switch))
    return switches


def test_a_category_that_pays_stays_on() -> None:
    assert play(Automatic(0.0), lambda _: 0.3, 7200) == []


def test_one_that_does_not_goes_off_and_says_why() -> None:
    automatic = Automatic(0.0)
    ((at, switch),) = play(automatic, lambda _: 0.0, 7200)
    assert (switch.before, switch.after) == ("on", "off")
    assert at >= DWELL_S
    assert switch.reason.startswith("hit rate 0.0% of ")
    assert switch.reason.endswith("break-even 5.0%")


def test_off_is_explored_for_ever_and_costs_little() -> None:
    automatic, explored, last, longest = Automatic(0.0), 0, 0, 0
    for second in range(24 * 3600):
        play(automatic, lambda _: 0.0, 1, start=second)
        if automatic.exploring:
            explored, longest, last = explored + 1, max(longest, second - last), second
    assert longest <= LONGEST_REST_S + 2
    assert explored < 0.05 * 24 * 3600


def test_it_returns_when_the_gain_does() -> None:
    automatic = Automatic(0.0)
    switches = play(automatic, lambda now: 0.0 if now < 20_000 else 0.3, 28_000)
    assert [switch.after for _, switch in switches] == ["off", "on"]
    assert switches[1][0] - 20_000 <= LONGEST_REST_S + 200


def test_too_many_wrong_hits_lead_to_shadow_and_back() -> None:
    automatic = Automatic(0.0)
    switches = play(automatic, lambda _: 0.3, 4000, lambda now: WRONG if 1000 <= now < 2000 else RIGHT)
    assert [(at, switch.after) for at, switch in switches] == [(1000, "shadow"), (2000, "on")]
    assert switches[0][1].reason == "between 20.0% and 40.0% of the hits are wrong, bearable 5.0%"


def test_an_exploration_serves_nothing_while_too_much_was_wrong() -> None:
    automatic = Automatic(0.0)
    seen = set()
    for second in range(7200):
        play(automatic, lambda _: 0.0, 1, lambda _: WRONG, start=second)
        seen.add((automatic.state, automatic.mode))
    assert ("off", "shadow") in seen
    assert ("off", "on") not in seen


def test_an_exploration_that_turns_out_wrong_serves_no_more() -> None:
    automatic = Automatic(0.0, "off")
    automatic.step(RIGHT, 300.0)
    assert automatic.mode == "on"
    automatic.step(WRONG, 301.0)
    assert automatic.mode == "shadow"


def test_shadow_ends_only_when_surely_few_hits_are_wrong() -> None:
    perhaps = Evidence(BREAK_EVEN, 0.01, 0.2, 100, 0.05)
    automatic = Automatic(0.0, "shadow")
    assert play(automatic, lambda _: 0.3, 1000, lambda _: perhaps) == []
    assert play(automatic, lambda _: 0.3, 1, start=1000) != []


def test_a_clock_that_went_back_begins_the_state_anew() -> None:
    automatic = Automatic(10_000.0, "off")
    automatic.step(RIGHT, 0.0)
    automatic.step(RIGHT, 300.0)
    assert automatic.exploring


def test_what_is_not_known_decides_nothing() -> None:
    assert play(Automatic(0.0), lambda _: 0.0, 7200, lambda _: UNKNOWN) == []
    few = Evidence(BREAK_EVEN, 0.9, 1.0, 3, 0.05)
    assert play(Automatic(0.0), lambda _: 0.3, 7200, lambda _: few) == []


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0, 0.5), st.integers(0, 1000))
def test_no_flapping_under_noise(rate: float, even: float, seed: int) -> None:
    """Steady traffic, at break even too, leads to few switches, and to none before the dwell time is over."""
    evidence = Evidence(even, 0.0, 0.01, 100, 0.05)
    switches = play(Automatic(0.0), lambda _: rate, 6 * 3600, lambda _: evidence, seed)
    assert len(switches) <= 6
    times = [0.0, *(at for at, _ in switches)]
    assert all(switch.before != switch.after for _, switch in switches)
    stays = [
        b - a for (a, b), (_, switch) in zip(pairwise(times), switches, strict=True) if switch.before != "off"
    ]
    assert all(stay >= DWELL_S for stay in stays)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(-1e4, 1e5), st.floats(0, 1) | st.none(), st.booleans())))
def test_any_history_leaves_it_able_to_explore(
    events: list[tuple[bool, float, float | None, bool]],
) -> None:
    automatic, now = Automatic(0.0), 0.0
    for hit, passed, even, wrong in events:
        now += passed
        for _ in range(150):
            automatic.note(hit)
        automatic.step(Evidence(even, 0.5 if wrong else 0.0, 1.0, 50, 0.1), now)
        assert automatic.mode in ("on", "shadow", "off")
        assert automatic.looks <= 1000
    for _ in range(3):
        now += LONGEST_REST_S + 1
        automatic.step(RIGHT, now)
        if automatic.mode != "off":
            return
    raise AssertionError("never looks again")
