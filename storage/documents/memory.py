"""Documents in a dictionary: for tests, and for a cache that forgets everything when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from storage.base import Document, Stored, Unreadable, Vector
from storage.breath import slices

SCAN_BATCH = 128


class MemoryDocuments:
    def __init__(self) -> None:
        self._by_id: dict[str, Document] = {}
        self._by_exact: dict[bytes, str] = {}
        self.unreadable = Unreadable()

    async def save(self, documents: Sequence[Document]) -> None:
        for document in documents:
            self._discard(document.entry.id)
            self._discard(self._by_exact.get(document.entry.exact))
            self._by_id[document.entry.id] = document
            self._by_exact[document.entry.exact] = document.entry.id

    async def load(self, id: str) -> bytes | None:
        document = self._by_id.get(id)
        return document.body if document else None

    async def load_many(self, ids: Sequence[str]) -> dict[str, bytes]:
        return {id: self._by_id[id].body for id in ids if id in self._by_id}

    async def entries(self, ids: Sequence[str]) -> list[Stored]:
        stored = [self._by_id[id] for id in ids if id in self._by_id]
        return [(document.entry, document.vector) for document in stored]

    async def delete(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._discard(id)

    async def scrub(self) -> None:
        return None

    async def revector(self, fingerprint: str, vectors: Mapping[str, Vector | None]) -> None:
        for id in vectors.keys() & self._by_id.keys():
            self._by_id[id].entry.fingerprint = fingerprint
            self._by_id[id].vector = vectors[id]

    async def reseal(self, ids: Sequence[str]) -> int:
        return 0

    async def scan(self) -> AsyncIterator[list[Stored]]:
        for ids in slices(list(reversed(self._by_id)), SCAN_BATCH):
            yield await self.entries(ids)

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _discard(self, id: str | None) -> None:
        document = self._by_id.pop(id, None) if id is not None else None
        if document is not None:
            del self._by_exact[document.entry.exact]
