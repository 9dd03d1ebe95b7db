"""Three real proxies on one document store and one Redis; `make bench-replicas` does it for longer."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path
from time import time
from typing import Any, NoReturn

import pytest
from blockbuster import BlockBuster
from doubles import Clock
from redis_server import PASSWORD, RedisServer
from world import MakeWorld

from benchmarks.replicas import Postgres, Trial, cluster, outage, together, visible
from proxy.admin.errors import Unavailable
from proxy.admin.inputs import PurgeOrder
from proxy.admin.purging import purge
from proxy.admin.views import readyz
from storage.base import StorageError


@pytest.fixture(autouse=True)
def _starting_servers_may_block(nothing_blocks_the_loop: BlockBuster) -> None:
    nothing_blocks_the_loop.deactivate()


def server(name: str) -> AbstractContextManager[Any]:
    if name == "redis":
        return RedisServer()
    pytest.importorskip("pgserver", reason="no PostgreSQL here: pip install pgserver asyncpg")
    return Postgres()


@pytest.mark.parametrize("name", ["postgres", "redis"])
async def test_three_replicas(name: str, tmp_path: Path) -> None:
    with server(name) as store, RedisServer() as redis:
        async with cluster(tmp_path, store.url, redis.url) as replicas:
            assert len(await visible(replicas.replicas, 12)) == 24
            assert sum(await together(replicas, 5)) < 10  # each alone it would be 15
            found = await outage(replicas, redis, 300, restarts=1, away_s=0.5)
            assert found.failed == 0
            if name == "postgres":
                trial = Trial(replicas, seed=3)
                await trial.run(6.0)
                # Amid stops and kills a purge may be refused for long; afterwards some are acknowledged.
                purges = await trial.run(10.0, trouble=False)
                assert purges.purges > 0
                assert purges.hits > 0
                assert (purges.failed, purges.torn, purges.resurrected) == (0, 0, 0)
    logs = "".join(log.read_text() for log in sorted(tmp_path.glob("*.log")))  # noqa: ASYNC240
    assert PASSWORD not in logs


async def test_two_proxies_over_http(make_world: MakeWorld) -> None:
    with RedisServer() as redis, RedisServer() as store:
        shared = {"documents": {"url": store.url}, "replication": {"url": redis.url}, "clock": Clock(time())}
        one, other = await make_world(**shared), await make_world(**shared)
        stored = await one.ask("brief how are you")
        while other.app.cache.entries.get(stored.headers["X-Cache-Entry-Id"]) is None:
            await asyncio.sleep(0.01)
        assert (await other.ask("brief how are you")).cache == "HIT exact"
        assert other.app.ledger.recent
        assert (await purge(one.app, PurgeOrder(category="brief")))["purged"] == 1
        assert (
            await other.ask("brief how are you", headers={"Cache-Control": "only-if-cached"})
        ).status == 504
        assert not [report for report in other.app.ledger.recent if report.entry_id]
        state = await readyz(other.app)
        assert "replicas" not in "".join(state["degraded"])
        assert state["replication"]["current"]
        redis.stop()
        while one.app.replication.current:
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="replication"):
            await purge(one.app, PurgeOrder(category="brief"))
        assert "works alone" in "".join((await readyz(one.app))["degraded"])
        assert (await one.ask("brief and again")).status == 200


async def test_a_comparison_that_failed_is_made_again_though_another_one_succeeds(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer() as redis, RedisServer() as store:
        shared = {"documents": {"url": store.url}, "replication": {"url": redis.url}, "clock": Clock(time())}
        world = await make_world(**shared)
        app, documents = world.app, world.app.cache.documents
        id = (await world.ask()).headers["X-Cache-Entry-Id"]
        await world.settled()
        await documents.flush()
        assert app.replication
        with monkeypatch.context() as patch:
            patch.setattr(documents, "scan", away)
            failed = asyncio.create_task(app.replication.reload())
            while not app.warm_up.failed:
                await asyncio.sleep(0.01)
        await app.replication.reload()
        assert app.warm_up.done
        await documents._documents.delete([id])  # somebody else, untold
        assert app.cache.entries.get(id)
        await failed
        assert not app.cache.entries.get(id)
        assert not app.warm_up.failed


def away() -> NoReturn:
    raise StorageError("the store is away")
