"""The proxy with its vectors in PostgreSQL, as its callers see it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from doubles import Clock, WordEmbedder
from postgres_server import PASSWORD, PostgresServer
from redis_server import RedisServer
from test_erasure import admin, post
from test_reembedding import Reversed
from world import MakeWorld, World, open_world

from proxy.admin.errors import Unavailable
from proxy.admin.explaining import explain
from proxy.admin.gauges import Gauges
from proxy.admin.inputs import Explained, PurgeOrder
from proxy.admin.purging import purge
from proxy.admin.views import readyz
from proxy.demo.upstream import Behaviour
from proxy.settings import Settings
from storage import breaker
from storage.base import StorageError

TEXT = "how does one tie a bow tie before the party begins"
ALIKE = "how does one tie a bow tie before the show begins"
THIRD = "how does one tie a bow tie before the race begins"


@pytest.fixture
def server(nothing_blocks_the_loop: BlockBuster, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    nothing_blocks_the_loop.deactivate()  # starting and stopping servers does
    monkeypatch.setattr(breaker, "BREAKER_PAUSE", 0.2)
    with PostgresServer() as server:
        yield server


@asynccontextmanager
async def proxy(
    server: PostgresServer, folder: Path, categories: Path, embedder: Any = None
) -> AsyncIterator[World]:
    settings = Settings.model_validate(
        {
            "documents": {"url": f"sqlite+aiosqlite:///{folder / 'nearhit.db'}"},
            "index": {"url": server.url, "deadline": 0.5},
            "categories": categories,
        }
    )
    async with open_world(settings, Behaviour(), embedder or WordEmbedder(), Clock()) as world:
        await until(lambda: world.app.warm_up.done)
        yield world


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


def vectors(world: World) -> Any:
    return world.app.cache.entries.vectors


async def stored(world: World, text: str = TEXT) -> None:
    await world.ask(text)
    await world.settled()
    await vectors(world).flush()


async def degraded(world: World) -> str:
    """But for the classifier, which has no examples for this embedder."""
    lines = (await readyz(world.app))["degraded"]
    return " ".join(line for line in lines if not line.startswith("classifier"))


def rows(server: PostgresServer) -> int:
    return int(server.sql("SELECT count(*) FROM nearhit_vectors").split()[2])


async def test_a_paraphrase_is_a_hit_and_a_restart_sends_nothing_again(
    server: PostgresServer, tmp_path: Path, categories: Path
) -> None:
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
        assert (await world.ask(ALIKE)).cache == "HIT semantic"
        assert (await world.ask(ALIKE, key="another")).cache == "MISS"
        state = await readyz(world.app)
        assert state["vectors"]["written"] == 1
    async with proxy(server, tmp_path, categories) as world:
        await until(lambda: vectors(world).stats()["current"])
        assert (await world.ask(THIRD)).cache == "HIT semantic"
        assert vectors(world).stats()["written"] == 0
        assert not await degraded(world)
    assert rows(server) == 2


async def test_an_answer_is_found_before_its_vector_is_written(
    server: PostgresServer, tmp_path: Path, categories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.writer.GATHER", 0.5)
    async with proxy(server, tmp_path, categories) as world:
        await world.ask(TEXT)
        await world.settled()
        assert (await world.ask(ALIKE)).cache == "HIT semantic"
        assert vectors(world).stats()["written"] == 0


async def test_with_the_database_stopped_calls_are_answered_and_later_hits_come_back(
    server: PostgresServer, tmp_path: Path, categories: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
        await until(lambda: vectors(world).stats()["graph"])
        server.stop()
        assert (await world.ask(TEXT)).cache == "HIT exact"
        for number in range(breaker.BREAKER_FAILURES + 1):
            answer = await world.ask(f"{ALIKE} {number}")
            assert (answer.status, answer.cache) == (200, "MISS")
        assert world.app.ledger.recent[-1].degraded == "index-failed"
        assert (world.app.ledger.recent[-1].lookup_ms or 0.0) > 0.0
        assert "database with the vectors fails" in await degraded(world)
        told = {each.name: each.samples[0].value for each in Gauges(world.app).collect() if each.samples}
        assert told["nearhit_vectors_breaker_open"] == 1
        assert told["nearhit_vectors_search_failures"] >= breaker.BREAKER_FAILURES
        with pytest.raises(Unavailable):
            await explain(world.app, Explained(text=ALIKE))
        server.start()
        await vectors(world).flush(30)
        await asyncio.sleep(0.3)
        assert (await world.ask(THIRD)).cache == "HIT semantic"
        assert not await degraded(world)
        assert (await explain(world.app, Explained(text=ALIKE)))["outcome"] == "HIT"
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    assert PASSWORD not in caplog.text


async def test_an_explanation_looks_where_it_is_asked_to_and_not_for_ever(
    server: PostgresServer, tmp_path: Path, categories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
        await world.ask(TEXT, key="another")
        await world.settled()
        one, _ = sorted({entry.tenant for entry in world.app.cache.entries.select(lambda entry: True)})
        search, searched = vectors(world).nearest, 0

        async def count(*given: Any) -> Any:
            nonlocal searched
            searched += 1
            return await search(*given)

        monkeypatch.setattr(vectors(world), "nearest", count)
        for tenant, partitions in ((None, 2), (one, 1)):
            searched = 0
            found = await explain(world.app, Explained(text=ALIKE, tenant=tenant))
            assert (len(found["nearest"]), searched) == (partitions, partitions)

        async def hang(*_: Any) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(vectors(world), "nearest", hang)
        monkeypatch.setattr("proxy.admin.explaining.SEARCHED_S", 0.05, raising=False)
        async with asyncio.timeout(3):
            with pytest.raises(Unavailable, match="give a model or a tenant"):
                await explain(world.app, Explained(text=ALIKE))


async def test_a_stalled_database_costs_a_deadline(
    server: PostgresServer, tmp_path: Path, categories: Path
) -> None:
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
        loop = asyncio.get_running_loop()
        server.stall()
        started = loop.time()
        answer = await world.ask(ALIKE)
        assert (answer.status, answer.cache) == (200, "MISS")
        assert 0.4 < loop.time() - started < 2.0
        server.resume()
        await vectors(world).flush(30)
        assert (await world.ask(THIRD)).cache == "HIT semantic"


@pytest.mark.parametrize(
    "order", [{"like": TEXT, "threshold": 0.7}, {"category": "default"}, {"model": "demo-chat"}]
)
async def test_a_purge_is_acknowledged_when_the_vectors_are_gone(
    server: PostgresServer, tmp_path: Path, categories: Path, order: Any
) -> None:
    async with proxy(server, tmp_path, categories) as world, admin(world) as url:
        unread = {"Cache-Control": "no-cache"}
        for number in range(3):
            await world.ask(f"{TEXT} {number}", headers=unread)
        await world.settled()
        await vectors(world).flush()
        await world.ask(f"{TEXT} now", headers=unread)  # neither document nor vector is written
        await world.settled()
        assert rows(server) == 3
        purged = (await post(url, order))["purged"]
        assert rows(server) == 0
        assert purged == 4
        assert (await world.ask(ALIKE)).cache == "MISS"


async def test_a_purge_of_what_memory_does_not_know_yet(
    server: PostgresServer, tmp_path: Path, categories: Path
) -> None:
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
    async with proxy(server, tmp_path, categories) as world:
        (entry,) = world.app.cache.entries.select(lambda entry: True)
        world.app.cache.entries.remove(entry.id)
        vectors(world)._doomed.clear()
        world.app.warm_up.done = False
        assert (await purge(world.app, PurgeOrder(like=TEXT)))["purged"] == 1
        assert rows(server) == 0


async def test_a_purge_by_likeness_takes_what_a_search_does_not_find(
    server: PostgresServer, tmp_path: Path, categories: Path
) -> None:
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
        await world.app.cache.documents.flush()
        server.sql("DELETE FROM nearhit_vectors")
        assert (await world.ask(ALIKE, headers={"Cache-Control": "only-if-cached"})).status == 504
        assert (await purge(world.app, PurgeOrder(like=TEXT)))["purged"] == 1


async def test_a_purge_is_not_acknowledged_while_the_database_is_away(
    server: PostgresServer, tmp_path: Path, categories: Path
) -> None:
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
        server.stop()
        with pytest.raises(Unavailable, match="hidden"):
            await purge(world.app, PurgeOrder(like=TEXT))
        assert (await world.ask(TEXT, headers={"Cache-Control": "only-if-cached"})).status == 504
        server.start()
        assert (await purge(world.app, PurgeOrder(like=TEXT)))["durable"]
        assert rows(server) == 0


async def test_a_purge_that_failed_at_the_documents_is_worked_off_at_the_vectors(
    server: PostgresServer, tmp_path: Path, categories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what only the store knew."""
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
        await world.app.cache.documents.flush()
        (entry,) = world.app.cache.entries.select(lambda entry: True)
        world.app.cache.entries.remove(entry.id)
        vectors(world)._doomed.clear()
        world.app.warm_up.done = False

        async def fail() -> None:
            raise StorageError("the store is away")

        with monkeypatch.context() as patch:
            patch.setattr(world.app.cache.documents, "settle_deletions", fail)
            with pytest.raises(Unavailable, match="away"):
                await purge(world.app, PurgeOrder(like=TEXT))
        await world.app.cache.documents.flush()
        assert (await purge(world.app, PurgeOrder(like=TEXT)))["durable"]
        assert rows(server) == 0


