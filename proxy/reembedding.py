"""Re-embeds entries of another embedding model with the one in use, in the background.

Until then an entry can only be found by its exact digest, so vectors of two models are never compared.
Vectors are written to the store after every few entries, so a restart continues where this stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import perf_counter

from embeddings.base import EmbeddingError, TextTooLong, Vector
from proxy.cache import Cache
from storage.base import Entry, StorageError

log = logging.getLogger("nearhit.reembedding")

AT_ONCE = 16
PAUSE_S = 5.0
"""Pause after a failure of the embedder or the store."""


async def reembed(cache: Cache, ids: Sequence[str], on_progress: Callable[[int], None]) -> None:
    """`on_progress` is told how many entries are left."""
    if ids:
        log.info("%d entries come from another embedding model and are re-embedded", len(ids))
    for start in range(0, len(ids), AT_ONCE):
        on_progress(len(ids) - start)
        started = perf_counter()
        await _until_it_works(cache, ids[start : start + AT_ONCE])
        await asyncio.sleep(perf_counter() - started)  # leaves the encoder to calls half of the time
    on_progress(0)


async def _until_it_works(cache: Cache, ids: Sequence[str]) -> None:
    while True:
        try:
            await _some(cache, ids)
        except (EmbeddingError, StorageError) as error:
            log.warning("re-embedding stored questions failed, next try in %g s: %s", PAUSE_S, error)
            await asyncio.sleep(PAUSE_S)
        else:
            return


async def _some(cache: Cache, ids: Sequence[str]) -> None:
    entries = [entry for id in ids if (entry := cache.entries.get(id)) is not None]
    vectors = {entry.id: await _vector(cache, entry) for entry in entries}
    known = {id: vector for id, vector in vectors.items() if vector is not None}
    await cache.documents.revector(cache.embedder.fingerprint, known)
    await cache.documents.revector("", dict.fromkeys(vectors.keys() - known.keys()))
    for id, vector in known.items():
        cache.entries.give_vector(id, cache.embedder.fingerprint, vector)


async def _vector(cache: Cache, entry: Entry) -> Vector | None:
    """None: too long for this model, so only the exact tier will find it."""
    try:
        return await cache.embed(entry.text)
    except TextTooLong:
        return None
