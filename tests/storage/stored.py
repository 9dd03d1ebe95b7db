"""Entries, documents and vectors for tests, and a store that fails or hangs on demand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import numpy as np

from storage.base import Document, Entry, StorageError, Vector
from storage.documents.memory import MemoryDocuments

DIMENSIONS = 16


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def make_entry(id: str = "a", **fields: Any) -> Entry:
    known: dict[str, Any] = {
        "id": id,
        "exact": digest(id),
        "partition": digest("partition"),
        "fingerprint": "test",
        "category": "code",
        "text": f"question {id}",
        "created": 1_000.0,
        "dialect": "openai",
        "model": "demo",
        "tenant": "shared",
    }
    return Entry(**(known | fields))


def make_document(id: str = "a", body: bytes = b"answer", **fields: Any) -> Document:
    entry = make_entry(id, size=len(body), **fields)
    return Document(entry, unit(id), body)


def unit(seed: str | int, dimensions: int = DIMENSIONS) -> Vector:
    numbers = np.random.default_rng(list(str(seed).encode())).normal(size=dimensions)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def clustered(count: int, dimensions: int, seed: int = 0) -> Vector:
    """Unit rows around centres, as questions lie around topics."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, count // 20), dimensions))
    rows = centres[random.integers(0, len(centres), count)] + 0.4 * random.normal(size=(count, dimensions))
    unit_rows: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit_rows


class Troubled(MemoryDocuments):
    """Fails while `broken`, refuses `poison`, hangs while `flowing` is clear."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.poison: set[str] = set()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.inside = asyncio.Event()
        self.loads = 0
        self.closed = False

    async def _trouble(self) -> None:
        self.inside.set()
        await self.flowing.wait()
        if self.broken:
            raise StorageError("broken on purpose")

    async def save(self, documents: Sequence[Document]) -> None:
        await self._trouble()
        if any(document.entry.id in self.poison for document in documents):
            raise StorageError("poison")
        await super().save(documents)

    async def load(self, id: str) -> bytes | None:
        self.loads += 1
        found = await super().load(id)
        await self._trouble()
        return found

    async def load_many(self, ids: Sequence[str]) -> dict[str, bytes]:
        self.loads += 1
        found = await super().load_many(ids)
        await self._trouble()
        return found

    async def delete(self, ids: Iterable[str]) -> None:
        await self._trouble()
        await super().delete(ids)

    async def close(self) -> None:
        self.closed = True


async def everything(documents: Any) -> dict[str, tuple[Entry, Vector | None]]:
    batches: AsyncIterator[list[tuple[Entry, Vector | None]]] = documents.scan()
    return {entry.id: (entry, vector) async for batch in batches for entry, vector in batch}
