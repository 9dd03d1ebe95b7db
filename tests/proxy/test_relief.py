"""What pressure of the upstream relieves it of, and what a category allows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from world import MakeWorld, World

from proxy.demo.upstream import Behaviour

ASKED, ALIKE = "busy how do lakes and rivers freeze over", "busy how do lakes and ponds freeze over"
LOAD = "threshold_drop: 0.2, threshold_floor: 0.75"


async def busy(make_world: MakeWorld, categories: Path, load: str = LOAD, latency_s: float = 0.3) -> World:
    policy = f"threshold: 0.9, ttl: 10s, stale: {{while_revalidate: 1h, if_error: 2h}}, load: {{{load}}}"
    (categories / "busy.yaml").write_text(
        f"{{name: busy, guards: [], {policy}, match: {{patterns: ['^busy']}}}}"
    )
    return await make_world(Behaviour(latency_s=latency_s))


def press(world: World, level: float) -> None:
    world.app.cache.pressure = lambda model: level


@pytest.mark.parametrize(
    ("share", "level", "expected"),
    [("true", 1.0, "HIT inflight"), ("true", 0.0, "MISS"), ("false", 1.0, "MISS")],
)
async def test_calls_that_set_out_before_the_pressure_are_shared_by_the_bent_threshold(
    make_world: MakeWorld, categories: Path, share: str, level: float, expected: str
) -> None:
    world = await busy(make_world, categories, f"{LOAD}, share_flights: {share}")
    first = asyncio.ensure_future(world.ask(ASKED))
    await asyncio.sleep(0.1)
    press(world, level)
    second = asyncio.ensure_future(world.ask(ALIKE))
    assert (await first).cache == "MISS"
    assert (await second).cache == expected


async def test_nothing_is_renewed_under_pressure(make_world: MakeWorld, categories: Path) -> None:
    world = await busy(make_world, categories, "renew_below: 0.5", latency_s=0)
    await world.ask(ASKED)
    await world.settled()
    world.clock.now += 100
    press(world, 0.5)
    assert (await world.ask(ASKED)).cache == "STALE exact"
    await world.settled()
    assert await world.upstream_calls() == 1
    assert world.app.renewals.held_back == 1
    press(world, 0.4)
    assert (await world.ask(ASKED)).cache == "STALE exact"
    await world.settled()
    assert (await world.ask(ASKED)).cache == "HIT exact"
    assert await world.upstream_calls() == 2


@pytest.mark.parametrize(("level", "expected"), [(0.5, "MISS"), (0.7, "STALE exact")])
async def test_stale_answers_come_first_from_a_pressure_on(
    make_world: MakeWorld, categories: Path, level: float, expected: str
) -> None:
    world = await busy(make_world, categories, "stale_at: 0.6", latency_s=0)
    await world.ask(ASKED)
    await world.settled()
    world.clock.now += 5000  # too old to be renewed after it was served
    press(world, level)
    assert (await world.ask(ASKED)).cache == expected


async def test_who_rides_along_has_the_stale_answer_of_its_own(
    make_world: MakeWorld, categories: Path
) -> None:
    world = await busy(make_world, categories)
    await world.ask(ASKED)
    await world.settled()
    world.clock.now += 5000
    failing = {"X-Demo-Status": "503"}
    answers = await asyncio.gather(*[world.ask(ASKED, headers=dict(failing)) for _ in range(5)])
    assert [(answer.status, answer.cache) for answer in answers] == [(200, "STALE exact")] * 5
    assert await world.upstream_calls() == 2
