"""Stand-ins for parts whose real selves are tested elsewhere."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from embeddings.base import EmbedderFailed, Matrix, TextTooLong, Vector

DIMENSIONS = 256


class WordEmbedder:
    """Texts are as near as the words they share: of n words all but one gives a cosine of about (n − 1)/n."""

    fingerprint = "words"
    dimensions = DIMENSIONS

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def embed(self, text: str, tenant: str = "") -> Vector:
        self.asked.append(text)
        await self.gate.wait()
        if self.broken:
            raise EmbedderFailed("broken on purpose")
        if len(text) > 2000:
            raise TextTooLong("longer than the model reads")
        return _vector(text)

    async def embed_many(self, texts: Sequence[str]) -> Matrix:
        return np.stack([_vector(text) for text in texts]) if texts else np.zeros((0, DIMENSIONS), np.float32)

    def stats(self) -> dict[str, Any]:
        return {}

    async def close(self) -> None:
        pass


def _vector(text: str) -> Vector:
    words = sorted(set(text.lower().split())) or [""]
    total = np.sum([_direction(word) for word in words], axis=0)
    unit: Vector = (total / np.linalg.norm(total)).astype(np.float32)
    return unit


def _direction(word: str) -> Vector:
    drawn = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIMENSIONS)
    unit: Vector = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    return unit


class Clock:
    """Starts at a given Unix second and moves when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
