"""The index from the documents, while calls are already served."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from time import perf_counter

from storage.base import Entry, Vector
from storage.buffered import BufferedDocuments
from storage.entries import Entries

AT_ONCE_S = 0.002
"""Before others run: adding one vector to a partition that grows can take as long."""


async def rebuild(
    documents: BufferedDocuments,
    entries: Entries,
    fingerprint: str,
    lifetime: Callable[[Entry], float],
    now: float,
    on_progress: Callable[[int], None] = lambda loaded: None,
    on_foreign: Callable[[str], None] = lambda id: None,
) -> int:
    """Fills `entries` with what is stored and not yet known, newest first; returns how many.

    Expired documents, and those that `entries` has no room for, are deleted. An entry whose vector comes
    from another embedder than `fingerprint` is found by its exact digest only, and its id is told. A batch is
    added in the moment in which the scan hands it over, so what is deleted or added meanwhile keeps its say.
    Raises StorageError.
    """
    # What is loaded stays, yet the cyclic collector would walk through all of it now and then, for 60 ms at
    # 100,000 entries; so it is told to leave it alone.
    loaded = 0

    def add(entry: Entry, vector: Vector | None) -> None:
        nonlocal loaded
        same = entries.by_exact(entry.exact)
        if entries.get(entry.id) or (same is not None and same.created >= entry.created):
            return
        if now - entry.created > lifetime(entry):
            documents.forget([entry.id])
            return
        known = vector is not None and entry.fingerprint == fingerprint and len(vector) == entries.dimensions
        left = entries.add(entry, vector if known else None, now)
        documents.forget([gone.id for gone in left])
        if not known and vector is not None:
            on_foreign(entry.id)
        loaded += 1

    since = perf_counter()
    async for batch in documents.scan():
        for entry, vector in batch:
            add(entry, vector)
        on_progress(loaded)
        if perf_counter() - since > AT_ONCE_S:
            gc.freeze()
            await asyncio.sleep(0)
            since = perf_counter()
    return loaded
