"""From `documents.url` to a store. The URL may hold a password, so no message repeats it."""

from __future__ import annotations

from importlib.util import find_spec

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from storage.base import Documents, StorageError
from storage.documents_memory import MemoryDocuments
from storage.documents_sql import open_sql

DEADLINE = 5.0
"""Seconds that a call to the store may take."""


async def open_documents(url: str, deadline: float = DEADLINE) -> Documents:
    """`memory`, `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user:password@host/database`.

    Raises ValueError for a URL that names no store of ours, StorageError when the store cannot be opened.
    """
    if url == "memory":
        return MemoryDocuments()
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "documents.url is not a URL; for example sqlite+aiosqlite:///data/nearhit.db"
        ) from None
    match parsed.drivername:
        case "sqlite+aiosqlite":
            return await open_sql(parsed, deadline)
        case "postgresql+asyncpg":
            _need_asyncpg()
            return await open_sql(parsed, deadline)
        case "redis" | "rediss":
            raise ValueError(
                "documents.url: a Redis store is not available yet; use sqlite+aiosqlite or memory"
            )
        case other:
            known = "sqlite+aiosqlite, postgresql+asyncpg or memory"
            raise ValueError(f"documents.url: {other} is not a document store; use {known}")


def _need_asyncpg() -> None:
    if find_spec("asyncpg") is None:
        raise StorageError("documents.url: PostgreSQL needs the driver: pip install asyncpg")
