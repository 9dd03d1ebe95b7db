"""A real PostgreSQL with its files in a folder of its own, reached by a socket there."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    # Not in pytest's folder: the server runs as a user of its own, and other runs tidy up there.
    with tempfile.TemporaryDirectory(prefix="nearhit-postgres-", ignore_cleanup_errors=True) as folder:
        server = _server(folder)
        yield server.get_uri().replace("postgresql://postgres:@", "postgresql+asyncpg://postgres@")
        server.cleanup()


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
