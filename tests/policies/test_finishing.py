"""Whether an answer is finished for which nobody waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.finishing import MOST_KINDS, Finishing

SECONDS = st.floats(0.01, 1000)


def test_what_is_nearly_there_is_finished() -> None:
    finishing = Finishing[str](0.7)
    finishing.note("chat", 10.0)
    assert finishing.patience("chat", 6.9) == 0.0
    assert finishing.patience("chat", 7.0) == 10.0


def test_one_long_answer_does_not_make_long_ones_usual() -> None:
    finishing = Finishing[str](0.7)
    for _ in range(10):
        finishing.note("chat", 10.0)
    finishing.note("chat", 110.0)
    assert 10.0 < finishing.patience("chat", 25.0) < 35.0


def test_of_an_unknown_kind_nothing_is_nearly_there() -> None:
    finishing = Finishing[str](0.0)
    finishing.note("chat", 10.0)
    assert finishing.patience("other", 1e9) == 0.0


@given(st.lists(SECONDS, min_size=1), st.floats(0, 1), SECONDS)
def test_going_on_is_bounded_by_what_was_seen(seen: list[float], share: float, now: float) -> None:
    finishing = Finishing[str](share)
    for seconds in seen:
        finishing.note("chat", seconds)
    patience = finishing.patience("chat", now)
    assert patience == 0.0 or min(seen) * 0.999 <= patience <= max(seen) * 1.001


@given(st.lists(SECONDS, min_size=1), st.floats(0, 1), SECONDS, SECONDS)
def test_who_has_waited_longer_is_not_given_up_earlier(
    seen: list[float], share: float, a: float, b: float
) -> None:
    finishing = Finishing[str](share)
    for seconds in seen:
        finishing.note("chat", seconds)
    shorter, longer = sorted((a, b))
    assert finishing.patience("chat", shorter) <= finishing.patience("chat", longer)


def test_made_up_models_fill_no_memory() -> None:
    finishing = Finishing[int](0.5)
    for kind in range(2 * MOST_KINDS):
        finishing.note(0, 1.0)
        finishing.note(kind, 1.0)
        assert finishing.patience(0, 1.0) == 1.0
    assert len(finishing._usual) == MOST_KINDS
    assert finishing.patience(0, 1.0) == finishing.patience(kind, 1.0) == 1.0
