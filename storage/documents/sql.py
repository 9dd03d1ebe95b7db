"""Documents in a SQL database, through SQLAlchemy: a SQLite file, or PostgreSQL.

A document that replaces others is a delete and an insert in one transaction, which gives it a new place in
the order of arrival. SQLite does both in one statement.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, bindparam, delete, event, insert, or_, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from storage.base import Document, StorageError, Stored, Vector
from storage.breath import slices
from storage.documents.codec import Codec
from storage.documents.readable import Reader
from storage.documents.rows import SEALABLE, to_row
from storage.documents.schema import agree_on_sealing, create_or_upgrade, documents, meta
from storage.within import OPENING, first_line, within

SCAN_BATCH = 128
"""Rows; a batch is read, and indexed, in about two milliseconds."""
IN_ONE_STATEMENT = 500
"""Bound parameters; SQLite's limit was 999 for long."""
DAMAGED = ": move the file that documents.url names away, with its -wal and -shm, and start with none"
"""What to do when SQLite finds that its file is none of its own, or malformed."""

_INSERT = insert(documents).prefix_with("OR REPLACE", dialect="sqlite")
"""SQLite deletes what has the id or the digest of a new row: a third of the work of two statements."""

_ENTRY_COLUMNS = [column for column in documents.columns if column.name != "body"]


class SqlDocuments:
    """Every call ends within `deadline` seconds."""

    def __init__(self, engine: AsyncEngine, deadline: float, codec: Codec) -> None:
        self._engine = engine
        self._within = partial(within, deadline, told=_reason)
        self._codec = codec
        self.reader = Reader(codec)
        self.unreadable = self.reader.unreadable

    async def prepare(self) -> None:
        """Creates the tables in an empty database and brings older ones up to date; StorageError when they
        are newer, or hold sealed answers and we have no key."""
        async with self._within(OPENING), self._engine.begin() as connection:
            await connection.run_sync(create_or_upgrade)
            await connection.run_sync(agree_on_sealing, self._codec.seals)

    async def save(self, batch: Sequence[Document]) -> None:
        latest = _latest(batch)
        if not latest:
            return
        async with self._within("save"):
            rows = await asyncio.to_thread(lambda: [to_row(document, self._codec) for document in latest])
            try:
                await self._replace(rows)
            except IntegrityError:  # another replica answered the same call between our delete and our insert
                await self._replace(rows)

    async def _replace(self, rows: list[dict[str, Any]]) -> None:
        async with self._engine.begin() as connection:
            if self._engine.dialect.name != "sqlite":
                for part in slices(rows, IN_ONE_STATEMENT // 2):
                    await connection.execute(_delete_replaced(part))
            await connection.execute(_INSERT, rows)

    async def load(self, id: str) -> bytes | None:
        async with self._within("load"):
            async with self._engine.connect() as connection:
                packed = await connection.scalar(select(documents.c.body).where(documents.c.id == id))
            return await self.reader.body(packed, id)

    async def load_many(self, ids: Sequence[str]) -> dict[str, bytes]:
        query = select(documents.c.id, documents.c.body).where(documents.c.id.in_(ids))
        async with self._within("load"):
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
            return await self.reader.bodies(rows)

    async def entries(self, ids: Sequence[str]) -> list[Stored]:
        query = select(*_ENTRY_COLUMNS).where(documents.c.id.in_(ids))
        async with self._within("load"), self._engine.connect() as connection:
            rows: Sequence[Any] = (await connection.execute(query)).mappings().all()
            return self.reader.entries(rows)

    async def delete(self, ids: Iterable[str]) -> None:
        async with self._within("delete"), self._engine.begin() as connection:
            for part in slices(ids, IN_ONE_STATEMENT):
                await connection.execute(delete(documents).where(documents.c.id.in_(part)))

    async def scrub(self) -> None:
        """SQLite: the log is written into the file, whose freed pages are zeroed, and cut to nothing.
        PostgreSQL commits to the disk anyway; its vacuum wins the room back in its own time."""
        if self._engine.dialect.name != "sqlite":
            return
        async with self._within("scrub"), self._engine.connect() as connection:
            busy, *_ = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).one()
        if busy:
            raise StorageError("scrub: somebody reads the database for too long")

    async def revector(self, fingerprint: str, vectors: Mapping[str, Vector | None]) -> None:
        if not vectors:
            return
        pack = self._codec.pack_vector
        rows = [{"known": id, "vector": pack(vector, id)} for id, vector in vectors.items()]
        change = update(documents).where(documents.c.id == bindparam("known"))
        async with self._within("revector"), self._engine.begin() as connection:
            await connection.execute(change.values(fingerprint=fingerprint, vector=bindparam("vector")), rows)

    async def reseal(self, ids: Sequence[str]) -> int:
        if not self._codec.seals:
            return 0
        known = documents.c
        query = select(known.id, *(known[name] for name in SEALABLE)).where(known.id.in_(ids))
        as_read = (known.id == bindparam("known")) & (known.body == bindparam("old_body"))
        as_read &= known.vector.is_not_distinct_from(bindparam("old_vector"))
        async with self._within("reseal"):
            async with self._engine.connect() as connection:
                rows: Sequence[Any] = (await connection.execute(query)).mappings().all()
            changes = [
                {"known": row["id"], "old_body": row["body"], "old_vector": row["vector"]}
                | {f"new_{name}": value for name, value in new.items()}
                for row, new in await self.reader.resealed(rows)
            ]
            if changes:
                change = update(documents).where(as_read)
                change = change.values({name: bindparam(f"new_{name}") for name in SEALABLE})
                async with self._engine.begin() as connection:
                    await connection.execute(change, changes)
        return len(changes)

    async def scan(self) -> AsyncIterator[list[Stored]]:
        below: int | None = None
        while rows := await self._rows_below(below):
            below = rows[-1]["seq"]
            yield self.reader.entries(rows)

    async def ping(self) -> None:
        async with self._within("ping"), self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        async with self._within("close"):
            await self._engine.dispose()

    async def _rows_below(self, seq: int | None) -> Sequence[Any]:
        query = select(*_ENTRY_COLUMNS).order_by(documents.c.seq.desc()).limit(SCAN_BATCH)
        if seq is not None:
            query = query.where(documents.c.seq < seq)
        async with self._within("scan"), self._engine.connect() as connection:
            return (await connection.execute(query)).mappings().all()


