"""Load of a real upstream, as it shows in pressure, in policies and on the admin plane."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from test_load_policies import ALIKE, ASKED, BUSY, DEBUG
from world import MakeWorld, World, upstream

from proxy.admin import explaining, views
from proxy.admin.gauges import Gauges
from proxy.admin.inputs import Explained
from proxy.demo.upstream import Behaviour
from proxy.errors import CallError, Crowded, Unreachable, UpstreamSlow
from proxy.upstreams import scraper
from proxy.upstreams.load import MODELS, NAME_LENGTH, Load, UpstreamLoad, remaining, retry_after
from proxy.upstreams.scraper import Names, read_metrics
from proxy.upstreams.upstream import Head

VLLM = Names("vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc")


def head(status: int = 200, **headers: str) -> Head:
    return Head(status, "", CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}))


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def load(ticks: Ticks) -> Load:
    return Load(UpstreamLoad("upstream", clock=ticks))


def calls(load: Load, ticks: Ticks, model: str, count: int, status: int = 200, **headers: str) -> None:
    for _ in range(count):
        track = load.of(model).began(model, stream=False)
        ticks.now += 0.1
        track.answered(head(status, **headers))
        track.landed(400)


def timed(load: Load, ticks: Ticks, stream: bool, first_byte_s: float, rest_s: float, size: int) -> None:
    for _ in range(40):
        track = load.of("m").began("m", stream)
        ticks.now += first_byte_s
        track.answered(head())
        ticks.now += rest_s
        track.landed(size)


# Which pressure is whose


def test_a_model_in_trouble_does_not_press_the_others(load: Load, ticks: Ticks) -> None:
    for _ in range(60):
        calls(load, ticks, "small", 1)
        calls(load, ticks, "large", 1, 429)
    assert load.level("large") > 0.8
    assert load.level("small") == 0.0
    assert load.level("") == load.highest == load.level("large")
    upstream = load.of("large")
    assert upstream.signals()["failures"] == 1.0
    assert upstream.shown()["pressure"] == load.highest
    assert upstream.shown()["models"]["small"]["pressure"] == 0.0


def test_what_has_come_under_pressure_is_logged_with_its_cause(
    load: Load, ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    calls(load, ticks, "large", 60, 429)
    with caplog.at_level(logging.INFO, "nearhit.load"):
        load.of("large").note_transitions()
        load.of("large").note_transitions()
    (told,) = caplog.messages
    assert told.startswith("upstream upstream, model 'large' under pressure: ")
    assert told.endswith(" by failures")


@pytest.mark.parametrize("error", [Unreachable("gone"), UpstreamSlow("slow")])
def test_an_upstream_that_nobody_reaches_presses_all_its_models(
    load: Load, ticks: Ticks, error: CallError
) -> None:
    """However many callers leave meanwhile."""
    calls(load, ticks, "small", 1)
    for _ in range(60):
        ticks.now += 0.1
        load.of("large").began("large", stream=False).failed(error)
        for _ in range(3):
            load.of("large").began("large", stream=False).given_up()
    assert load.level("small") == load.level("never seen") > 0.8


def test_a_model_whose_answers_break_off_does_not_press_the_others(load: Load, ticks: Ticks) -> None:
    for _ in range(60):
        ticks.now += 0.1
        track = load.of("large").began("large", stream=True)
        track.answered(head())
        track.failed(Unreachable("broke off"))
    assert load.level("large") > 0.8
    assert load.level("never seen") == 0.0


def test_calls_in_flight_are_counted_for_their_model_too(load: Load, ticks: Ticks) -> None:
    first = load.of("m").began("m", stream=True)
    first.answered(head())
    second = load.of("m").began("m", stream=True)
    shown = load.of("m").shown()
    assert (shown["in_flight"], shown["models"]["m"]["in_flight"]) == (2, 2)
    first.landed(1)
    second.given_up()
    shown = load.of("m").shown()
    assert (shown["in_flight"], shown["models"]["m"]["in_flight"]) == (0, 0)


@pytest.mark.parametrize(("stream", "signal"), [(True, 1.0), (False, 0.0)])
def test_the_first_byte_is_a_sign_where_answers_are_streamed(
    load: Load, ticks: Ticks, stream: bool, signal: float
) -> None:
    timed(load, ticks, stream, 0.1, 1.0, 1000)
    timed(load, ticks, stream, 1.0, 0.1, 1000)
    assert load.of("m").signals()["first_byte"] == signal


def test_durations_are_compared_by_tokens_streamed_or_not(load: Load, ticks: Ticks) -> None:
    timed(load, ticks, False, 0.0, 0.1, 100 * 4)
    timed(load, ticks, False, 0.0, 1.0, 1000 * 4)
    timed(load, ticks, True, 0.0, 1.0, 1000 * 200)
    timed(load, ticks, False, 0.0, 1.0, 1000 * 4)
    assert load.of("m").signals()["duration"] == 0.0


def test_what_headers_say_of_a_models_limits_presses_it(load: Load, ticks: Ticks) -> None:
    calls(load, ticks, "large", 1, 429, Retry_After="30")
    assert load.of("large").signals()["retry_after"] == 1.0
    limits = {"X_RateLimit_Limit_Requests": "100", "X_RateLimit_Remaining_Requests": "0"}
    calls(load, ticks, "small", 40, **limits)
    assert load.of("small").signals()["rate_limit"] > 0.8


def test_a_call_for_which_there_was_no_place_is_a_sign_of_load(load: Load, ticks: Ticks) -> None:
    calls(load, ticks, "small", 1)
    for _ in range(60):
        ticks.now += 0.1
        load.of("small").began("small", stream=False).failed(Crowded(1))
    assert load.level("small") > 0.8
    assert load.level("never seen") == 0.0


def test_callers_who_leave_and_requests_that_make_no_sense_are_no_sign_of_load(
    load: Load, ticks: Ticks
) -> None:
    calls(load, ticks, "small", 1)
    calls(load, ticks, "small", 50, 400)
    for _ in range(50):
        ticks.now += 0.1
        load.of("small").began("small", stream=False).given_up()
    assert load.level("small") == 0.0


def test_models_that_nobody_serves_are_not_remembered(load: Load, ticks: Ticks) -> None:
    for number in range(500):
        calls(load, ticks, f"made-up-{number}", 1, 404)
    calls(load, ticks, "m" * (NAME_LENGTH + 1), 1)
    assert load.upstreams["upstream"].models == {}


def test_the_number_of_models_is_bounded(load: Load, ticks: Ticks) -> None:
    calls(load, ticks, "in use", 1)
    known = load.of("in use").models["in use"]
    for number in range(500):
        calls(load, ticks, f"model-{number}", 1)
        calls(load, ticks, "in use", 1)
    assert len(load.upstreams["upstream"].models) == MODELS
    assert load.upstreams["upstream"].models["in use"] is known


@given(st.lists(st.sampled_from(("answered", "refused", "landed", "slow", "given up")), max_size=8))
def test_a_call_is_over_exactly_once(ways: list[str]) -> None:
    ticks = Ticks()
    upstream = Load(UpstreamLoad("upstream", clock=ticks)).of("m")
    track = upstream.began("m", stream=True)
    for way in ways:
        match way:
            case "answered":
                track.answered(head())
            case "refused":
                track.answered(head(503, Retry_After="nonsense"))
            case "landed":
                track.landed(10)
            case "slow":
                track.failed(UpstreamSlow("slow"))
            case "given up":
                track.given_up()
    track.given_up()
    everywhere = [upstream.own.pressure, *(each.pressure for each in upstream.models.values())]
    assert [each.in_flight for each in everywhere] == [0] * len(everywhere)


# What headers say


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "30"}, 30.0),
        ({"Retry_After": "1.5"}, 1.5),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:30 GMT"}, None),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:30 -0000", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(head(429, **headers)) == seconds
    assert retry_after(head(200, **headers)) is None


def test_the_least_that_remains_of_any_limit_counts() -> None:
    told = {
        "X-RateLimit-Limit-Requests": "100",
        "X-RateLimit-Remaining-Requests": "90",
        "X-RateLimit-Limit-Tokens": "1000",
        "X-RateLimit-Remaining-Tokens": "50",
        "anthropic-ratelimit-requests-limit": "x",
        "anthropic-ratelimit-requests-remaining": "0",
    }
    assert remaining(CIMultiDict(told)) == 0.05
    assert remaining(CIMultiDict({"X-RateLimit-Limit-Requests": "0"})) is None


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
        ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"),
        ("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining"),
        ("anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining"),
        ("anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining"),
        ("anthropic-ratelimit-output-tokens-limit", "anthropic-ratelimit-output-tokens-remaining"),
    ],
)
def test_the_limits_that_apis_tell_of_are_read(limit: str, left: str) -> None:
    assert remaining(CIMultiDict({limit: "50", left: "10"})) == 0.2


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_headers_say_nothing_breaks(a: str, b: str) -> None:
    pressure = Load(UpstreamLoad("upstream", clock=Ticks())).of("m")
    track = pressure.began("m", stream=False)
    track.answered(
        Head(503, "", CIMultiDict({"Retry-After": a, "Date": b, "x-ratelimit-remaining-tokens": a}))
    )
    track.landed(1)
    assert 0.0 <= pressure.level("m") <= 1.0


# Metrics of the upstream's own


def test_metrics_are_summed_over_their_labels() -> None:
    text = """# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0"} 3.0
