"""Making the cache forget."""

from __future__ import annotations

import asyncio
from collections import Counter

from embeddings.base import EmbeddingError, Vector
from proxy.admin import walk
from proxy.admin.errors import Unavailable
from proxy.admin.inputs import PurgeOrder
from proxy.admin.shown import Json
from proxy.admin.views import known_entry
from proxy.app import App
from storage.base import Entry, StorageError

LIKE_AT_MOST = 1000
"""Entries near a text that one purge takes out of one partition."""
EXAMPLES = 5
DURABLE_S = 15.0
"""For the store to delete what is purged; what takes longer is deleted after the answer."""


async def delete_entry(app: App, id: str) -> Json:
    return await _forget(app, [known_entry(app, id)])


async def purge(app: App, order: PurgeOrder) -> Json:
    if not app.progress.done:
        raise Unavailable(
            "the index is still loading, and what is not loaded yet would survive; try again in a moment"
        )
    found = await _matching(app, order)
    told = {
        "matched": len(found),
        "categories": dict(Counter(entry.category for entry in found).most_common()),
    }
    if order.dry_run:
        return {**told, "dry_run": True, "examples": [entry.text for entry in found[:EXAMPLES]]}
    return {**told, "dry_run": False, **await _forget(app, found)}


async def _matching(app: App, order: PurgeOrder) -> list[Entry]:
    now = app.clock()

    def meant(entry: Entry) -> bool:
        return (
            order.category in (None, entry.category)
            and order.model in (None, entry.model)
            and (order.tenant is None or entry.tenant.startswith(order.tenant))
            and (order.tag is None or order.tag in entry.tags)
            and (order.older_than is None or now - entry.created > order.older_than)
        )

    found: list[Entry] = []
    if order.like is None:
        async for some in walk.matching(app.cache.entries, meant):
            found += some
        return found
    vector = await _vector(app, order.like)
    async for near in walk.nearest(app.cache.entries, vector, LIKE_AT_MOST):
        found += [entry for cosine, entry in near if cosine >= order.threshold and meant(entry)]
    return found


async def _vector(app: App, text: str) -> Vector:
    try:
        return await app.cache.embed(text)
    except EmbeddingError as error:
        raise Unavailable(f"the text cannot be compared now: {error}") from error


async def _forget(app: App, found: list[Entry]) -> Json:
    """Nothing is served any more before the store is waited for. What it cannot delete now stays hidden, and
    is deleted as soon as it can."""
    ids = [entry.id for entry in found]
    purged, breath = 0, walk.Breath()
    for some in walk.slices(ids):  # taking them out of the index takes its time
        purged += app.cache.purge(some)
        await breath.take()
    problem = await _delete(app, ids)
    return {"purged": purged, "durable": not problem, "problem": problem}


async def _delete(app: App, ids: list[str]) -> str:
    """Why they are not all gone from the store; "" when they are."""
    try:
        async with asyncio.timeout(DURABLE_S):
            for some in walk.slices(ids):
                await app.cache.documents.delete(some)
    except StorageError as error:
        return str(error)
    except TimeoutError:
        return f"the document store did not delete everything within {DURABLE_S:g} s"
    return ""
