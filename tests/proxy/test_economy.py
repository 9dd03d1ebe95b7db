"""What the cache costs and saves, as the admin plane tells it, and `mode: auto`, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from doubles import Clock, WordEmbedder
from planes import plane_of
from world import MakeWorld, World

from embeddings.base import Vector
from policies.automatic import DWELL_S, FIRST_REST_S
from proxy.demo.upstream import Behaviour

LATENCY_S = 0.05


def question(number: int, ending: str = "") -> str:
    """Far from every other number's, near to its own with another ending."""
    code = "".join(chr(ord("a") + int(digit)) for digit in f"{number:04}")
    return " ".join(["auto", *(f"{code}{last}" for last in "klmnopqr"), ending]).strip()


class SlowEmbedder(WordEmbedder):
    """So that a look-up is a good part of an answer, however busy the machine is."""

    async def embed(self, text: str, tenant: str = "") -> Vector:
        await asyncio.sleep(0.003)
        return await super().embed(text)


@pytest.fixture
def categories(categories: Path) -> Path:
    (categories / "auto.yaml").write_text(
        "{name: auto, threshold: 0.8, ttl: 1h, mode: auto, guards: [numbers], match: {patterns: ['^auto']}}"
    )
    return categories


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    file = tmp_path / "prices.yaml"
    file.write_text("{as_of: 2026-01-01, prices: [{models: [demo-*], input: 1000, output: 2000}]}")
    return file


async def look(world: World, path: str) -> Any:
    async with plane_of(world) as plane, world.session.get(plane.url + path) as answer:
        assert answer.status == 200
        return await answer.json() if path.startswith("/api") else await answer.text()


def step(world: World) -> None:
    """As the sweep does it."""
    world.app.ledger.settle()
    world.app.economy.step(world.clock.now)


async def ask_around(world: World, calls: int, hits: int, pause: float = 1.0) -> None:
    """`calls` new questions, `pause` seconds apart, and `hits` of them again in other words."""
    for number in range(calls):
        world.clock.now += pause
        assert (await world.ask(question(number))).cache == "MISS"
    await world.settled()
    for number in range(hits):
        world.clock.now += pause
        assert (await world.ask(question(number, "please"))).cache == "HIT semantic"


@pytest.fixture
async def slow(make_world: MakeWorld, prices: Path) -> World:
    return await make_world(Behaviour(latency_s=LATENCY_S), prices=prices)


async def test_the_figures_of_real_calls(slow: World) -> None:
    await ask_around(slow, 40, 25)
    told = (await look(slow, "/api/v1/economics"))["categories"]["auto"]
    assert told["hit_rate"] == pytest.approx(25 / 65, abs=0.02)
    assert told["upstream_ms"] >= LATENCY_S * 1000
    assert 0 < told["lookup_ms"] < told["upstream_ms"]
    gain = told["upstream_ms"] - told["hit_ms"]
    assert told["break_even"] == pytest.approx(told["lookup_ms"] / gain)
    assert told["net_ms_per_look"] == pytest.approx(told["hit_rate"] * gain - told["lookup_ms"])
    tally = slow.app.ledger.tallies["auto"]
    assert told["tokens_per_hour"] == pytest.approx(tally.tokens_saved * 3600 / 64, rel=0.1)
    assert told["cost_per_hour"] == pytest.approx(slow.app.economy.cost_saved["auto"] * 3600 / 64, rel=0.1)
    assert (told["mode"], told["automatic"], told["missing"]) == ("on", True, "")
    assert told["wrong_rate"] is None


async def test_a_streams_whole_time_counts(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour(latency_s=0.0, tokens_per_s=200.0))
    await world.ask(question(1), stream=True)
    (report,) = world.app.ledger.recent
    assert report.answer_ms is not None
    assert report.upstream_ms is not None
    assert report.answer_ms > report.upstream_ms + 20


async def test_exact_hits_save_and_do_not_look(slow: World) -> None:
    await slow.ask(question(1))
    await slow.settled()
    for _ in range(30):
        slow.clock.now += 10
        assert (await slow.ask(question(1))).cache == "HIT exact"
    told = (await look(slow, "/api/v1/stats"))["categories"]["auto"]["economics"]
    assert told["looks"] < 1.01
    assert told["hit_rate"] is None
    assert told["missing"] == "fewer than 20 recent look-ups"
    assert told["tokens_per_hour"] > 0


