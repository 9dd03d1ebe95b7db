"""A spread mapping is a mapping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.spread import Spread


@given(st.lists(st.tuples(st.sampled_from(("put", "drop")), st.integers(0, 40), st.integers())))
def test_it_agrees_with_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    spread, kept = Spread[str, int](), dict[str, int]()
    for step, number, value in steps:
        key = str(number)
        if step == "put":
            spread[key] = kept[key] = value
        elif key in kept:
            del spread[key], kept[key]
        else:
            with pytest.raises(KeyError):
                del spread[key]
    assert len(spread) == len(kept)
    assert sorted(spread) == sorted(kept)
    assert all(key in spread and spread[key] == spread.get(key) == value for key, value in kept.items())
    assert "never" not in spread
    assert spread.get("never") is None


def test_keys_may_come_and_go_while_it_is_walked_through() -> None:
    spread = Spread[int, int]()
    for key in range(1_000):
        spread[key] = key
    met = []
    for key in spread:
        met.append(key)
        del spread[key]
        spread[key + 10_000] = key
    assert set(range(1_000)) <= set(met)
