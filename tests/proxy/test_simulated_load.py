"""`nearhit simulate` under load: answers that take their time, an upstream that has too little of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from doubles import WordEmbedder

from proxy import kept_vectors
from proxy.simulation import command
from proxy.simulation.trace import Request, compressed, sharpened

BREAD = "how do I bake a plain white bread"
LOAF = "how do I bake a plain white loaf"
"""7 of 8 words: a cosine of about 0.87."""
BOOK = {
    "default": (
        "{name: default, threshold: 0.95, ttl: 1h, guards: [],"
        " load: {threshold_drop: 0.15, threshold_floor: 0.8, ttl_factor: 4, ttl_ceiling: 1d}}"
    ),
    "news": (
        "{name: news, threshold: 0.95, ttl: 12s, guards: [], match: {patterns: [news]},"
        " stale: {if_error: 1h}}"
    ),
}

Simulate = Callable[..., Result]


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    monkeypatch.setattr(kept_vectors, "open_embedder", lambda *_, **__: WordEmbedder())
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "book"
    folder.mkdir()
    for name, text in BOOK.items():
        (folder / f"{name}.yaml").write_text(text)

    def run(trace: Sequence[dict[str, Any]], *options: str) -> Result:
        (tmp_path / "trace.jsonl").write_text("\n".join(map(json.dumps, trace)))
        return CliRunner().invoke(
            command.simulate, ["--trace", "trace.jsonl", "--categories", "book", *options]
        )

    return run


def outcome(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def counts(result: Result, policy: str) -> dict[str, int]:
    overall: dict[str, int] = outcome(result)["policies"][policy]["overall"]
    return {name: count for name, count in overall.items() if count}


ONE_SECOND = ("--first-token", "1", "--token-time", "0")


def test_what_is_on_its_way_is_shared_and_then_stored(simulate: Simulate) -> None:
    trace = [{"t": t, "query": BREAD, "group": "g"} for t in (0, 0.5, 1, 1.5)]
    result = simulate(trace, "--json", *ONE_SECOND, "--policy", "category-aware")
    assert counts(result, "category-aware") == {
        "requests": 4, "hits": 3, "right": 3, "oracle": 3, "exact": 2, "inflight": 1, "upstream_calls": 1,
    }  # fmt: skip


def test_questions_that_are_alike_share_as_well(simulate: Simulate) -> None:
    trace = [{"t": 0, "query": BREAD, "group": "g"}, {"t": 0.5, "query": LOAF, "group": "other"}]
    result = simulate(trace, "--json", *ONE_SECOND)
    assert counts(result, "uniform")["inflight"] == counts(result, "uniform")["wrong"] == 1
    assert "inflight" not in counts(result, "category-aware")


def test_an_answer_is_as_old_as_its_end(simulate: Simulate) -> None:
    """Stored at 1, fresh for 12 s."""
    trace = [{"t": t, "query": "news of today", "group": "g", "fresh_s": 12} for t in (0, 12.9)]
    result = simulate(trace, "--json", *ONE_SECOND, "--policy", "category-aware")
    assert counts(result, "category-aware")["right"] == 1


def test_latencies_are_those_of_a_schedule_worked_out_by_hand(simulate: Simulate) -> None:
    """One place: calls at 0, 1 and 2 of 3 s each end at 3, 6 and 9; the repeat at 4 is a hit."""
    trace = [{"t": t, "query": f"number {t}", "tokens_out": 20} for t in range(3)]
    trace.append({"t": 4, "query": "number 0", "tokens_out": 20})
    options = ("--capacity", "1", "--first-token", "1", "--token-time", "0.1", "--lookup-ms", "0")
    Path("prices.yaml").write_text("{as_of: 2026-01-01, prices: [{models: ['*'], input: 9, output: 500}]}")
    load = outcome(simulate(trace, "--json", *options, "--prices", "prices.yaml"))["upstream"]
    exact = load["exact"]
    assert exact["latency_s"]["max"] == pytest.approx(7.0, abs=0.001)
    assert exact["wait_s"] == pytest.approx({"mean": 2.0, "p50": 2.0, "p95": 3.8, "p99": 3.96, "max": 4.0})
    assert (exact["calls"], exact["tokens"], exact["refused"]) == (3, 60, 0)
    assert exact["cost"] == pytest.approx(60 * 500 / 1e6)
    assert exact["busy"] == pytest.approx(9 / 4)
    assert exact["waiting"]["max"] == 1
    assert load["none"]["calls"] == 4
    assert load["none"]["latency_s"]["max"] == 8.0  # nothing to look up


def test_the_bounds_enclose_every_policy(simulate: Simulate) -> None:
    trace = [{"t": t, "query": f"number {t % 7}", "group": f"{t % 7}"} for t in range(60)]
    load = outcome(simulate(trace, "--json", "--capacity", "2"))["upstream"]
    assert list(load) == ["none", "exact", "uniform", "category-aware", "adaptive", "oracle"]
    assert load["none"]["calls"] == 60
    assert load["oracle"]["calls"] == 7


def test_a_full_queue_costs_calls_and_a_stale_answer_stands_in(simulate: Simulate) -> None:
    """The news of 0 are too old at 20, when two calls fill the upstream up: better than none."""
    trace = [{"t": 0, "query": "news of today"}, *({"t": 20, "query": f"number {n}"} for n in range(3))]
    trace.append({"t": 20.5, "query": "news of today"})
    options = ("--capacity", "1", "--queue", "1", *ONE_SECOND, "--policy", "category-aware")
    result = simulate(trace, "--json", *options)
    assert outcome(result)["upstream"]["category-aware"]["refused"] == 2
    assert counts(result, "category-aware") == {"requests": 5, "hits": 1, "exact": 1, "upstream_calls": 5}


def test_pressure_relaxes_the_adaptive_policy_alone(simulate: Simulate) -> None:
    """Bread is known; then an hour's work arrives within a minute, and a loaf is like a bread."""
    crowd = [{"t": 60 + n * 0.1, "query": f"number {n}"} for n in range(400)]
    trace = [{"t": 0, "query": BREAD, "group": "b"}, *crowd, {"t": 101, "query": LOAF, "group": "b"}]
    result = simulate(trace, "--json", "--capacity", "4")
    aware, adaptive = counts(result, "category-aware"), counts(result, "adaptive")
    assert "semantic" not in aware
    assert adaptive["semantic"] == adaptive["right"] == 1
    assert outcome(result)["upstream"]["adaptive"]["pressure"]["max"] == 1.0


