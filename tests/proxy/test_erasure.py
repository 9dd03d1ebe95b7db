"""What a purge leaves of somebody's data in a real store: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from doubles import Clock, WordEmbedder
from planes import API, plane_of
from world import World, open_world

from proxy.demo.upstream import Behaviour
from proxy.messages import _understood
from proxy.settings import Settings

SECRET = "my doctor says zanzibarine tablets"


@asynccontextmanager
async def proxy(folder: Path, categories: Path, embedder: Any = None) -> AsyncIterator[World]:
    url = f"sqlite+aiosqlite:///{folder / 'nearhit.db'}"
    settings = Settings.model_validate({"documents": {"url": url}, "categories": categories})
    async with open_world(settings, Behaviour(), embedder or WordEmbedder(), Clock()) as world:
        yield world


@asynccontextmanager
async def admin(world: World) -> AsyncIterator[str]:
    async with plane_of(world) as plane:
        yield plane.url + API


async def post(url: str, order: Any) -> Any:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/purge", json=order) as answer:
        assert answer.status == 200
        return await answer.json()


def holding(folder: Path, text: str) -> list[str]:
    return [path.name for path in folder.iterdir() if text.encode() in path.read_bytes()]


@pytest.mark.parametrize("order", [{"like": SECRET}, {"namespace": "ward"}, {"tag": "patient"}])
async def test_no_file_holds_a_byte_of_what_was_purged(tmp_path: Path, categories: Path, order: Any) -> None:
    folder = tmp_path / "data"
    headers = {"X-Nearhit-Namespace": "ward", "X-Nearhit-Tags": "patient"}
    async with proxy(folder, categories) as world, admin(world) as url:
        for number in range(20):
            await world.ask(f"something else {number} entirely")
        await world.ask(SECRET, headers=headers)
        await world.settled()
        await world.app.cache.documents.flush()
        assert holding(folder, "zanzibarine")
        assert (await post(url, order))["purged"] == 1
        assert not holding(folder, "zanzibarine")
        assert SECRET not in {report.query for report in world.app.ledger.recent}
        assert (await world.ask(SECRET, headers=headers)).cache == "MISS"
    async with proxy(folder, categories) as world:
        assert (await world.ask("something else 7 entirely")).cache in ("HIT exact", "MISS")


async def test_what_was_being_asked_during_a_purge_is_not_remembered(
    tmp_path: Path, categories: Path
) -> None:
    embedder = WordEmbedder()
    async with proxy(tmp_path / "data", categories, embedder) as world, admin(world) as url:
        embedder.gate.clear()
        asking = asyncio.create_task(world.ask(SECRET))
        while not embedder.asked:
            await asyncio.sleep(0.001)
        assert _understood.cache_info().currsize
        await post(url, {"category": "never"})
        assert not _understood.cache_info().currsize
        embedder.gate.set()
        assert (await asking).status == 200
        await world.ask("something else entirely")
        assert [report.query for report in world.app.ledger.recent] == ["", "something else entirely"]


async def test_an_entry_that_is_deleted_while_it_is_renewed_does_not_come_back(
    tmp_path: Path, categories: Path
) -> None:
    embedder = WordEmbedder()
    async with proxy(tmp_path / "data", categories, embedder) as world, admin(world) as url:
        id = (await world.ask(SECRET)).headers["X-Cache-Entry-Id"]
        await world.settled()
        embedder.gate.clear()
        embedder.asked.clear()
        renewing = asyncio.create_task(world.ask(SECRET, headers={"Cache-Control": "no-cache"}))
        while not embedder.asked:
            await asyncio.sleep(0.001)
        async with aiohttp.ClientSession() as session, session.delete(f"{url}/entries/{id}") as answer:
            assert answer.status == 200
        embedder.gate.set()
        assert (await renewing).status == 200
        await world.settled()
        assert len(world.app.cache.entries) == 0
