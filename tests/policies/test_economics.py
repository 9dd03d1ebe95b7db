from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.economics import HALF_LIFE_S, Mean, Meter, bearable, break_even, interval
from policies.errors import ConfigError
from policies.prices import Prices

NOW = 1_700_000_000.0
LOSS_MS = 60_000.0


def meter(
    looks: int = 100, hits: int = 40, lookup: float = 2.0, hit: float = 1.0, up: float = 401.0
) -> Meter:
    made = Meter(NOW)
    for number in range(looks):
        at = NOW + number
        found = number * hits // looks != (number + 1) * hits // looks
        made.looked(lookup, found, at)
        if found:
            made.hit.add(hit, at)
            made.saved.add(up, 100, 0.001, at)
        else:
            made.upstream.add(up, at)
    return made


@pytest.mark.parametrize(
    ("lookup_ms", "slower_ms", "rate"),
    [(30, 200, 0.15), (30, 150, 0.20), (6, 200, 0.03), (7.5, 150, 0.05), (2, 200, 0.01), (2, 150, 0.0133)],
)
def test_the_papers_break_even(lookup_ms: float, slower_ms: float, rate: float) -> None:
    """arXiv 2510.26835: 15 to 20 % with a remote search of 30 ms, 3 to 5 % with a local one of 2 ms, to which
    an embedding comes. `slower_ms`: by how much the upstream is slower than a hit of 5 ms."""
    assert break_even(lookup_ms, slower_ms + 5.0, 5.0) == pytest.approx(rate, abs=1e-4)


def test_figures_are_the_formulas() -> None:
    figures = meter().figures(NOW + 99, 0.01, LOSS_MS)
    assert figures.hit_rate == pytest.approx(0.4, abs=0.01)
    assert figures.lookup_ms == pytest.approx(2.0)
    assert figures.upstream_ms == pytest.approx(401.0)
    assert figures.break_even == pytest.approx(2.0 / 400.0)
    assert figures.net_ms_per_look == pytest.approx(figures.hit_rate * 400.0 - 2.0)
    assert figures.bearable_wrong_rate == pytest.approx(400.0 / 60_400.0)
    assert figures.wrong_rate == 0.01
    assert figures.missing == ""


def test_savings_per_hour_are_what_was_saved_in_that_time() -> None:
    figures = meter().figures(NOW + 100, None, LOSS_MS, lookup_cost=0.0001)
    hour = 3600 / 100
    assert figures.tokens_per_hour == pytest.approx(40 * 100 * hour, rel=0.02)
    assert figures.cost_per_hour == pytest.approx(40 * 0.001 * hour, rel=0.02)
    assert figures.net_ms_per_hour == pytest.approx((40 * 401 - 100 * 2) * hour, rel=0.02)
    assert figures.break_even_cost == pytest.approx(0.1)


def test_nothing_is_stated_of_nothing() -> None:
    figures = Meter(NOW).figures(NOW + 1, None, LOSS_MS)
    assert {value for name, value in asdict(figures).items() if name not in ("missing", "looks")} == {None}
    assert figures.missing == "fewer than 20 recent look-ups"
    assert "upstream" in meter(looks=25, hits=25).figures(NOW + 25, None, LOSS_MS).missing


def test_old_observations_fade_until_nothing_is_stated() -> None:
    made = meter()
    assert made.figures(NOW + HALF_LIFE_S, None, LOSS_MS).hit_rate is not None
    assert made.figures(NOW + 8 * HALF_LIFE_S, None, LOSS_MS).hit_rate is None


def test_a_hit_that_is_no_faster_pays_at_no_rate() -> None:
    figures = meter(hit=500.0).figures(NOW + 99, None, LOSS_MS)
    assert figures.break_even is None
    assert figures.missing == "a hit is no faster than the upstream"
    assert figures.net_ms_per_look is not None
    assert figures.net_ms_per_look < 0


def test_without_a_hit_a_hit_is_taken_to_take_no_time() -> None:
    figures = meter(hits=0).figures(NOW + 99, None, LOSS_MS)
    assert figures.hit_ms is None
    assert figures.break_even == pytest.approx(2 / 401)


def test_one_call_that_hung_does_not_decide() -> None:
    mean = Mean()
    for number in range(100):
        mean.add(100.0, NOW + number)
    mean.add(600_000.0, NOW + 100)
    assert (mean.value(NOW + 100) or 0) < 115


def test_a_rare_hit_is_not_capped_as_an_outlier() -> None:
    meter = Meter(0.0)
    for number in range(200):
        meter.looked(5.0, number % 50 == 49, 0.0)
    assert meter.figures(0.0, None, 0.0).hit_rate == pytest.approx(0.02)


def test_a_lasting_change_is_followed() -> None:
    mean = Mean()
    for number in range(400):
        mean.add(100.0 if number < 100 else 5000.0, NOW + 30.0 * number)
    assert (mean.value(NOW + 12_000) or 0) == pytest.approx(5000, rel=0.05)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e7),
            st.floats(-100, 1e6),
            st.sampled_from(["hit", "miss", "up"]),
        ),
        max_size=200,
    ),
    st.floats(0, 1e9),
)
def test_no_figure_is_ever_infinite(events: list[tuple[float, float, str]], later: float) -> None:
    made, now = Meter(NOW), NOW
    for value, passed, kind in events:
        now += passed
        if kind == "up":
            made.upstream.add(value, now)
        else:
            made.looked(value, kind == "hit", now)
            made.hit.add(value, now)
            made.saved.add(value, 5, None if passed > 3 else 0.1, now)
    for value in asdict(made.figures(now + later, None, LOSS_MS)).values():
        assert value is None or isinstance(value, str) or math.isfinite(value)


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0.5, 4))
def test_an_interval_holds_its_share(looks: int, share: float, deviations: float) -> None:
    low, high = interval(share * looks, looks, deviations)
    assert 0.0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1.0


def test_a_wrong_hit_is_bearable_as_long_as_the_rest_make_up_for_it() -> None:
    bound = bearable(2000.0, 18_000.0)
    assert bound == pytest.approx(0.1)
    assert (1 - bound) * 2000.0 == pytest.approx(bound * 18_000.0)
    assert bearable(None, 1.0) is bearable(-1.0, 1.0) is None


# Prices


def test_packaged_prices() -> None:
    prices = Prices.read(None)
    assert prices.cost("gpt-4o-mini", 1_000_000, 1_000_000) == pytest.approx(0.75)
    assert prices.cost("gpt-4o-mini-2024-07-18", 1_000_000, 0) == pytest.approx(0.15)
    assert prices.cost("gpt-4o-2024-08-06", 0, 1_000_000) == pytest.approx(10)
    assert prices.as_of.year >= 2025


@pytest.mark.parametrize("model", ["", "demo-chat", "gpt-4o-audio-preview", "my-gpt-4o", "gpt-5-pro"])
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert Prices.read(None).cost(model, 1000, 1000) is None


def test_an_answer_that_told_no_tokens_has_no_price() -> None:
    assert Prices.read(None).cost("gpt-4o", 0, 0) is None


@pytest.mark.parametrize(
    "text",
    [
        "{as_of: 2026-01-01, prices: [{models: [x], input: -1, output: 2}]}",
        "{as_of: 2026-01-01, prices: [{models: [x], input: .inf, output: 2}]}",
        "{as_of: 2026-01-01, prices: [{models: x, input: 1, output: 2}]}",
        "{prices: []}",
        "{as_of: 2026-01-01, price: []}",
        "[1",
    ],
)
def test_a_bad_price_file_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"prices\.yaml"):
        Prices.read(file)