def test_without_a_capacity_there_is_no_pressure(simulate: Simulate) -> None:
    trace = [{"t": n * 0.01, "query": f"number {n}"} for n in range(300)]
    load = outcome(simulate(trace, "--json", *ONE_SECOND))["upstream"]["adaptive"]
    assert load["pressure"]["max"] == load["waiting"]["max"] == 0
    assert load["busy"] is None


def test_a_run_is_the_same_every_time(simulate: Simulate) -> None:
    trace = [{"t": n * 0.3, "query": f"number {n * n % 31}", "group": "g"} for n in range(200)]
    options = ("--json", "--capacity", "3", "--burst", "2", "--speed-up", "3", "--slowdown", "0.5")
    assert simulate(trace, *options).stdout == simulate(trace, *options).stdout


def test_lines_may_come_in_any_order(simulate: Simulate) -> None:
    trace = [{"t": t, "query": BREAD, "group": "g"} for t in (0, 5, 10)]
    assert simulate(trace, "--json").stdout == simulate(trace[::-1], "--json").stdout


def test_the_page_needs_nothing_from_elsewhere(simulate: Simulate, tmp_path: Path) -> None:
    trace = [
        {"t": n, "query": f"<b> number {n % 5}", "group": f"{n % 5}", "category": "<i>"} for n in range(90)
    ]
    result = simulate(trace, "--capacity", "2", "--report", "out.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out.html").read_text()
    for title in ("hits, share of requests", "calls in its queue", "pressure", "latency, 95th percentile, s"):
        assert f">{title}</text>" in page
    assert page.count("<table>") == 5  # side by side, and one for each policy
    for name in ("adaptive", "oracle", "&lt;i&gt;"):
        assert name in page
    for never in ("<i>", ">nan", "nan,"):
        assert never not in page.lower()
    assert re.findall(r"<script|src=|href=|https?://(?!www\.w3\.org/2000/svg)", page) == []


def test_a_single_request_can_be_shown(simulate: Simulate, tmp_path: Path) -> None:
    result = simulate([{"t": 3, "query": BREAD}], "--capacity", "1", "--burst", "2", "--report", "out.html")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--queue", "3"), "--queue and --slowdown need --capacity"),
        (("--capacity", "0"), "--capacity"),
        (("--speed-up", "0"), "--speed-up"),
        (("--speed-up", "nan"), "not a finite number"),
        (("--burst", "inf"), "not a finite number"),
        (("--report", "no/such/folder/out.html"), "there is no folder"),
        (("--policy", "none"), "--policy"),
        (("--prices", "no.yaml"), "no.yaml"),
    ],
)
def test_bad_options_are_named(simulate: Simulate, options: tuple[str, ...], complaint: str) -> None:
    result = simulate([{"t": 3, "query": BREAD}], *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert complaint in result.stderr


# The trace, faster or more uneven


def _trace(*times: float) -> list[Request]:
    return [Request(t=t, query="q") for t in times]


def _times(trace: list[Request]) -> list[float]:
    return [request.t for request in trace]


def test_speed_moves_requests_together() -> None:
    assert _times(compressed(_trace(10, 20, 40), 2.0)) == [10, 15, 25]
    assert _times(compressed(_trace(10, 20, 40), 1.0)) == [10, 20, 40]


def test_bursts_grow_at_the_cost_of_quiet_times() -> None:
    """Half a minute with 40 requests and one with 10: rates as 16 to 1 instead of 4 to 1."""
    trace = _trace(*(n * 30 / 40 for n in range(40)), *(30 + n * 30 / 9 for n in range(10)))
    times = _times(sharpened(trace, 2.0))
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0, 60)
    busy = times[40]  # where the quiet half begins
    assert (40 / busy) / (10 / (60 - busy)) == pytest.approx(16)
    assert _times(sharpened(trace, 1.0)) == _times(trace)
