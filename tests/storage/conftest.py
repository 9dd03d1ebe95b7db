"""A real PostgreSQL and a real Redis, each with its files in a folder of its own."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    # Not in pytest's folder: the server runs as a user of its own, and other runs tidy up there.
    with tempfile.TemporaryDirectory(prefix="nearhit-postgres-", ignore_cleanup_errors=True) as folder:
        server = _server(folder)
        yield server.get_uri().replace("postgresql://postgres:@", "postgresql+asyncpg://postgres@")
        server.cleanup()


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


def _server(folder: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for a runtime folder of the user's, which need not be there
        try:
            import pgserver
        except ImportError:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip("no PostgreSQL here: pip install pgserver asyncpg")
        return pgserver.get_server(folder)
