from __future__ import annotations

from storage.backoff import BackOff


def test_pauses_double_up_to_the_longest_and_begin_again_after_a_success() -> None:
    back_off = BackOff(0.1, 5.0)
    assert [back_off.failed() for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert [back_off.failed() for _ in range(10_000)] == [5.0] * 10_000
    back_off.succeeded()
    assert (back_off.failures, back_off.failed()) == (0, 0.1)
