"""Goes through a document store: deletes expired entries, re-embeds those of another embedding model, and
re-encrypts those that are not encrypted with the first key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embeddings.base import Embedder, TextTooLong, Vector
from policies.book import Book
from policies.decision import kept
from policies.model import in_force
from storage.base import Documents, Entry


@dataclass(slots=True)
class Rebuilt:
    entries: int = 0
    """Entries left at the end."""
    embedded: int = 0
    expired: int = 0
    resealed: int = 0
    unreadable: int = 0
    """Damaged, or encrypted with a key we do not have. They are left alone."""


async def rebuild(
    store: Documents, book: Book, embedder: Embedder, now: float, advance: Callable[[int], None]
) -> Rebuilt:
    """Raises `StorageError` and `EmbeddingError`. Work done so far is kept, and the next run continues.
    `advance` is told the number of entries after each step."""
    done = Rebuilt()
    async for batch in store.scan():
        expired = [entry.id for entry, _ in batch if now - entry.created > _kept(book, entry)]
        await store.delete(expired)
        left = [(entry, vector) for entry, vector in batch if entry.id not in expired]
        foreign = [entry for entry, vector in left if _is_foreign(entry, vector, embedder)]
        await _embed(store, embedder, foreign)
        done.resealed += await store.reseal([entry.id for entry, _ in left])
        done.entries += len(left)
        done.expired += len(expired)
        done.embedded += len(foreign)
        advance(len(batch))
    await store.scrub()  # also for an earlier run that was interrupted before this
    done.unreadable = store.unreadable.damaged + store.unreadable.locked
    return done


def _kept(book: Book, entry: Entry) -> float:
    return kept(in_force(book.get(entry.category), pressure=1.0), entry.ttl)


def _is_foreign(entry: Entry, vector: Vector | None, embedder: Embedder) -> bool:
    """Whether the entry must be re-embedded. One without a vector need not: it is too long, or has no
    text."""
    return vector is not None and (
        entry.fingerprint != embedder.fingerprint or len(vector) != embedder.dimensions
    )


async def _embed(store: Documents, embedder: Embedder, entries: Sequence[Entry]) -> None:
    vectors = await asyncio.gather(*(_vector(embedder, entry.text) for entry in entries))
    known = {e.id: vector for e, vector in zip(entries, vectors, strict=True) if vector is not None}
    await store.revector(embedder.fingerprint, known)
    await store.revector("", {entry.id: None for entry in entries if entry.id not in known})


async def _vector(embedder: Embedder, text: str) -> Vector | None:
    try:
        return await embedder.embed(text)
    except TextTooLong:
        return None
