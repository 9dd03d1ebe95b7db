"""The read-only views of the admin plane, and the reloads."""

from __future__ import annotations

import json
from heapq import nlargest
from itertools import islice
from typing import Any

from embeddings.base import EmbeddingError
from policies.errors import ConfigError
from policies.located import nearest as nearest_name
from proxy.admin import shown, walk
from proxy.admin.errors import NotFound, Refusal, Unavailable, Unprocessable
from proxy.admin.inputs import Listing, Recent, Window
from proxy.admin.shown import VERSION, Json, Written
from proxy.app import App
from proxy.cache import Cache
from proxy.telemetry import history
from storage.base import Entry, StorageError
from storage.breath import Breath
from storage.index.entries import CategoryUsage

TOTAL = ""
"""Name for the sum of all categories; no category can have it."""


async def healthz(app: App) -> Json:
    return {"status": "alive"}


async def readyz(app: App) -> Json:
    """Always ready once it answers: calls pass through until the index has loaded."""
    documents, warm_up = app.cache.documents.stats(), app.warm_up
    return {
        "status": "ready",
        "index": {
            "loaded": warm_up.loaded,
            "done": warm_up.done,
            "failed": warm_up.failed,
            "to_embed": warm_up.to_embed,
        },
        "vectors": _elsewhere(app),
        "embedder": {"fingerprint": app.cache.embedder.fingerprint, **app.cache.embedder.stats()},
        "documents": documents,
        "replication": app.replication.stats() if app.replication else None,
        "categories": {
            "version": app.cache.rules.book.version,
            "reloading": app.categories.reloading,
            "reload_error": app.categories.error,
        },
        "degraded": _degraded(app, documents),
    }


def _elsewhere(app: App) -> Json | None:
    """The state of the vectors, if they are not kept in memory."""
    vectors = app.cache.entries.vectors
    return None if vectors.complete else vectors.stats()


def _degraded(app: App, documents: Json) -> list[str]:
    """One line for each part that does less than it should."""
    embedder, vectors = app.cache.embedder.stats(), _elsewhere(app) or {}
    lines = {
        "index: still loading, so stored answers may be missed": not app.warm_up.done,
        f"index: not loaded from the documents: {app.warm_up.failed}": bool(app.warm_up.failed),
        f"index: {app.warm_up.to_embed} entries of another embedding model are being re-embedded; until then"
        " they can only be exact hits": bool(app.warm_up.to_embed),
        "index: the database with the vectors fails, exact hits only": vectors.get("breaker") == "open",
        f"index: the database may lack vectors: {vectors.get('trouble')}": not vectors.get("current", True),
        f"index: large partitions are read whole, no graph was built: {vectors.get('graph_trouble')}": bool(
            vectors.get("graph_trouble")
        ),
        "documents: the store fails, stored answers are misses": documents["breaker"] == "open",
        f"documents: the store accepts no writes, will try again: {documents['write_trouble']}": bool(
            documents["write_trouble"]
        ),
        "replication: no contact with the other replicas, this one works alone": app.replication is not None
        and not app.replication.current,
        "embedder: no worker is alive, exact hits only": embedder.get("workers", 1) == 0,
        "categories: changed files are being loaded and their examples embedded; until then the old ones"
        " are in force": app.categories.reloading,
        f"categories: {'; '.join(app.categories.error.splitlines())}": bool(app.categories.error),
        f"classifier: {app.cache.rules.classifier.note}": bool(app.cache.rules.classifier.note),
    }
    return [line for line, holds in lines.items() if holds]


async def stats(app: App) -> Json:
    usage, tallies = app.cache.entries.usage(), app.ledger.tallies
    held, names = usage["categories"], sorted({*usage["categories"], *tallies})
    rows = {name: {**shown.tally(tallies[name]), **_room(held.get(name))} for name in names}
    for name in rows.keys() & app.cache.rules.book.categories.keys():
        rows[name]["audit"] = shown.estimate(app.cache.rules.book.get(name), app.cache)
        rows[name]["economics"] = shown.economics(app.cache.rules.book.get(name), app)
    return {
        "version": VERSION,
        "uptime": app.clock() - app.started,
        "in_flight": app.data_plane.in_flight,
        "entries": usage["entries"],
        "bytes": usage["bytes"],
        "capacity": usage["capacity"],
        "capacity_bytes": usage["capacity_bytes"],
        "currency": app.economy.prices.currency,
        "overall": shown.total(list(tallies.values())),
        "categories": rows,
    }


