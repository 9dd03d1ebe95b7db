from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from embeddings.base import EmbedderOverloaded, Matrix, Vector
from embeddings.remembered import Remembered


class Counting:
    fingerprint = "counting"
    dimensions = 1

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False

    async def embed(self, text: str, tenant: str = "") -> Vector:
        self.asked.append(text)
        if text == "too much":
            raise EmbedderOverloaded
        return np.array([len(self.asked)], np.float32)

    async def embed_many(self, texts: Sequence[str]) -> Matrix:
        return np.zeros((len(texts), 1), np.float32)

    def stats(self) -> dict[str, Any]:
        return {"queue": 0}

    async def close(self) -> None:
        self.closed = True


async def test_a_text_is_embedded_once() -> None:
    inner = Counting()
    embedder = Remembered(inner, room=10)
    first = await embedder.embed("hello")
    assert await embedder.embed("hello") is first
    assert inner.asked == ["hello"]
    assert embedder.stats() == {"queue": 0, "remembered": 1, "remembered_hits": 1}


async def test_the_same_text_of_another_tenant_is_embedded_anew() -> None:
    """Else its time would tell one of them what the other asked."""
    inner = Counting()
    embedder = Remembered(inner, room=10)
    for tenant in ("one", "two", "", "one", "two", ""):
        await embedder.embed("hello", tenant)
    assert inner.asked == ["hello"] * 3


async def test_the_text_used_least_recently_goes_first() -> None:
    inner = Counting()
    embedder = Remembered(inner, room=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await embedder.embed(text)
    assert inner.asked == ["a", "b", "c", "b"]
    assert embedder.stats()["remembered"] == 2


async def test_an_error_is_not_remembered() -> None:
    inner = Counting()
    embedder = Remembered(inner, room=2)
    for _ in range(2):
        with pytest.raises(EmbedderOverloaded):
            await embedder.embed("too much")
    assert len(inner.asked) == 2


async def test_a_shared_vector_cannot_be_written_to() -> None:
    embedder = Remembered(Counting(), room=2)
    vector = await embedder.embed("a")
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 5


async def test_the_same_text_twice_at_once_is_kept_once() -> None:
    embedder = Remembered(Counting(), room=2)
    await asyncio.gather(embedder.embed("a"), embedder.embed("a"))
    assert embedder.stats()["remembered"] == 1


async def test_bulk_and_close_go_through() -> None:
    inner = Counting()
    embedder = Remembered(inner, room=2)
    assert (await embedder.embed_many(["a", "b"])).shape == (2, 1)
    await embedder.close()
    assert inner.closed