async def test_another_model_takes_the_place_of_the_first(
    server: PostgresServer, tmp_path: Path, categories: Path
) -> None:
    async with proxy(server, tmp_path, categories) as world:
        await stored(world)
    async with proxy(server, tmp_path, categories, Reversed()) as world:
        await until(lambda: vectors(world).stats()["written"] == 1)
        assert (await world.ask(ALIKE)).cache == "HIT semantic"
    assert server.sql("SELECT count(DISTINCT space) FROM nearhit_vectors").split()[2] == "1"


async def test_replicas_share_one_table(server: PostgresServer, make_world: MakeWorld) -> None:
    with RedisServer() as redis:
        shared = {
            "documents": {"url": server.url},
            "replication": {"url": redis.url},
            "index": {"url": server.url, "deadline": 0.5},
        }
        one, other = await make_world(**shared), await make_world(**shared)
        await until(lambda: one.app.warm_up.done and other.app.warm_up.done)
        answer = await one.ask(TEXT)
        await one.settled()
        await until(lambda: other.app.cache.entries.get(answer.headers["X-Cache-Entry-Id"]) is not None)
        await vectors(one).flush()
        assert (await other.ask(ALIKE)).cache == "HIT semantic"
        assert vectors(other).stats()["written"] == 0
        assert (await purge(one.app, PurgeOrder(like=TEXT)))["purged"] >= 1
        assert rows(server) == 0
        assert (await other.ask(ALIKE)).cache == "MISS"
