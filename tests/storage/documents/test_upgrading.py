"""A database that an older nearhit made is brought up to date where it lies, with all that is in it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from stored import everything, make_document

from storage.base import Entry, StorageError
from storage.documents.codec import pack
from storage.opening import open_documents

_COLUMNS = """
    id VARCHAR(64) NOT NULL UNIQUE, exact {bytes} NOT NULL UNIQUE, "partition" {bytes} NOT NULL,
    fingerprint TEXT NOT NULL, category TEXT NOT NULL, text TEXT NOT NULL, created FLOAT NOT NULL,
    dialect TEXT NOT NULL, model TEXT NOT NULL, tenant TEXT NOT NULL, namespace TEXT NOT NULL,
    tags TEXT NOT NULL, ttl FLOAT, size BIGINT NOT NULL, cost_ms FLOAT NOT NULL, tokens_in BIGINT NOT NULL,
    tokens_out BIGINT NOT NULL, hits BIGINT NOT NULL, last_hit FLOAT NOT NULL, vector {bytes},
    body {bytes} NOT NULL
"""
FIRST_SCHEMA = f"""
CREATE TABLE nearhit_meta (name VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE nearhit_documents (seq {{seq}}, {_COLUMNS});
INSERT INTO nearhit_meta VALUES ('schema', '1');
"""
ENTRY: Entry = make_document("old", text="an old question", tags=("a",), hits=3).entry
ROW = {
    "id": "old", "exact": ENTRY.exact, "partition": ENTRY.partition, "fingerprint": "test",
    "category": "code", "text": "an old question", "created": 1_000.0, "dialect": "openai", "model": "demo",
    "tenant": "shared", "namespace": "", "tags": '["a"]', "ttl": None, "size": 6, "cost_ms": 0.0,
    "tokens_in": 0, "tokens_out": 0, "hits": 3, "last_hit": 0.0, "vector": None, "body": pack(b"answer"),
}  # fmt: skip
INTO = "INTO nearhit_documents (" + ", ".join(f'"{name}"' for name in ROW) + ")"


def first_sqlite(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(FIRST_SCHEMA.format(bytes="BLOB", seq="INTEGER NOT NULL PRIMARY KEY"))
        connection.execute(f"INSERT {INTO} VALUES ({', '.join('?' * len(ROW))})", tuple(ROW.values()))
    return f"sqlite+aiosqlite:///{path}"


async def first_postgres(url: str) -> str:
    admin = await asyncpg.connect(url.replace("+asyncpg", ""))
    await admin.execute("DROP DATABASE IF EXISTS first")
    await admin.execute("CREATE DATABASE first")
    await admin.close()
    made = url.replace("/postgres?", "/first?")
    connection = await asyncpg.connect(made.replace("+asyncpg", ""))
    await connection.execute(FIRST_SCHEMA.format(bytes="BYTEA", seq="BIGSERIAL PRIMARY KEY"))
    places = ", ".join(f"${number}" for number in range(1, len(ROW) + 1))
    await connection.execute(f"INSERT {INTO} VALUES ({places})", *ROW.values())
    await connection.close()
    return made


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_first_schema_is_upgraded_and_keeps_its_entries(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, nothing_blocks_the_loop: object
) -> None:
    if kind == "sqlite":
        url = first_sqlite(tmp_path / "x.db")
    else:
        nothing_blocks_the_loop.deactivate()  # type: ignore[attr-defined]  # asyncpg reads ~/.pgpass
        url = await first_postgres(request.getfixturevalue("postgres_url"))
    for _ in range(2):  # upgraded, and then as it is
        documents = await open_documents(url)
        entry, vector = (await everything(documents))["old"]
        assert (entry.text, entry.tags, entry.hits, entry.provenance) == ("an old question", ("a",), 3, "")
        assert vector is None
        assert await documents.load("old") == b"answer"
        await documents.close()
    documents = await open_documents(url, keys=[bytes(32)])
    await documents.save([make_document("new", b"sealed", provenance="imported")])
    found = await everything(documents)
    assert list(found) == ["new", "old"]
    assert found["new"][0].provenance == "imported"
    await documents.close()


async def test_several_that_start_at_once_on_an_empty_or_old_database_all_start(
    postgres_url: str, nothing_blocks_the_loop: object
) -> None:
    nothing_blocks_the_loop.deactivate()  # type: ignore[attr-defined]
    url = await first_postgres(postgres_url)
    stores = await asyncio.gather(*(open_documents(url) for _ in range(4)))
    assert set(await everything(stores[-1])) == {"old"}
    for store in stores:
        await store.close()


async def test_an_upgrade_that_fails_leaves_the_old_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = first_sqlite(tmp_path / "x.db")
    monkeypatch.setattr("storage.documents.schema.ADDED", {2: ("provenance", "no such column")})
    with pytest.raises(StorageError):
        await open_documents(url)
    monkeypatch.undo()
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        assert connection.execute("SELECT value FROM nearhit_meta").fetchall() == [("1",)]
        columns = [row[1] for row in connection.execute("PRAGMA table_info(nearhit_documents)")]
    assert "provenance" not in columns
    documents = await open_documents(url)
    assert set(await everything(documents)) == {"old"}
    await documents.close()
