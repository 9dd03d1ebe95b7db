"""Three real proxies on one document store and one Redis; `make bench-replicas` does it for longer."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from redis_server import PASSWORD, RedisServer

from benchmarks.replicas import Postgres, Trial, cluster, outage, together, visible


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
            assert len(await visible(replicas.replicas, 24)) == 48
            assert set(await together(replicas, 3)) == {1}
            found = await outage(replicas, redis, 300, restarts=1, away_s=0.5)
            assert found.failed == 0
            purges = await Trial(replicas, seed=3).run(4.0, trouble=name == "postgres")
            assert purges.purges > 0
            assert purges.hits > 0
            assert (purges.torn, purges.resurrected) == (0, 0)
    logs = "".join(log.read_text() for log in sorted(tmp_path.glob("*.log")))  # noqa: ASYNC240
    assert PASSWORD not in logs
