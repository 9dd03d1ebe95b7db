"""Caches the vectors of recent texts: the same text often comes again, in another conversation or as a
question that was a semantic hit the first time.

The cache is per tenant. A new text takes milliseconds and a cached one microseconds, so a shared cache would
reveal what other tenants have asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from embeddings.base import Embedder, Matrix, Vector


class Remembered:
    """An `Embedder` that wraps another one. Holds at most `room` texts; with 384 dimensions, each takes 1.5
    kB plus the text itself."""

    def __init__(self, embedder: Embedder, room: int) -> None:
        self.fingerprint = embedder.fingerprint
        self.dimensions = embedder.dimensions
        self._embedder = embedder
        self._room = room
        self._vectors: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._hits = 0

    async def embed(self, text: str, tenant: str = "") -> Vector:
        key = tenant, text
        known = self._vectors.get(key)
        if known is not None:
            self._hits += 1
            self._vectors.move_to_end(key)
            return known
        vector = await self._embedder.embed(text, tenant)
        self._keep(key, vector)
        return vector

    async def embed_many(self, texts: Sequence[str]) -> Matrix:
        return await self._embedder.embed_many(texts)

    def stats(self) -> dict[str, Any]:
        return {**self._embedder.stats(), "remembered": len(self._vectors), "remembered_hits": self._hits}

    async def close(self) -> None:
        self._vectors.clear()
        await self._embedder.close()

    def _keep(self, key: tuple[str, str], vector: Vector) -> None:
        vector.flags.writeable = False  # from now on it is shared
        self._vectors[key] = vector
        if len(self._vectors) > self._room:
            self._vectors.popitem(last=False)
