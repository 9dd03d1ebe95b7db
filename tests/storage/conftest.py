"""A real PostgreSQL and a real Redis, each with its files in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer
from redis_server import RedisServer


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with PostgresServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one, which refuses commands over several slots as any cluster does."""
    folder = tmp_path_factory.mktemp("cluster")
    with RedisServer("--cluster-enabled", "yes", "--dir", str(folder)) as server:
        server.command("CLUSTER", "ADDSLOTS", *map(str, range(16_384)))
        while b"cluster_state:ok" not in server.command("CLUSTER", "INFO"):
            time.sleep(0.02)
        yield server.url


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One of the test's own, to be stopped, stalled and started again; it keeps its documents."""
    with RedisServer("--appendonly", "yes", "--dir", str(tmp_path)) as server:
        yield server
