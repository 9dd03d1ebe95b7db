"""Policies that bend under load, seen through the cache: its pressure is a callable of the test's."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import MakeWorld, World

from policies.book import Book
from policies.decision import ON_CALL
from policies.model import in_force

BUSY = (
    "{name: busy, threshold: 0.9, ttl: 100s, guards: [numbers], match: {patterns: ['^busy']},"
    " load: {threshold_drop: 0.2, threshold_floor: 0.75, ttl_factor: 3.0, ttl_ceiling: 1h}}"
)
ASKED, ALIKE = "busy how do lakes and rivers freeze over", "busy how do lakes and ponds freeze over"
DEBUG = {"X-Nearhit-Debug": "1"}


class Pressed:
    def __init__(self) -> None:
        self.level = 0.0

    def __call__(self, model: str) -> float:
        return self.level


@pytest.fixture
def pressed() -> Pressed:
    return Pressed()


@pytest.fixture
async def busy(make_world: MakeWorld, categories: Path, pressed: Pressed) -> World:
    (categories / "busy.yaml").write_text(BUSY)
    world = await make_world()
    world.app.cache.pressure = pressed
    return world


async def test_under_pressure_a_less_similar_question_is_answered_from_memory(
    busy: World, pressed: Pressed
) -> None:
    await busy.ask(ASKED)
    await busy.settled()
    assert (await busy.ask(ALIKE, headers={"Cache-Control": "no-store"})).cache == "MISS"
    pressed.level = 1.0
    answer = await busy.ask(ALIKE, headers=DEBUG)
    assert answer.cache == "HIT semantic"
    assert answer.headers["X-Cache-Threshold"] == "0.7500"
    assert answer.headers["X-Cache-Pressure"] == "1.0000"
    pressed.level = 0.0
    answer = await busy.ask(ALIKE, headers=DEBUG)
    assert answer.cache == "MISS"
    assert answer.headers["X-Cache-Pressure"] == "0.0000"


async def test_guards_apply_under_pressure(busy: World, pressed: Pressed) -> None:
    await busy.ask("busy one two three four five six 7")
    await busy.settled()
    pressed.level = 1.0
    assert (await busy.ask("busy one two three four five six 8")).cache == "MISS"


async def test_what_is_stored_lives_longer_while_there_is_pressure(busy: World, pressed: Pressed) -> None:
    await busy.ask(ASKED)
    await busy.settled()
    busy.clock.now += 200
    busy.app.cache.sweep(busy.clock(), 500)
    pressed.level = 1.0
    answer = await busy.ask(ASKED, headers=DEBUG)
    assert (answer.cache, answer.headers["Age"]) == ("HIT exact", "200")
    pressed.level = 0.0
    assert (await busy.ask(ASKED)).cache == "MISS"


async def test_the_sweep_drops_what_no_pressure_would_bring_back(busy: World) -> None:
    await busy.ask(ASKED)
    await busy.settled()
    busy.clock.now += 300 + ON_CALL + 1
    busy.app.cache.sweep(busy.clock(), 500)
    assert len(busy.app.cache.entries) == 0


async def test_a_caller_who_asks_for_more_similarity_gets_it_under_pressure(
    busy: World, pressed: Pressed
) -> None:
    await busy.ask(ASKED)
    await busy.settled()
    pressed.level = 1.0
    assert (await busy.ask(ALIKE, headers={"X-Nearhit-Threshold": "0.95"})).cache == "MISS"


@pytest.mark.parametrize("name", ["medical", "legal", "finance_market"])
def test_packaged_policies_that_never_move(name: str) -> None:
    category = Book.from_folder(None).categories[name]
    bent, base = in_force(category, 1.0), in_force(category, 0.0)
    assert (bent.threshold, bent.ttl) == (base.threshold, base.ttl)
    assert category.load.threshold_drop == 0.0
    assert category.load.ttl_factor == 1.0


def test_packaged_policies_stay_within_floor_and_ceiling() -> None:
    for category in Book.from_folder(None).categories.values():
        bent = in_force(category, 1.0)
        assert bent.threshold >= category.load.threshold_floor
        assert bent.ttl <= max(category.ttl, category.load.ttl_ceiling)
