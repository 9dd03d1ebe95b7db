"""Purges: deletes entries for good.

A purge is answered once it is durable: the entries are deleted from the store, their vectors wherever they
are kept, and no file of the store contains a byte of them. Until the index has loaded, the store is searched
as well.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from embeddings.base import EmbeddingError, TextTooLong, Vector
from proxy.admin import walk
from proxy.admin.errors import Refusal, Unavailable
from proxy.admin.inputs import PurgeOrder
from proxy.admin.shown import Json, Written
from proxy.admin.views import check_category, known_entry
from proxy.app import App
from proxy.messages import TENANT_SHOWN
from proxy.telemetry.report import Report
from storage.base import Entry, StorageError
from storage.breath import Breath, slices

LIKE_AT_MOST = 1000
"""Most entries similar to a text that one purge deletes from one partition."""
EXAMPLES = 5
DURABLE_S = 15.0
"""Time for the store to delete what is purged. If it takes longer, it goes on after the answer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order at one moment, as predicates for entries and reports."""

    order: PurgeOrder
    now: float
    vector: Vector | None

    def entry(self, entry: Entry) -> bool:
        order = self.order
        return (
            order.category in (None, entry.category)
            and order.model in (None, entry.model)
            and order.namespace in (None, entry.namespace)
            and (order.tenant is None or entry.tenant.startswith(order.tenant))
            and (order.tag is None or order.tag in entry.tags)
            and (order.older_than is None or self.now - entry.created > order.older_than)
        )

    def stored(self, entry: Entry, vector: Vector | None) -> bool:
        if self.vector is None:
            return self.entry(entry)
        near = vector is not None and float(vector @ self.vector) >= self.order.threshold
        return near and self.entry(entry)

    def report(self, report: Report) -> bool:
        """Whether the order applies to a call, even one that stored nothing, as far as a report can tell."""
        order = self.order
        return (
            (order.tag, order.namespace, order.like) == (None, None, None)
            and order.category in (None, report.category)
            and order.model in (None, report.model)
            and (order.tenant is None or report.tenant.startswith(order.tenant[:TENANT_SHOWN]))
            and (order.older_than is None or self.now - report.at > order.older_than)
        )


async def delete_entry(app: App, id: str) -> Json:
    found = {id: known_entry(app, id)}
    app.cache.begin_purge()
    await _hide_all(app, found)
    return await _settled(app, found, await _tell_others(app))


async def purge(app: App, order: PurgeOrder) -> Json:
    vector = await _vector(app, order.like) if order.like is not None else None
    wanted = Wanted(order, app.clock(), vector)
    if order.dry_run:
        found = await _in_memory(app, wanted) | await _in_store(app, wanted)
        _check_name(app, order, found)
        return {
            **_told(found),
            "dry_run": True,
            "examples": Written([e.text for e in list(found.values())[:EXAMPLES]]),
        }
    app.cache.begin_purge()
    app.ledger.forget(wanted.report)
    found = await _in_memory(app, wanted)
    await _hide_all(app, found)
    untold = await _tell_others(app)
    found |= await _in_store(app, wanted)
    await _hide_all(app, found)
    settled = await _settled(app, found, untold)
    _check_name(app, order, found)
    return {**_told(found), "dry_run": False, **settled}


def _check_name(app: App, order: PurgeOrder, found: dict[str, Entry]) -> None:
    """Raises `Refusal` for an unknown category. Only after the search, as a removed category may still have
    answers."""
    if order.category is not None and not found:
        check_category(app.cache, order.category)


def _told(found: dict[str, Entry]) -> Json:
    categories = Counter(entry.category for entry in found.values())
    return {"matched": len(found), "categories": dict(categories.most_common())}


async def _in_memory(app: App, wanted: Wanted) -> dict[str, Entry]:
    """The matching entries in memory. If the vectors are kept elsewhere, `like` is searched in the store, and
    here only among the entries that it does not have yet."""
    if wanted.vector is None:
        walked = walk.matching(app.cache.entries, wanted.entry)
        return {entry.id: entry async for some in walked for entry in some}
    if not app.cache.entries.vectors.complete:
        waiting = app.cache.documents.unwritten().values()
        return {each.entry.id: each.entry for each in waiting if wanted.stored(each.entry, each.vector)}
    partitions = app.cache.entries.vectors.partitions()
    nearest = walk.nearest(app.cache.entries, partitions, wanted.vector, LIKE_AT_MOST)
    return {
        entry.id: entry
        async for near in nearest
        for cosine, entry in near
        if cosine >= wanted.order.threshold and wanted.entry(entry)
    }


async def _in_store(app: App, wanted: Wanted) -> dict[str, Entry]:
    """The matching entries in the store that memory may lack: not loaded yet, known only to another replica,
    or without a comparable vector. Raises `Unavailable` if they cannot be read or compared now."""
    whole = app.warm_up.done and app.replication is None
    comparable = app.cache.entries.vectors.complete and not app.warm_up.to_embed
    if whole and (wanted.vector is None or comparable):
        return {}
    found, current, breath = dict[str, Entry](), app.cache.embedder.fingerprint, Breath()
    try:
        async for batch in app.cache.documents.scan():
            if wanted.vector is not None and any(e.fingerprint not in ("", current) for e, _ in batch):
                raise Unavailable(
                    "answers of another embedding model cannot be compared yet; try again later"
                )
            found.update((entry.id, entry) for entry, vector in batch if wanted.stored(entry, vector))
            await breath.take()
    except StorageError as error:
        raise Unavailable(f"the entries that are not loaded yet could not be searched: {error}") from error
    return found


async def _vector(app: App, text: str) -> Vector:
    try:
        return await app.cache.embed(text)
    except TextTooLong as error:
        raise Refusal(f"like: {error}") from error
    except EmbeddingError as error:
        raise Unavailable(f"the text cannot be compared now: {error}") from error


async def _hide_all(app: App, found: dict[str, Entry]) -> None:
    """Removes the entries from memory, so that they are no longer served while the store deletes them."""
    breath = Breath()
    for some in slices(found.values()):  # removing many from the index takes a while
        app.cache.purge([entry.id for entry in some])
        app.cache.entries.vectors.condemn(some)
        await breath.take()
    gone = found.keys()
    app.ledger.forget(lambda report: report.entry_id in gone)


async def _tell_others(app: App) -> str:
    """Announces the purge before the store is searched, so that the other replicas no longer add answers to
    calls that began before it. Returns why that failed, or ""."""
    try:
        if app.replication is not None:
            await app.replication.begin_purge()
    except StorageError as error:
        return str(error)
    return ""


async def _settled(app: App, purged: dict[str, Entry], untold: str) -> Json:
    """Waits until the entries are deleted for good on every replica. Raises `Unavailable` if that is not
    certain."""
    try:
        async with asyncio.timeout(DURABLE_S):
            await app.cache.documents.settle_deletions()
            await app.cache.entries.vectors.settle()
            if untold:
                raise StorageError(untold)
            if app.replication is not None:
                await app.replication.end_purge()
    except (StorageError, TimeoutError) as error:
        why = str(error) or f"not everything was deleted within {DURABLE_S:g} s"
        raise Unavailable(
            f"{len(purged)} entries are hidden from the callers of this proxy but not yet deleted for good"
            f" everywhere ({why}); a restart may bring them back: purge again until this succeeds"
        ) from error
    return {"purged": len(purged), "durable": True}
