"""Documents in a SQL database, through SQLAlchemy: a SQLite file, or PostgreSQL.

A document that replaces others is a delete and an insert in one transaction, which is the same statement on
every database and gives the document a new place in the order of arrival.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, bindparam, delete, event, insert, inspect, or_, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from storage.base import Document, Entry, StorageError, Vector
from storage.codec import unpack, vector_to_bytes
from storage.tables import SCHEMA_VERSION, documents, from_row, meta, metadata, to_row

SCAN_BATCH = 128
"""Rows; a batch is read, and indexed, in about two milliseconds."""
IN_ONE_STATEMENT = 500
"""Bound parameters; SQLite's limit was 999 for long."""
INLINE_BYTES = 32_768
"""A packed body up to this is unpacked on the loop, a larger one in a thread."""

_ENTRY_COLUMNS = [column for column in documents.columns if column.name != "body"]


class SqlDocuments:
    """Every call ends within `deadline` seconds."""

    def __init__(self, engine: AsyncEngine, deadline: float) -> None:
        self._engine = engine
        self._deadline = deadline
        self.damaged = 0
        """Rows and bodies that could not be read and were left out."""

    async def prepare(self) -> None:
        """Creates the tables in an empty database; StorageError when they are not of our version."""
        async with self._within_deadline("open"), self._engine.begin() as connection:
            await connection.run_sync(_create_or_check)

    async def save(self, batch: Sequence[Document]) -> None:
        latest = _latest(batch)
        async with self._within_deadline("save"):
            rows = await asyncio.to_thread(lambda: [to_row(document) for document in latest])
            async with self._engine.begin() as connection:
                for part in _parts(rows, IN_ONE_STATEMENT // 2):
                    await connection.execute(_delete_replaced(part))
                await connection.execute(insert(documents), rows)

    async def load(self, id: str) -> bytes | None:
        async with self._within_deadline("load"):
            async with self._engine.connect() as connection:
                packed = await connection.scalar(select(documents.c.body).where(documents.c.id == id))
            return await self._unpack(packed) if packed is not None else None

    async def delete(self, ids: Iterable[str]) -> None:
        async with self._within_deadline("delete"), self._engine.begin() as connection:
            for part in _parts(list(ids), IN_ONE_STATEMENT):
                await connection.execute(delete(documents).where(documents.c.id.in_(part)))

    async def scrub(self) -> None:
        """SQLite: the log is written into the file, whose freed pages are zeroed, and cut to nothing.
        PostgreSQL commits to the disk anyway; its vacuum wins the room back in its own time."""
        if self._engine.dialect.name != "sqlite":
            return
        async with self._within_deadline("scrub"), self._engine.connect() as connection:
            busy, *_ = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).one()
        if busy:
            raise StorageError("scrub: somebody reads the database for too long")

    async def revector(self, fingerprint: str, vectors: Mapping[str, Vector | None]) -> None:
        if not vectors:
            return
        rows = [{"known": id, "vector": vector_to_bytes(vector)} for id, vector in vectors.items()]
        change = update(documents).where(documents.c.id == bindparam("known"))
        async with self._within_deadline("revector"), self._engine.begin() as connection:
            await connection.execute(change.values(fingerprint=fingerprint, vector=bindparam("vector")), rows)

    async def scan(self) -> AsyncIterator[list[tuple[Entry, Vector | None]]]:
        below: int | None = None
        while rows := await self._rows_below(below):
            below = rows[-1]["seq"]
            yield self._readable(rows)

    async def ping(self) -> None:
        async with self._within_deadline("ping"), self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        async with self._within_deadline("close"):
            await self._engine.dispose()

    async def _rows_below(self, seq: int | None) -> Sequence[Any]:
        query = select(*_ENTRY_COLUMNS).order_by(documents.c.seq.desc()).limit(SCAN_BATCH)
        if seq is not None:
            query = query.where(documents.c.seq < seq)
        async with self._within_deadline("scan"), self._engine.connect() as connection:
            return (await connection.execute(query)).mappings().all()

    def _readable(self, rows: Sequence[Any]) -> list[tuple[Entry, Vector | None]]:
        found = []
        for row in rows:
            try:
                found.append(from_row(row))
            except ValueError:
                self.damaged += 1
        return found

    async def _unpack(self, packed: object) -> bytes | None:
        try:
            if not isinstance(packed, bytes):
                raise ValueError("damaged body: not bytes")
            return unpack(packed) if len(packed) <= INLINE_BYTES else await asyncio.to_thread(unpack, packed)
        except ValueError:
            self.damaged += 1
            return None

    @asynccontextmanager
    async def _within_deadline(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except StorageError:
            raise
        except TimeoutError as error:
            raise StorageError(
                f"{what}: the document store did not answer in {self._deadline:g} s"
            ) from error
        except Exception as error:  # whatever the driver raises
            raise StorageError(f"{what}: {_reason(error)}") from error


async def open_sql(url: URL, deadline: float) -> SqlDocuments:
    """Raises StorageError when the database cannot be opened or is not ours."""
    try:
        make = _sqlite if url.get_backend_name() == "sqlite" else _server
        engine = await asyncio.to_thread(make, url, deadline)  # it imports the driver and looks at the disk
    except (OSError, ImportError) as error:
        raise StorageError(f"open: {_reason(error)}") from error
    store = SqlDocuments(engine, deadline)
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
            "open: the URL names no file (for a store that is not kept, set documents.url: memory)"
        )
    _create_file(Path(url.database))
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


def _set_pragmas(connection: Any, _: object) -> None:
    """WAL: loads go on while a batch is written. NORMAL: a killed process loses nothing that was committed, a
    power cut may lose the last answers, not the file. secure_delete: what is deleted is overwritten."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _create_or_check(connection: Connection) -> None:
    names = inspect(connection).get_table_names()
    if meta.name not in names and documents.name not in names:
        metadata.create_all(connection)
        connection.execute(insert(meta).values(name="schema", value=str(SCHEMA_VERSION)))
        return
    found = None
    if meta.name in names:
        found = connection.scalar(select(meta.c.value).where(meta.c.name == "schema"))
    if found != str(SCHEMA_VERSION):
        raise StorageError(
            f"open: the database has schema {found or 'unknown'}, this nearhit reads {SCHEMA_VERSION}: "
            "name another one in documents.url"
        )


def _latest(batch: Sequence[Document]) -> list[Document]:
    """Of documents with one `exact` digest or one id, the last."""
    by_exact = {document.entry.exact: document for document in batch}
    return list({document.entry.id: document for document in by_exact.values()}.values())


def _delete_replaced(rows: Sequence[dict[str, Any]]) -> Any:
    ids, digests = [row["id"] for row in rows], [row["exact"] for row in rows]
    return delete(documents).where(or_(documents.c.id.in_(ids), documents.c.exact.in_(digests)))


def _parts(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _reason(error: Exception) -> str:
    """One line, without the statement."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
