"""A real PostgreSQL with pgvector of the test's own, to be stopped, stalled and started again."""

from __future__ import annotations

import os
import signal
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

PASSWORD = "not-to-be-seen"


def pgserver() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for a runtime folder of the user's, which need not be there
        try:
            import pgserver
        except ImportError:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip("no PostgreSQL here: pip install pgserver asyncpg")
        return pgserver


class PostgresServer:
    """`url` is what `documents.url` and `index.url` want; the password in it is not needed, but must not be
    seen anywhere."""

    def __enter__(self) -> PostgresServer:
        # Not in pytest's folder: the server runs as a user of its own, and other runs tidy up there.
        self._folder = tempfile.TemporaryDirectory(prefix="nearhit-postgres-", ignore_cleanup_errors=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        self._server = pgserver().get_server(self._folder.name)
        given = self._server.get_uri()
        self.url = given.replace("postgresql://postgres:@", f"postgresql+asyncpg://postgres:{PASSWORD}@")

    def stop(self) -> None:
        self._server.cleanup()

    def stall(self) -> None:
        self._tell_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._tell_all(signal.SIGCONT)

    def sql(self, statement: str) -> str:
        """What it gives, a row a line."""
        return str(self._server.psql(statement))

    def _tell_all(self, number: signal.Signals) -> None:
        found: Any = Path(self._folder.name) / "postmaster.pid"
        if found.exists():
            server = psutil.Process(int(found.read_text().split()[0]))
            for process in (server, *server.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