async def open_sql(url: URL, deadline: float, codec: Codec) -> SqlDocuments:
    """Raises StorageError when the database cannot be opened or is not ours."""
    try:
        make = _sqlite if url.get_backend_name() == "sqlite" else _server
        engine = await asyncio.to_thread(make, url, deadline)  # it imports the driver and looks at the disk
    except (OSError, ImportError) as error:
        raise StorageError(f"{OPENING}: {first_line(error)}") from error
    store = SqlDocuments(engine, deadline, codec)
    try:
        await store.prepare()
    except BaseException:
        await engine.dispose()
        raise
    return store


def _server(url: URL, deadline: float) -> AsyncEngine:
    return create_async_engine(url, pool_size=4, max_overflow=0, pool_timeout=deadline, hide_parameters=True)


def _sqlite(url: URL, deadline: float) -> AsyncEngine:
    if not url.database or url.database == ":memory:":
        raise StorageError(
            "documents.url: the URL names no file (for a store that is not kept, set documents.url: memory)"
        )
    _create_file(Path(url.database))
    _leave_others_alone(url.database)
    engine = create_async_engine(
        url,
        pool_size=3,
        max_overflow=0,
        pool_timeout=deadline,
        hide_parameters=True,
        connect_args={"timeout": deadline / 2},
    )
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    return engine


def _create_file(path: Path) -> None:
    """Answers may be private: only the owner reads the file, and what SQLite puts beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _leave_others_alone(path: str) -> None:
    """Raises StorageError for a file with tables of which none is ours, before its journal is another one. A
    server's database may well hold others' tables too."""
    names = set[str]()
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:  # what is wrong is told later
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if names and not names & {meta.name, documents.name}:
        raise StorageError(f"documents.url: {path} is another program's database; name another file")


def _set_pragmas(connection: Any, _: object) -> None:
    """WAL: loads go on while a batch is written. NORMAL: a killed process loses nothing that was committed, a
    power cut may lose the last answers, not the file. secure_delete: what is deleted is overwritten."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _latest(batch: Sequence[Document]) -> list[Document]:
    """Of documents with one `exact` digest or one id, the last."""
    by_exact = {document.entry.exact: document for document in batch}
    return list({document.entry.id: document for document in by_exact.values()}.values())


def _delete_replaced(rows: Sequence[dict[str, Any]]) -> Any:
    ids, digests = [row["id"] for row in rows], [row["exact"] for row in rows]
    return delete(documents).where(or_(documents.c.id.in_(ids), documents.c.exact.in_(digests)))


def _reason(error: Exception) -> str:
    """One line, without the statement."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return first_line(cause) + (DAMAGED if type(cause) is sqlite3.DatabaseError else "")
