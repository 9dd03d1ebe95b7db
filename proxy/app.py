"""The composition root: builds every part from the settings, starts it, and closes all in reverse order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from embeddings.base import Embedder
from embeddings.opening import open_embedder
from policies.admission import Limit
from policies.prices import Prices
from proxy import header_bytes
from proxy.answers import AnswerOptions
from proxy.auditing import Auditor
from proxy.batches import Batches
from proxy.cache import SIMULATED, Cache, Rules
from proxy.categories import Categories, stamps
from proxy.controls import Permits
from proxy.economy import Economy
from proxy.exchange import Exchange
from proxy.forwarding import Forwarder
from proxy.judge import Judge
from proxy.renewals import Renewals
from proxy.server import DataPlane, Limits
from proxy.settings import NamedUpstream, Settings
from proxy.settings_sources import upstream_keys
from proxy.sharing import Sharing
from proxy.tasks import Tasks, Work
from proxy.telemetry.history import History, HistoryFile
from proxy.telemetry.ledger import Ledger
from proxy.telemetry.logs import log_call
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recording import Recorder
from proxy.telemetry.tracing import open_tracing
from proxy.upstreams.fleet import Backend, Fleet
from proxy.upstreams.limits import Admission
from proxy.upstreams.load import Load, UpstreamLoad
from proxy.upstreams.scraper import Names, Scraper
from proxy.upstreams.upstream import Deadlines, Retry, Upstream
from proxy.warming import WarmUp
from storage.base import Documents, StorageError
from storage.documents.buffered import BufferedDocuments
from storage.documents.claim import claim
from storage.documents.keys import read_key
from storage.opening import open_documents, open_vectors

if TYPE_CHECKING:
    from storage.replication.changes import Replication

log = logging.getLogger("nearhit.app")

Clock = Callable[[], float]

SWEEP_EVERY_S = 1.0
SWEEP_ENTRIES = 500
"""Entries looked at in each sweep: 100,000 are seen in under four minutes."""
FREEZE_AFTER = 10_000
"""New entries after which the garbage collector is told to ignore all existing objects (`gc.freeze`), as
traversing 100,000 entries holds up every call for 40 to 75 ms."""


@dataclass(kw_only=True)
class App:
    settings: Settings
    cache: Cache
    categories: Categories
    fleet: Fleet
    load: Load
    forwarder: Forwarder
    auditor: Auditor
    renewals: Renewals
    ledger: Ledger
    metrics: Metrics
    economy: Economy
    history: History
    warm_up: WarmUp
    tasks: Tasks
    clock: Clock
    started: float
    recorder: Recorder | None
    replication: Replication | None
    data_plane: DataPlane = field(init=False)
    """Built from the other parts."""


@asynccontextmanager
async def open_app(
    settings: Settings, upstream_url: str, clock: Clock = time.time, embedder: Embedder | None = None
) -> AsyncIterator[App]:
    """Everything but the listening sockets. `upstream_url`: of the upstream, if the settings name none.
    Raises `ConfigError`, `StorageError`, and what `open_embedder` raises."""
    header_bytes.keep()
    async with AsyncExitStack() as stack:
        app = await _open_parts(settings, upstream_url, clock, embedder, stack)
        await app.history.load(clock())
        background = [app.tasks.keep(work, name) for name, work in _background(app, upstream_url).items()]
        try:
            yield app
        finally:
            app.ledger.settle()
            await app.history.close(clock())
            for task in background:
                task.cancel()


async def _open_parts(
    settings: Settings, upstream_url: str, clock: Clock, embedder: Embedder | None, stack: AsyncExitStack
) -> App:
    kinds = await stack.enter_async_context(open_tracing(settings.tracing.endpoint))
    if embedder is None:
        embedder = await asyncio.to_thread(_open_embedder, settings)
    stack.push_async_callback(embedder.close)
    files = await asyncio.to_thread(stamps, settings.categories)  # before reading them, to miss no change
    rules = await Rules.read(settings.categories, embedder)
    prices = await asyncio.to_thread(Prices.read, settings.prices)
    cache = await _open_cache(settings, rules, embedder, kinds.cache, stack)
    replication = _replication(settings, cache)
    if replication is not None:
        stack.push_async_callback(replication.close)
    stack.push_async_callback(cache.documents.close)
    metrics = Metrics()
    fleet = make_fleet(settings.fleet(upstream_url), os.environ, metrics.waited, kinds.upstream)
    stack.push_async_callback(fleet.close)
    judge = await asyncio.to_thread(Judge, settings.judge) if settings.judge.url else None
    if judge is not None:
        stack.push_async_callback(judge.close)
    # Pushed last and so closed first: the answers to calls in flight still need to be stored.
    tasks = Tasks()
    stack.push_async_callback(tasks.close)
    load = Load(*(backend.load for backend in fleet.backends.values()), of=fleet.load_of)
    cache.pressure = load.level
    forwarder = Forwarder(
        cache, fleet, tasks, clock, settings.limits.answer_bytes, settings.upstream.finish_share
    )
    economy = Economy(cache, prices)
    history = History(lambda: cache.audits.verdicts, clock(), _history_file(settings))
    app = App(
        settings=settings,
        cache=cache,
        categories=Categories(settings.categories, files, cache),
        fleet=fleet,
        load=load,
        forwarder=forwarder,
        auditor=Auditor(cache, forwarder, tasks, clock, judge, settings.audit.pairs),
        renewals=Renewals(cache, forwarder, tasks),
        ledger=Ledger(metrics.observe, log_call, economy.observe, history.observe),
        metrics=metrics,
        economy=economy,
        history=history,
        warm_up=WarmUp(cache, tasks, clock, replication),
        tasks=tasks,
        clock=clock,
        started=clock(),
        recorder=Recorder(settings.log.trace, cache.entries.get) if settings.log.trace else None,
        replication=replication,
    )
    app.data_plane = _data_plane(app, kinds.data_plane)
    if replication is not None:
        _connect(replication, app)
    return app


async def _open_cache(
    settings: Settings, rules: Rules, embedder: Embedder, kind: type[Cache], stack: AsyncExitStack
) -> Cache:
    """The caller must close `Cache.documents`. Raises `StorageError`."""
    stack.enter_context(await asyncio.to_thread(claim, settings.documents.url))
    documents = BufferedDocuments(await open_store(settings), hot_bytes=settings.documents.hot_bytes)
    index, room = settings.index, settings.capacity
    vectors = await stack.enter_async_context(
        open_vectors(index.url, index.deadline, embedder.dimensions, embedder.fingerprint, documents)
    )
    cache = kind(rules, embedder, documents, room.entries, room.bytes, vectors=vectors)
    cache.provenance = SIMULATED if settings.simulated else ""
    documents.on_lost = cache.lost
    return cache


async def open_store(settings: Settings) -> Documents:
    """Raises `StorageError`."""
    keys = [read_key(key.get_secret_value()) for key in settings.documents.keys]
    return await open_documents(settings.documents.url, keys=keys)


def _open_embedder(settings: Settings) -> Embedder:
    chosen = settings.embedding
    return open_embedder(
        chosen.kind, chosen.model or "", chosen.device, queue=chosen.queue, deadline_s=chosen.deadline
    )


def _data_plane(app: App, kind: type[DataPlane]) -> DataPlane:
    settings, limits = app.settings, app.settings.limits
    options = AnswerOptions(
        settings.expose_scores,
        settings.upstream.stale_after,
        settings.replay.tokens_per_second,
        settings.upstream.queue_keep_alive,
    )
    sharing = Sharing(app.replication.leases, app.tasks) if app.replication is not None else None
    return kind(
        Exchange(app.cache, app.forwarder, app.auditor, app.renewals, options, sharing),
        Batches(app.cache, app.forwarder, app.tasks, limits.answer_bytes, settings.expose_scores),
        app.cache,
        app.fleet,
        Limits(limits.in_flight, limits.body_bytes, limits.parse_bytes),
        settings.tenancy.header,
        settings.tenancy.anonymous == "share",
        app.clock,
        app.ledger.publish,
        app.recorder.note if app.recorder else None,
        Permits(settings.controls.allow, settings.controls.trusted),
    )


def _replication(settings: Settings, cache: Cache) -> Replication | None:
    """Raises `StorageError` if the driver is not installed."""
    chosen = settings.replication
    if chosen.url is None:
        return None
    if find_spec("redis") is None:
        raise StorageError("replication.url: Redis needs the driver: pip install redis")
    from storage.replication.changes import Replication

    lease_s = None if chosen.lease == "off" else chosen.lease
    return Replication(chosen.url, cache.documents, cache.entries, lease_s)


def _connect(replication: Replication, app: App) -> None:
    """Applies here what other replicas store, delete and purge."""

    def drop(ids: Sequence[str]) -> None:
        app.cache.dropped(ids)
        gone = set(ids)
        app.ledger.forget(lambda report: report.entry_id in gone)

    def purging() -> None:
        app.cache.begin_purge()
        app.ledger.forget(lambda report: True)  # the announcement does not say which entries are purged

    replication.take_in = lambda entry, vector: app.cache.take_in(entry, vector, app.clock())
    app.cache.certain = replication.certain
    replication.drop, replication.purging = drop, purging
    replication.give_up, replication.reload = app.cache.purge, app.warm_up.reload


def make_fleet(
    chosen: Sequence[NamedUpstream],
    environ: Mapping[str, str],
    waited: Callable[[str], Callable[[float], None]],
    kind: type[Upstream] = Upstream,
) -> Fleet:
    """`waited`: returns, for the name of an upstream, the observer of the seconds that calls waited for a
    place there. Raises `ConfigError`."""
    keys = upstream_keys(chosen, environ)
    for name in keys:
        log.warning("upstream %s gets our own key in place of the credentials of every caller", name)
    backends = {each.name: _backend(each, keys.get(each.name), waited(each.name), kind) for each in chosen}
    for each in chosen:
        backends[each.name].fallback = tuple(backends[name] for name in each.fallback)
    return Fleet(list(backends.values()))


def _backend(
    chosen: NamedUpstream, key: str | None, waited: Callable[[float], None], kind: type[Upstream]
) -> Backend:
    deadlines = Deadlines(chosen.connect_timeout, chosen.first_byte_timeout, chosen.idle_timeout)
    return Backend(
        chosen.name,
        kind(chosen.url, deadlines, Retry(chosen.retries, frozenset(chosen.retry_on))),
        UpstreamLoad(chosen.name, chosen.capacity),
        chosen.models,
        chosen.aliases,
        key,
        chosen.key_header,
        _admission(chosen, waited),
    )


def _admission(chosen: NamedUpstream, waited: Callable[[float], None]) -> Admission | None:
    if chosen.limit == "off":
        return None
    limit = Limit() if chosen.limit == "auto" else Limit(chosen.limit, chosen.limit)
    return Admission(limit, chosen.queue, chosen.queue_timeout, waited)


def _history_file(settings: Settings) -> HistoryFile | None:
    if settings.history is not None:
        return HistoryFile(settings.history)
    scheme, _, path = settings.documents.url.partition(":///")
    return (
        HistoryFile(Path(path.partition("?")[0]).with_suffix(".history.db"))
        if scheme == "sqlite+aiosqlite"
        else None
    )


# Background work


def _background(app: App, upstream_url: str) -> dict[str, Work]:
    works: dict[str, Work] = {
        "tend-load": app.load.tend,
        "warm-up": app.warm_up.run,
        "sweep": lambda: _sweep(app),
        "keep-history": lambda: app.history.keep(app.clock),
        "watch-categories": app.categories.watch,
        "tend-index": app.cache.entries.vectors.tend,
    }
    if app.replication is not None:
        works["hear-replicas"] = app.replication.listen
        works["tell-replicas"] = app.replication.announce
    if app.recorder is not None:
        works["record-calls"] = app.recorder.run
    for chosen in app.settings.fleet(upstream_url):
        if chosen.metrics_url is not None:
            names = Names(chosen.metrics_waiting, chosen.metrics_running, chosen.metrics_cache)
            url, load = urljoin(chosen.url, chosen.metrics_url), app.load.upstreams[chosen.name]
            works[f"scrape-load-{chosen.name}"] = Scraper(url, names, load).run
    return works


async def _sweep(app: App) -> None:
    frozen = 0
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        app.cache.sweep(app.clock(), SWEEP_ENTRIES)
        app.ledger.settle()
        app.economy.step(app.clock())
        if len(app.cache.entries) > frozen + FREEZE_AFTER:
            gc.freeze()
            frozen = len(app.cache.entries)
