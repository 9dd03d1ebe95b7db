"""Another embedding model on the same documents: nothing is mixed, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doubles import WordEmbedder
from test_erasure import admin, proxy
from world import World

from embeddings.base import Vector
from proxy import reembedding

TEXT = "how does one tie a bow tie before the party begins"
ALIKE = "how does one tie a bow tie before the show begins"


class Reversed(WordEmbedder):
    """Another space with as many dimensions: what is near in one is anywhere in the other."""

    fingerprint = "reversed words"

    @staticmethod
    def stored(text: str) -> bool:
        return text == TEXT or text.startswith("other")

    async def embed(self, text: str, tenant: str = "") -> Vector:
        turned: Vector = np.ascontiguousarray((await super().embed(text))[::-1])
        return turned


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def ready(world: World) -> None:
    await until(lambda: world.app.warm_up.done and not world.app.warm_up.to_embed)


async def filled(tmp_path: Path, categories: Path) -> None:
    async with proxy(tmp_path / "data", categories) as world:
        for text in (TEXT, *(f"other {number} words {number}" for number in range(40))):
            await world.ask(text)
        await world.settled()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reembedding, "PAUSE_S", 0.02)


async def test_entries_of_another_model_are_exact_only_until_they_are_embedded_anew(
    tmp_path: Path, categories: Path
) -> None:
    await filled(tmp_path, categories)
    embedder = Reversed()
    embedder.broken = True
    async with proxy(tmp_path / "data", categories, embedder) as world:
        await until(lambda: world.app.warm_up.done)
        assert world.app.warm_up.to_embed == 41
        assert (await world.ask(TEXT)).cache == "HIT exact"
        assert not world.app.cache.entries.vectors.partitions()
        embedder.broken = False
        await ready(world)
        assert (await world.ask(ALIKE)).cache == "HIT semantic"
    async with proxy(tmp_path / "data", categories, Reversed()) as world:
        await until(lambda: world.app.warm_up.done)
        assert world.app.warm_up.to_embed == 0
        assert (await world.ask(ALIKE)).cache == "HIT semantic"


async def test_a_restart_goes_on_where_it_was(tmp_path: Path, categories: Path) -> None:
    class Stuck(Reversed):
        async def embed(self, text: str, tenant: str = "") -> Vector:
            if self.stored(text) and sum(map(self.stored, self.asked)) == reembedding.AT_ONCE + 3:
                self.gate.clear()
            return await super().embed(text)

    await filled(tmp_path, categories)
    async with proxy(tmp_path / "data", categories, stuck := Stuck()) as world:
        await until(lambda: not stuck.gate.is_set())
        assert world.app.warm_up.to_embed == 41 - reembedding.AT_ONCE
    async with proxy(tmp_path / "data", categories, again := Reversed()) as world:
        await until(lambda: world.app.warm_up.done)
        await ready(world)
        assert (await world.ask(ALIKE)).cache == "HIT semantic"
        assert sum(map(again.stored, again.asked)) == 41 - reembedding.AT_ONCE


async def test_what_the_new_model_cannot_read_stays_exact(tmp_path: Path, categories: Path) -> None:
    class Short(Reversed):
        async def embed(self, text: str, tenant: str = "") -> Vector:
            return await super().embed("x" * 5_000 if text == TEXT else text)

    await filled(tmp_path, categories)
    for to_embed in (41, 0):
        async with proxy(tmp_path / "data", categories, Short()) as world:
            await until(lambda: world.app.warm_up.done)
            assert (to_embed == 0) == (world.app.warm_up.to_embed == 0)
            await ready(world)
            assert (await world.ask(TEXT)).cache == "HIT exact"


async def test_a_purge_by_likeness_waits_for_the_new_vectors(tmp_path: Path, categories: Path) -> None:
    class Held(Reversed):
        async def embed(self, text: str, tenant: str = "") -> Vector:
            if self.stored(text):
                await may_go_on.wait()
            return await super().embed(text)

    may_go_on = asyncio.Event()
    await filled(tmp_path, categories)
    async with proxy(tmp_path / "data", categories, Held()) as world, admin(world) as url:
        await until(lambda: world.app.warm_up.done)
        order = {"like": ALIKE, "threshold": 0.8}
        async with world.session.post(f"{url}/purge", json=order) as answer:
            assert answer.status == 503
        may_go_on.set()
        await ready(world)
        async with world.session.post(f"{url}/purge", json=order) as answer:
            assert answer.status == 200
        assert world.app.cache.entries.select(lambda entry: entry.text == TEXT) == []