def _room(used: CategoryUsage | None) -> Json:
    return {"entries": used["entries"] if used else 0, "bytes": used["bytes"] if used else 0}


async def stats_history(app: App, given: Window) -> Json:
    """Only buckets with calls; the last one is still open."""

    def group(name: str) -> str | None:
        if given.category not in (None, name):
            return None
        return TOTAL if given.total else name

    now, breath = app.clock(), Breath()
    step, buckets = await app.history.since(now, given.window, group)
    found = list[Json]()
    for start, rows in buckets:
        told = {name: history.shown(row) for name, row in rows.items()}
        found.append({"start": start, **({"total": told[TOTAL]} if given.total else {"categories": told})})
        await breath.take()
    return {
        "at": now,
        "step": step,
        "currency": app.economy.prices.currency,
        "latency_edges_ms": history.EDGES_MS,
        "buckets": found,
    }


async def economics(app: App) -> Json:
    prices, book = app.economy.prices, app.cache.rules.book
    return {
        "prices": {"as_of": prices.as_of.isoformat(), "currency": prices.currency},
        "categories": {name: shown.economics(each, app) for name, each in book.categories.items()},
    }


async def categories(app: App) -> Json:
    book = app.cache.rules.book
    return {
        "version": book.version,
        "categories": [shown.category(each, app) for each in book.categories.values()],
    }


async def category(app: App, name: str) -> Json:
    check_category(app.cache, name, NotFound)
    return shown.category(app.cache.rules.book.categories[name], app)


def check_category(cache: Cache, name: str, error: type[Refusal] = Refusal) -> None:
    """Raises `error` if there is no category of that name."""
    known = cache.rules.book.categories
    if name not in known:
        raise error(f"no category {name!r}; {nearest_name(name, list(known))}")


async def load(app: App) -> Json:
    book = app.cache.rules.book
    return {
        "pressure": app.load.highest,
        "upstreams": app.fleet.shown(),
        "renewals_held_back": app.renewals.held_back,
        "categories": {each.name: shown.bent(each, app) for each in book.categories.values()},
    }


async def recent(app: App, given: Recent) -> Json:
    return {"calls": [shown.report(each) for each in islice(reversed(app.ledger.recent), given.limit)]}


async def entries(app: App, given: Listing) -> Json:
    """Newest first."""
    if given.q is not None and not app.settings.admin.show_text:
        raise Refusal("q: texts are hidden (admin.show_text), and a search could reveal them")
    part = (given.q or "").casefold()

    def wanted(entry: Entry) -> bool:
        return given.category in (None, entry.category) and part in entry.text.casefold()

    matched, newest = 0, list[Entry]()
    async for found in walk.matching(app.cache.entries, wanted):
        if found:
            matched += len(found)
            newest = nlargest(given.limit, [*newest, *found], key=lambda entry: entry.created)
    now = app.clock()
    return {"matched": matched, "entries": [shown.entry(each, app.cache, now) for each in newest]}


async def entry(app: App, id: str) -> Json:
    found = known_entry(app, id)
    body, problem = await _body(app, id)
    return {**shown.entry(found, app.cache, app.clock()), "body": Written(body), "problem": problem}


def known_entry(app: App, id: str) -> Entry:
    found = app.cache.entries.get(id)
    if found is None:
        raise NotFound(f"no entry {id!r}; GET /api/v1/entries lists them")
    return found


async def _body(app: App, id: str) -> tuple[Any, str]:
    """The answer as JSON, or None and the reason. Not read through the cache, so it does not count as a
    hit."""
    try:
        body = await app.cache.documents.load(id)
    except StorageError as error:
        return None, str(error)
    if body is None:
        return None, "the document is lost"
    return json.loads(body), ""


async def reread(app: App) -> Json:
    """Returns at once; readyz shows the progress."""
    return {"started": app.warm_up.reread()}


async def reload(app: App) -> Json:
    try:
        await app.categories.reload()
    except EmbeddingError as error:
        raise Unavailable(
            f"the categories stay as they were: their examples cannot be embedded: {error}"
        ) from None
    except ConfigError as error:
        lines = "; ".join(str(error).splitlines())
        raise Unprocessable(f"the categories stay as they were: {lines}") from None
    book = app.cache.rules.book
    return {"version": book.version, "categories": list(book.categories)}
