"""The index from the documents, while calls are already served."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Collection
from typing import Literal

from storage.base import Entry, Vector
from storage.breath import Breath, slices
from storage.documents.buffered import BufferedDocuments
from storage.index.entries import Entries
from storage.spread import Spread

DROPPED_AT_ONCE = 64
"""Takes a millisecond. 33,000 at once held up the loop for half a second."""


async def rebuild(
    documents: BufferedDocuments,
    entries: Entries,
    fingerprint: str,
    lifetime: Callable[[Entry], float],
    now: float,
    on_progress: Callable[[int], None] = lambda loaded: None,
    on_foreign: Callable[[str], None] = lambda id: None,
) -> int:
    """Fills `entries` with what is stored and not yet known, newest first, and in the end leaves out what was
    known and is not stored any more; returns how many were added.

    Each is taken in as by `take_in`, and the ids of those from another embedder are told. A batch is added in
    the moment in which the scan hands it over, so what is deleted or added meanwhile keeps its say. Raises
    StorageError.
    """
    loaded, breath = 0, Breath()
    missing = await _written(documents, entries)
    async for batch in documents.scan():
        for entry, vector in batch:
            missing.discard(entry.id)
            taken = take_in(documents, entries, fingerprint, lifetime, now, entry, vector)
            loaded += taken is not None
            if taken == "foreign":
                on_foreign(entry.id)
        on_progress(loaded)
        if await breath.take():
            # What is loaded stays, yet the cyclic collector would walk through all of it now and then, for
            # 60 ms at 100,000 entries; so it is told to leave it alone.
            gc.freeze()
    for some in slices(missing, DROPPED_AT_ONCE):
        drop(documents, entries, some)
        await asyncio.sleep(0)
    return loaded


async def _written(documents: BufferedDocuments, entries: Entries) -> Spread[str, None]:
    """Ids of the entries that are in the store, unless somebody else has deleted them there."""
    ids = Spread[str, None]()
    for some in slices(entries.ids()):
        for id in set(some).difference(documents.unwritten()):
            ids[id] = None
        await asyncio.sleep(0)
    return ids


def take_in(
    documents: BufferedDocuments,
    entries: Entries,
    fingerprint: str,
    lifetime: Callable[[Entry], float],
    now: float,
    entry: Entry,
    vector: Vector | None,
) -> Literal["ours", "foreign"] | None:
    """One that is stored. None when it is known, older than another answer to the same call, or expired.

    If it is expired, and where there is no room, documents are deleted. An entry whose vector comes from
    another embedder than `fingerprint` is found by its exact digest only.
    """
    same = entries.by_exact(entry.exact)
    if entries.get(entry.id) or (same is not None and same.created >= entry.created):
        return None
    if now - entry.created > lifetime(entry):
        documents.forget([entry.id])
        return None
    ours = (
        vector is not None and entry.fingerprint == fingerprint and len(vector) == entries.vectors.dimensions
    )
    left = entries.add(entry, vector if ours else None, now, known=True)
    documents.forget([gone.id for gone in left])
    return "ours" if ours or vector is None else "foreign"


def drop(documents: BufferedDocuments, entries: Entries, ids: Collection[str]) -> None:
    """What others have deleted."""
    for id in ids:
        entries.remove(id)
    documents.hide(ids)