async def test_an_error_is_no_upstream_time(slow: World) -> None:
    await slow.ask(question(1), headers={"X-Demo-Status": "503"})
    (report,) = slow.app.ledger.recent
    assert report.answer_ms is None
    assert report.lookup_ms is not None


async def test_without_a_price_there_is_no_money(make_world: MakeWorld) -> None:
    world = await make_world()
    await ask_around(world, 40, 25)
    told = (await look(world, "/api/v1/economics"))["categories"]["auto"]
    assert told["cost_per_hour"] is None
    assert told["break_even_cost"] is None
    assert told["unpriced_share"] == pytest.approx(1.0)
    assert told["tokens_per_hour"] > 0


async def test_metrics_of_it(slow: World) -> None:
    await ask_around(slow, 40, 25)
    text = await look(slow, "/metrics")
    for line in (
        'nearhit_break_even_hit_rate{category="auto"}',
        'nearhit_look_hit_rate{category="auto"} 0.3',
        'nearhit_net_seconds_per_look{category="auto"} 0.0',
        'nearhit_mode{category="auto",mode="on"} 1.0',
        'nearhit_saved_cost_total{category="auto",currency="USD"}',
    ):
        assert line in text
    assert 'nearhit_break_even_hit_rate{category="default"}' not in text


async def test_auto_goes_off_where_nothing_is_found_and_comes_back(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = await make_world(Behaviour(latency_s=0.01), SlowEmbedder(), Clock())
    clock = world.clock
    await world.ask(question(9000))
    await world.settled()
    await ask_around(world, 160, 0, pause=0.0)
    with caplog.at_level(logging.INFO, "nearhit.economy"):
        clock.now += DWELL_S
        step(world)
    assert "auto: auto goes from on to off: hit rate 0.0% of 161 looks, break-even" in caplog.text
    embedded = len(world.embedder.asked)
    assert (await world.ask(question(9000, "please"))).cache == "MISS"
    assert (await world.ask(question(9000))).cache == "HIT exact"
    assert len(world.embedder.asked) == embedded  # the category is known by a rule
    assert (await look(world, "/api/v1/economics"))["categories"]["auto"]["mode"] == "off"
    async with plane_of(world) as plane:
        asked = {"text": question(9000, "now"), "model": "demo-chat"}
        async with world.session.post(f"{plane.url}/api/v1/explain", json=asked) as answer:
            assert "do not pay" in (await answer.json())["because"]
    clock.now += FIRST_REST_S + 1
    step(world)
    told = (await look(world, "/api/v1/economics"))["categories"]["auto"]
    assert (told["mode"], told["exploring"]) == ("on", True)
    for number in range(150):
        clock.now += 0.1
        assert (await world.ask(question(number, "again"))).cache == "HIT semantic"
    step(world)
    told = (await look(world, "/api/v1/economics"))["categories"]["auto"]
    assert (told["mode"], told["exploring"]) == ("on", False)


async def test_auto_in_shadow_counts_and_serves_exact_answers_only(world: World) -> None:
    await world.ask(question(1))
    await world.settled()
    automatic = world.app.cache.automatics.get("auto", world.clock.now)
    automatic.state = "shadow"
    assert (await world.ask(question(1, "please"))).cache == "SHADOW semantic"
    assert (await world.ask(question(1))).cache == "HIT exact"
    world.app.ledger.settle()
    assert automatic.hits == 1


async def test_where_looking_does_not_pay_nobody_joins_a_call_that_is_only_alike(
    make_world: MakeWorld, categories: Path
) -> None:
    (categories / "default.yaml").write_text("{name: default, threshold: 0.8, ttl: 1h, mode: auto}")
    world = await make_world(Behaviour(latency_s=0.3))
    world.app.cache.automatics.get("default", world.clock.now).state = "off"
    texts = ("how are you today my friend", "how are you my friend", "how are you today my friend")
    answers = await asyncio.gather(*[world.ask(text) for text in texts])
    assert sorted(answer.cache for answer in answers) == ["HIT inflight", "MISS", "MISS"]


async def test_a_category_that_is_auto_no_more_is_forgotten(world: World, categories: Path) -> None:
    await world.ask(question(1))
    world.app.ledger.settle()
    assert world.app.cache.automatics.of
    (categories / "auto.yaml").write_text(
        "{name: auto, threshold: 0.8, ttl: 1h, match: {patterns: ['^auto']}}"
    )
    await world.app.categories.reload()
    step(world)
    assert world.app.cache.automatics.of == {}
