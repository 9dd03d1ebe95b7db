"""The tables of the documents in a SQL database, and how older ones are brought up to date.

A database of an older schema gets the columns in `ADDED` and the tables that it lacks; nothing is ever
renamed or dropped, so that is all an upgrade has to do.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateColumn

from storage.base import StorageError
from storage.documents.codec import NEEDS_KEYS

SCHEMA_VERSION = 2
ADDED: dict[int, tuple[str, ...]] = {2: ("provenance", "sealed_text")}
"""Schema to the columns of the documents that came with it."""
UPGRADING = 0x6E656172
"""PostgreSQL's advisory lock under which one process at a time makes or alters the tables."""

metadata = MetaData()

meta = Table(
    "nearhit_meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

documents = Table(
    "nearhit_documents",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("exact", LargeBinary(16), nullable=False, unique=True),
    Column("partition", LargeBinary(16), nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("dialect", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("ttl", Float(53)),
    Column("size", BigInteger, nullable=False),
    Column("cost_ms", Float(53), nullable=False),
    Column("tokens_in", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("hits", BigInteger, nullable=False),
    Column("last_hit", Float(53), nullable=False),
    Column("provenance", Text, nullable=False, server_default=""),
    Column("sealed_text", LargeBinary),
    Column("vector", LargeBinary),
    Column("body", LargeBinary, nullable=False),
)


def create_or_upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADING})"))
    names = inspect(connection).get_table_names()
    if meta.name not in names and documents.name not in names:
        metadata.create_all(connection)
        connection.execute(insert(meta).values(name="schema", value=str(SCHEMA_VERSION)))
        return
    found = _noted(connection, "schema") if meta.name in names else None
    if not found or not found.isdecimal() or not 1 <= int(found) <= SCHEMA_VERSION:
        raise StorageError(
            f"documents.url: the database has schema {found or 'unknown'}, this nearhit reads up to"
            f" {SCHEMA_VERSION}: run a newer nearhit, or name another database"
        )
    if int(found) < SCHEMA_VERSION:
        _upgrade(connection, int(found))


def _upgrade(connection: Connection, found: int) -> None:
    """In one transaction, which the first statement opens: SQLite's driver opens none for a change of
    tables."""
    connection.execute(update(meta).where(meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))
    metadata.create_all(connection)
    for version in range(found + 1, SCHEMA_VERSION + 1):
        for name in ADDED.get(version, ()):
            column = CreateColumn(documents.c[name]).compile(connection)
            connection.execute(text(f"ALTER TABLE {documents.name} ADD COLUMN {column}"))


def agree_on_sealing(connection: Connection, seals: bool) -> None:
    """A store that has ever held sealed answers is not added to in the clear because somebody forgot the
    key."""
    noted = _noted(connection, "sealed")
    if noted and not seals:
        raise StorageError(NEEDS_KEYS)
    if seals and not noted:
        connection.execute(insert(meta).values(name="sealed", value="yes"))


def _noted(connection: Connection, name: str) -> str | None:
    return connection.scalar(select(meta.c.value).where(meta.c.name == name))
