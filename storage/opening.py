"""From `documents.url` to a store, and from `index.url` to where vectors lie.

A URL may hold a password, so no message repeats it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from storage.base import Documents, StorageError, Vectors
from storage.documents.buffered import BufferedDocuments
from storage.documents.codec import Codec
from storage.documents.memory import MemoryDocuments
from storage.documents.sql import open_sql
from storage.vectors.memory import MemoryVectors

DEADLINE = 5.0
"""Seconds that a call to the store may take."""
KNOWN = "sqlite+aiosqlite, postgresql+asyncpg, redis, rediss or memory"


async def open_documents(url: str, deadline: float = DEADLINE, keys: Sequence[bytes] = ()) -> Documents:
    """`memory`, `sqlite+aiosqlite:///path`, `postgresql+asyncpg://user:password@host/database` or
    `redis://:password@host/number` (`rediss` with TLS).

    With `keys` (`keys.read_key`) texts, vectors and bodies are sealed with the first of them. Raises
    ValueError for a URL that names no store of ours, StorageError when the store cannot be opened.
    """
    if url == "memory":
        return MemoryDocuments()
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "documents.url is not a URL; for example sqlite+aiosqlite:///data/nearhit.db"
        ) from None
    codec = _codec(keys)
    match parsed.drivername:
        case "sqlite+aiosqlite":
            return await open_sql(parsed, deadline, codec)
        case "postgresql+asyncpg":
            _need("asyncpg", "PostgreSQL")
            return await open_sql(parsed, deadline, codec)
        case "redis" | "rediss":
            _need("redis", "Redis")
            from storage.documents.redis import open_redis

            return await open_redis(url, deadline, codec)
        case other:
            raise ValueError(f"documents.url: {other} is not a document store; use {KNOWN}")


@asynccontextmanager
async def open_vectors(
    url: str, deadline: float, dimensions: int, fingerprint: str, documents: BufferedDocuments
) -> AsyncIterator[Vectors]:
    """`memory`, or `postgresql+asyncpg://user:password@host/database`, which need not be there yet: a search
    then raises StorageError within `deadline` seconds.

    Raises StorageError without the driver, and for what is no such URL.
    """
    if url == "memory":
        yield MemoryVectors(dimensions)
        return
    _need("asyncpg", "PostgreSQL", "index.url")
    from storage.vectors.pgvector import PgVectors
    from storage.vectors.remote import RemoteVectors

    try:
        table = PgVectors(make_url(url), dimensions, fingerprint)
    except (ArgumentError, ValueError):
        raise StorageError("index.url is not a URL; use postgresql+asyncpg://USER@HOST/DATABASE") from None
    vectors = RemoteVectors(table, dimensions, documents.entries, deadline)
    try:
        yield vectors
    finally:
        await vectors.close()


def _codec(keys: Sequence[bytes]) -> Codec:
    try:
        return Codec(keys)
    except ImportError:
        raise StorageError("documents.keys: sealing needs a package: pip install cryptography") from None


def _need(package: str, store: str, setting: str = "documents.url") -> None:
    if find_spec(package) is None:
        raise StorageError(f"{setting}: {store} needs the driver: pip install {package}")
