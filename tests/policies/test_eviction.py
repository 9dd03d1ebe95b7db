from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.eviction import over, worth

names = st.sampled_from(["code", "news", "math", "default"])


def test_worth_is_the_formula() -> None:
    assert worth(2.0, 4.0, 500.0, age=10.0, ttl=40.0) == pytest.approx(2.0 * math.log(4) * 500.0 * 0.75)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((3, 2, 100, 0, 60), (2, 2, 100, 0, 60)),
        ((1, 3, 100, 0, 60), (1, 2, 100, 0, 60)),
        ((1, 2, 200, 0, 60), (1, 2, 100, 0, 60)),
        ((1, 2, 100, 5, 60), (1, 2, 100, 30, 60)),
        ((1, 1.1, 0, 0, 60), (9, 9, 900, 60, 60)),
    ],
)
def test_each_factor_counts(better: tuple[float, ...], worse: tuple[float, ...]) -> None:
    assert worth(*better) > worth(*worse)  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl", [0.0, 10.0])
def test_what_is_past_its_time_is_worth_nothing(ttl: float) -> None:
    assert worth(5, 100, 1e6, age=10.0, ttl=ttl) == 0.0
    assert worth(5, 100, 1e6, age=ttl, ttl=ttl) == 0.0


def test_endless_and_future_entries_keep_their_whole_worth() -> None:
    assert worth(1, 2, 100, age=1e9, ttl=math.inf) == worth(1, 2, 100, age=-5.0, ttl=60.0)


def test_the_categories_above_their_shares_give() -> None:
    assert over({"code": 60, "news": 41}, {"code": 0.5, "news": 0.1}, 100) == ["code", "news"]
    assert over({"code": 60, "news": 5}, {"code": 0.5, "news": 0.1}, 64) == ["code"]


@given(
    st.dictionaries(names, st.integers(0, 1_000), min_size=1),
    st.dictionaries(names, st.floats(0, 2)),
    st.integers(1, 2_000),
)
def test_nobody_within_its_share_gives_while_the_memory_overflows(
    usage: dict[str, int], guaranteed: dict[str, float], capacity: int
) -> None:
    if sum(usage.values()) <= capacity:
        return
    givers = over(usage, guaranteed, capacity)
    scale = max(1.0, sum(guaranteed.values()))
    assert givers
    for giver in givers:
        assert usage[giver] > guaranteed.get(giver, 0.0) / scale * capacity * (1 - 1e-9)
