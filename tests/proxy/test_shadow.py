"""Categories that only try the cache, and categories that are switched off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from world import MakeWorld, World

from proxy.demo.upstream import Behaviour

ASKED = "trial how are you today my dear friend"
REWORDED = "trial how are you today my friend"


@pytest.fixture
def categories(categories: Path) -> Path:
    (categories / "trial.yaml").write_text(
        "{name: trial, threshold: 0.8, ttl: 1h, mode: shadow, guards: [numbers],"
        " match: {patterns: ['^trial']}, stale: {while_revalidate: 1m, if_error: 1h}}"
    )
    (categories / "closed.yaml").write_text(
        "{name: closed, threshold: 0.8, ttl: 1h, mode: off, match: {patterns: ['^closed']}}"
    )
    return categories


@pytest.fixture
async def sdk(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(("then", "tier"), [(ASKED, "exact"), (REWORDED, "semantic")])
async def test_a_would_be_hit_is_told_and_the_upstream_answers(world: World, then: str, tier: str) -> None:
    first = await world.ask(ASKED)
    assert first.cache == "MISS"
    assert "stored" in first.headers["Cache-Status"]
    await world.settled()
    second = await world.ask(then)
    assert second.cache == f"SHADOW {tier}"
    assert second.headers["Cache-Status"] == "nearhit; fwd=bypass; detail=shadow"
    assert second.headers["X-Cache-Category"] == "trial"
    assert second.headers["X-Cache-Entry-Id"] == first.headers["X-Cache-Entry-Id"]
    assert "Age" not in second.headers
    assert second.json["id"] != first.json["id"]
    assert await world.upstream_calls() == 2


async def test_a_shadowed_answer_is_not_stored(world: World) -> None:
    first = await world.ask(ASKED)
    await world.settled()
    for _ in range(3):
        again = await world.ask(REWORDED)
        await world.settled()
        assert again.headers["X-Cache-Entry-Id"] == first.headers["X-Cache-Entry-Id"]
    assert len(world.app.cache.entries) == 1


async def test_what_is_past_its_lifetime_costs_no_second_call(world: World) -> None:
    await world.ask(ASKED)
    await world.settled()
    world.clock.now += 3601
    assert (await world.ask(REWORDED)).cache == "SHADOW semantic"
    await world.settled()
    assert await world.upstream_calls() == 2


async def test_a_stream_is_shadowed_too(world: World, sdk: openai.AsyncOpenAI) -> None:
    await world.ask(ASKED)
    await world.settled()
    raw = await sdk.chat.completions.with_raw_response.create(
        model="demo-chat", messages=[{"role": "user", "content": REWORDED}], stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in raw.parse() if chunk.choices])
    assert raw.headers["X-Cache"] == "SHADOW"
    assert text
    assert await world.upstream_calls() == 2


async def test_a_guard_still_decides(world: World) -> None:
    await world.ask("trial convert 15 euros to dollars for me please")
    await world.settled()
    assert (await world.ask("trial convert 50 euros to dollars for me please")).cache == "MISS"


async def test_callers_at_the_same_time_go_up_each_for_itself(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour(latency_s=0.3))
    answers = await asyncio.gather(*[world.ask(text) for text in (ASKED, ASKED, REWORDED)])
    assert sorted(answer.cache for answer in answers) == ["MISS", "SHADOW inflight", "SHADOW inflight"]
    assert await world.upstream_calls() == 3


async def test_what_would_have_been_hits_is_counted_apart(world: World) -> None:
    await world.ask(ASKED)
    await world.settled()
    await world.ask(ASKED)
    await world.ask(REWORDED)
    await world.settled()
    tally = world.app.ledger.tallies["trial"]
    assert (tally.requests, tally.misses, tally.shadow, tally.hits, tally.saved_ms) == (3, 1, 2, 0, 0.0)
    told = (await world.app.metrics.render()).decode()
    assert 'nearhit_requests_total{category="trial",outcome="SHADOW",tier="semantic"} 1.0' in told
    assert 'nearhit_saved_seconds_total{category="trial"}' not in told


async def test_the_stricter_of_two_categories_decides(world: World) -> None:
    """Stored where the cache is trusted, asked under the header of the one that is tried, and the other way
    round."""
    trial, trusted = {"X-Nearhit-Category": "trial"}, {"X-Nearhit-Category": "default"}
    texts = "tell me a thing about cats and dogs", "why do birds fly south in winter"
    for text, stored, asked in zip(texts, (trusted, trial), (trial, trusted), strict=True):
        await world.ask(text, headers=stored)
        await world.settled()
        assert (await world.ask(text, headers=asked)).cache == "SHADOW exact"
        assert (await world.ask(text + " please", headers=asked)).cache == "SHADOW semantic"


async def test_no_stale_answer_stands_in(world: World) -> None:
    await world.ask(ASKED)
    await world.settled()
    world.clock.now += 3700
    answer = await world.ask(ASKED, headers={"X-Demo-Status": "503"})
    assert (answer.status, answer.cache) == (503, "MISS")


async def test_only_if_cached_is_not_answered_from_what_is_not_trusted(world: World) -> None:
    await world.ask(ASKED)
    await world.settled()
    assert (await world.ask(ASKED, headers={"Cache-Control": "only-if-cached"})).status == 504


async def test_an_upstream_that_fails_is_seen_as_it_is(world: World) -> None:
    await world.ask(ASKED)
    await world.settled()
    answer = await world.ask(ASKED, headers={"X-Demo-Status": "503"})
    assert (answer.status, answer.cache) == (503, "SHADOW exact")


async def test_switched_on_it_serves_what_the_trial_stored(world: World, categories: Path) -> None:
    await world.ask(ASKED)
    await world.settled()
    file = categories / "trial.yaml"
    file.write_text(file.read_text().replace("mode: shadow", "mode: on"))
    await world.app.categories.reload()
    assert (await world.ask(REWORDED)).cache == "HIT semantic"
    file.write_text(file.read_text().replace("mode: on", "mode: off"))
    await world.app.categories.reload()
    assert (await world.ask(ASKED)).cache == "BYPASS"


async def test_off_neither_reads_nor_writes(world: World) -> None:
    for _ in range(2):
        answer = await world.ask("closed on mondays is that so my friend")
        await world.settled()
        assert answer.cache == "BYPASS"
        assert answer.headers["X-Cache-Bypass-Reason"] == "off"
    assert len(world.app.cache.entries) == 0
