"""Going through a document store while nobody waits: what is past use goes, what has no vector of the
embedder in use gets one, what another key sealed than the first is sealed anew."""

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
    """That are there in the end."""
    embedded: int = 0
    expired: int = 0
    resealed: int = 0
    unreadable: int = 0
    """Damaged, or sealed with a key that is not among ours. They stay."""


async def rebuild(
    store: Documents, book: Book, embedder: Embedder, now: float, advance: Callable[[int], None]
) -> Rebuilt:
    """Raises `StorageError` and `EmbeddingError`; what was done stays done, and the next run goes on."""
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
    await store.scrub()  # also of what a run has left that ended before this
    done.unreadable = store.unreadable.damaged + store.unreadable.locked
    return done


def _kept(book: Book, entry: Entry) -> float:
    return kept(in_force(book.get(entry.category), pressure=1.0), entry.ttl)


def _is_foreign(entry: Entry, vector: Vector | None, embedder: Embedder) -> bool:
    """An entry without a vector has none because no model could read its text, or because it is no text."""
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