vllm:num_requests_waiting{engine="1"} 4.0
vllm:num_requests_running 9
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:kv_cache_usage_perc_other 0.99
"""
    assert read_metrics(text, VLLM) == (7.0, 9.0, 0.75)


def test_what_cannot_be_read_is_skipped() -> None:
    text = "vllm:num_requests_waiting{ 3\nvllm:num_requests_waiting NaN\nvllm:num_requests_running 2\n<html>"
    assert read_metrics(text, VLLM) == (None, 2.0, None)


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    read_metrics("vllm:num_requests_running" + text, VLLM)


async def test_waiting_calls_at_the_upstream_press(make_world: MakeWorld) -> None:
    waiting = 0.0

    async def metrics(request: web.BaseRequest) -> web.Response:
        return web.Response(text=f"vllm:num_requests_waiting {waiting}\nvllm:num_requests_running 4\n")

    async with upstream(metrics) as url:
        world = await make_world(upstream_url=url, upstream={"metrics_url": "/load"})
        own = world.app.load.upstreams["upstream"].own.pressure
        await until(lambda: own._scrape is not None)
        assert world.app.cache.pressure("any") == 0.0
        waiting = 8.0
        await until(lambda: world.app.cache.pressure("any") > 0.2)


@pytest.mark.parametrize(("status", "more"), [(500, ""), (200, "#" * 2000)])
async def test_metrics_that_cannot_be_had_are_not_believed_and_asked_for_less_and_less(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int, more: str
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            raise asyncio.CancelledError

    async def metrics(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text=f"vllm:num_requests_waiting 8\n{more}")

    monkeypatch.setattr(scraper, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread))
    monkeypatch.setattr(scraper, "LONGEST", 1000)
    async with upstream(metrics) as url:
        with pytest.raises(asyncio.CancelledError):
            await scraper.Scraper(url, VLLM, load.of("m")).run()
    assert pauses == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert load.of("m").signals()["queue"] == 0.0
    assert len([told for told in caplog.messages if "cannot read the metrics" in told]) == 1


# The whole


async def until(holds: Any, seconds: float = 15.0) -> None:
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to that")


class Crowd:
    """Callers with questions that nobody asked before."""

    def __init__(self, world: World, callers: int) -> None:
        self._asked = 0
        self._tasks = [asyncio.create_task(self._ask_on(world)) for _ in range(callers)]

    async def _ask_on(self, world: World) -> None:
        while True:
            self._asked += 1
            words = " ".join(f"w{self._asked}x{number}" for number in range(6))
            await world.ask(words, headers={"Cache-Control": "no-store"})

    async def leaves(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_an_overloaded_upstream_bends_policies_until_it_is_calm_again(
    make_world: MakeWorld, categories: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nearhit.load")
    (categories / "busy.yaml").write_text(BUSY)
    world = await make_world(Behaviour(latency_s=0.05, capacity=4), upstream={"capacity": 4})
    load = world.app.load
    await world.ask(ASKED)
    await world.settled()
    world.clock.now += 200  # past the 100 s that it lives
    assert load.highest == 0.0

    crowd = Crowd(world, 24)
    await until(lambda: load.level("demo-chat") > 0.9)
    answer = await world.ask(ALIKE, headers=DEBUG)
    assert (answer.cache, answer.headers["Age"]) == ("HIT semantic", "200")
    assert float(answer.headers["X-Cache-Threshold"]) < 0.76
    assert float(answer.headers["X-Cache-Pressure"]) > 0.9
    missed = await world.ask("entirely different words here", headers=DEBUG)
    assert missed.cache == "MISS"
    assert float(missed.headers["X-Cache-Pressure"]) > 0.9
    shown = await views.load(world.app)
    assert shown["pressure"] > 0.9
    assert shown["categories"]["busy"]["base"] == {"threshold": 0.9, "ttl": 100.0}
    assert shown["categories"]["busy"]["in_force"]["ttl"] > 250.0
    assert shown["upstreams"]["upstream"]["signals"]["in_flight"] == 1.0
    explained = await explaining.explain(world.app, Explained(text=ALIKE, model="demo-chat"))
    assert explained["outcome"] == "HIT"
    assert explained["pressure"] > 0.9
    gauges = {family.name: family for family in Gauges(world.app).collect()}
    assert gauges["nearhit_pressure"].samples[0].value > 0.9
    assert any(sample.value == 1.0 for sample in gauges["nearhit_pressure_signal"].samples)

    await crowd.leaves()
    await world.settled()
    load.upstreams["upstream"].clock = lambda: monotonic() + 60.0
    assert load.highest == 0.0
    answer = await world.ask(ALIKE, headers=DEBUG)
    assert answer.cache == "MISS"
    assert answer.headers["X-Cache-Pressure"] == "0.0000"
    load.upstreams["upstream"].note_transitions()
    told = [record.message for record in caplog.records if record.name == "nearhit.load"]
    assert sum("under pressure" in line and "model" not in line for line in told) == 1
    assert sum("calm again" in line and "model" not in line for line in told) == 1


async def test_failing_calls_bend_policies(make_world: MakeWorld, categories: Path) -> None:
    (categories / "busy.yaml").write_text(BUSY)
    world = await make_world()
    await world.ask(ASKED)
    await world.settled()
    load = world.app.load
    steps = SimpleNamespace(now=monotonic())
    load.upstreams["upstream"].clock = lambda: float(steps.now)
    for number in range(40):
        steps.now += 0.2
        await world.ask(f"anything else number {number}", headers={"X-Demo-Status": "503"})
    assert load.level("demo-chat") > 0.8
    assert load.level("demo-chat-large") == 0.0
    assert (await world.ask(ALIKE)).cache == "HIT semantic"


async def test_exact_hits_tell_the_pressure_too(world: World) -> None:
    await world.ask()
    await world.settled()
    answer = await world.ask(headers=DEBUG)
    assert (answer.cache, answer.headers["X-Cache-Pressure"]) == ("HIT exact", "0.0000")
