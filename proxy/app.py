"""The composition root: makes every part from the settings, starts it, and ends it in the opposite order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from embeddings.base import Embedder, EmbeddingError
from embeddings.opening import open_embedder
from policies.admission import Limit
from policies.book import Book
from policies.classifier import Classifier
from policies.errors import ConfigError
from policies.prices import Prices
from proxy import header_bytes
from proxy.answers import Manner
from proxy.auditing import Auditor
from proxy.batches import Batches
from proxy.cache import SIMULATED, Cache, Rules
from proxy.controls import Permits
from proxy.economy import Economy
from proxy.exchange import Exchange
from proxy.fleet import Backend, Fleet
from proxy.forwarding import Forwarder
from proxy.history import History, HistoryFile
from proxy.judge import Judge
from proxy.ledger import Ledger
from proxy.limits import Admission
from proxy.load import Load
from proxy.load import Upstream as LoadOfOne
from proxy.load_scraper import Names, Scraper
from proxy.logs import log_call
from proxy.metrics import Metrics
from proxy.recording import Recorder
from proxy.reembedding import reembed
from proxy.renewals import Renewals
from proxy.server import DataPlane, Limits
from proxy.settings import NamedUpstream, Settings, upstream_keys
from proxy.sharing import Sharing
from proxy.tasks import Tasks, Work
from proxy.tracing import Kinds, open_tracing
from proxy.upstream import Deadlines, Retry, Upstream
from storage.base import Documents, StorageError
from storage.buffered import BufferedDocuments
from storage.keys import read_key
from storage.opening import open_documents, open_vectors
from storage.rebuild import rebuild

if TYPE_CHECKING:
    from storage.replication import Replication

log = logging.getLogger("nearhit.app")

Clock = Callable[[], float]
Stamps = dict[Path, tuple[int, ...]]
"""What tells that a file changed: when it was written, in nanoseconds, its bytes and its inode."""

SWEEP_EVERY_S = 1.0
SWEEP_ENTRIES = 500
"""Entries looked at in each sweep: 100,000 are seen in under four minutes."""
FREEZE_AFTER = 10_000
"""New entries after which the collector of garbage is told to leave all there are alone: looking through
100,000 of them holds up every call for 40 to 75 ms."""
WATCH_EVERY_S = 2.0


@dataclass
class Progress:
    """Of the index's way back from the documents at start."""

    loaded: int = 0
    to_embed: int = 0
    """Entries of another embedding model that have no vector yet."""
    done: bool = False
    failed: str = ""


@dataclass
class App:
    settings: Settings
    cache: Cache
    fleet: Fleet
    load: Load
    forwarder: Forwarder
    auditor: Auditor
    renewals: Renewals
    data_plane: DataPlane
    ledger: Ledger
    metrics: Metrics
    economy: Economy
    history: History
    tasks: Tasks
    clock: Clock
    started: float
    recorder: Recorder | None = None
    replication: Replication | None = None
    progress: Progress = field(default_factory=Progress)
    reload_error: str = ""
    """Why the categories on disk are not the ones in force; "" when they are."""

    async def reload(self) -> None:
        """Takes the categories as they are on disk now. Raises `ConfigError` or `EmbeddingError`; whatever it
        raises, the old ones stay."""
        try:
            self.cache.rules = await make_rules(self.settings.categories, self.cache.embedder)
        except Exception as error:
            self.reload_error = str(error) or type(error).__name__
            raise
        self.reload_error = ""

    def reread(self) -> bool:
        """Takes in what others have put into the document store; False when that is under way already."""
        if not self.progress.done or self.progress.to_embed:
            return False
        if self.replication is not None:
            self.replication.tell_to_reload()
        self.progress.done = False
        self.tasks.spawn(_warm_up(self), "reread")
        return True


async def make_rules(folder: Path | None, embedder: Embedder) -> Rules:
    """Raises `ConfigError`."""
    book = await asyncio.to_thread(Book.from_folder, folder)
    return Rules(book, await Classifier.taught(book, embedder))


@asynccontextmanager
async def open_app(
    settings: Settings, upstream_url: str, clock: Clock = time.time, embedder: Embedder | None = None
) -> AsyncIterator[App]:
    """Everything but the listening sockets. Raises `ConfigError`, `StorageError`, and what `open_embedder`
    raises."""
    header_bytes.keep()
    async with AsyncExitStack() as stack:
        kinds = await stack.enter_async_context(open_tracing(settings.tracing.endpoint))
        if embedder is None:
            embedder = await asyncio.to_thread(_open_embedder, settings)
        stack.push_async_callback(embedder.close)
        files = await asyncio.to_thread(_stamps, settings.categories)  # before they are read
        rules = await make_rules(settings.categories, embedder)
        prices = await asyncio.to_thread(Prices.read, settings.prices)
        store = await open_store(settings)
        documents = BufferedDocuments(store, hot_bytes=settings.documents.hot_bytes)
        index, space = settings.index, (embedder.dimensions, embedder.fingerprint)
        opening = open_vectors(index.url, index.deadline, *space, documents)
        room = settings.capacity
        cache = kinds.cache(
            rules,
            embedder,
            documents,
            room.entries,
            room.bytes,
            vectors=await stack.enter_async_context(opening),
        )
        cache.provenance = SIMULATED if settings.simulated else ""
        documents.on_lost = cache.lost
        replication = _replication(settings, cache)
        if replication is not None:
            stack.push_async_callback(replication.close)
        stack.push_async_callback(documents.close)
        metrics = Metrics()
        fleet = make_fleet(settings.fleet(upstream_url), os.environ, metrics.waited, kinds.upstream)
        stack.push_async_callback(fleet.close)
        judge = await asyncio.to_thread(Judge, settings.judge) if settings.judge.url else None
        if judge is not None:
            stack.push_async_callback(judge.close)
        # Entered last, so closed first: calls on their way still want to be stored.
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        app = _assemble(settings, cache, fleet, tasks, clock, judge, prices, metrics, kinds, replication)
        await app.history.load(clock())
        works = _background(app, files) | _scrapers(app, upstream_url)
        background = [tasks.keep(work, name) for name, work in works.items()]
        try:
            yield app
        finally:
            app.ledger.settle()
            await app.history.close(clock())
            for task in background:
                task.cancel()


async def open_store(settings: Settings) -> Documents:
    """Raises `StorageError`."""
    keys = [read_key(key.get_secret_value()) for key in settings.documents.keys]
    return await open_documents(settings.documents.url, keys=keys)


def _open_embedder(settings: Settings) -> Embedder:
    chosen = settings.embedding
    return open_embedder(
        chosen.kind, chosen.model or "", chosen.device, queue=chosen.queue, deadline_s=chosen.deadline
    )


def _assemble(
    settings: Settings, cache: Cache, fleet: Fleet, tasks: Tasks, clock: Clock, judge: Judge | None,
    prices: Prices, metrics: Metrics, kinds: Kinds, replication: Replication | None,
) -> App:  # fmt: skip
    economy = Economy(cache, prices)
    history = History(lambda: cache.audits.verdicts, clock(), _history_file(settings))
    load = Load(*(backend.load for backend in fleet.backends.values()), of=fleet.load_of)
    cache.pressure = load.level
    forwarder = Forwarder(
        cache, fleet, tasks, clock, settings.limits.answer_bytes, settings.upstream.finish_share
    )
    auditor = Auditor(cache, forwarder, tasks, clock, judge, settings.audit.pairs)
    renewals = Renewals(cache, forwarder, tasks)
    exchange = Exchange(
        cache,
        forwarder,
        auditor,
        renewals,
        Manner(
            settings.expose_scores,
            settings.upstream.stale_after,
            settings.replay.tokens_per_second,
            settings.upstream.queue_keep_alive,
        ),
        Sharing(replication.leases, tasks) if replication is not None else None,
    )
    batches = Batches(cache, forwarder, tasks, settings.limits.answer_bytes, settings.expose_scores)
    ledger = Ledger(metrics.observe, log_call, economy.observe, history.observe)
    recorder = Recorder(settings.log.trace, cache.entries.get) if settings.log.trace else None
    bounds = settings.limits
    data_plane = kinds.data_plane(
        exchange,
        batches,
        cache,
        fleet,
        Limits(bounds.in_flight, bounds.body_bytes, bounds.parse_bytes),
        settings.tenancy.header,
        settings.tenancy.anonymous == "share",
        clock,
        ledger.publish,
        recorder.note if recorder else None,
        Permits(settings.controls.allow, settings.controls.trusted),
    )
    app = App(
        settings,
        cache,
        fleet,
        load,
        forwarder,
        auditor,
        renewals,
        data_plane,
        ledger,
        metrics,
        economy,
        history,
        tasks,
        clock,
        clock(),
        recorder,
        replication,
    )
    if replication is not None:
        _connect(replication, app)
    return app


def _replication(settings: Settings, cache: Cache) -> Replication | None:
    """Raises `StorageError` without the driver."""
    chosen = settings.replication
    if chosen.url is None:
        return None
    if find_spec("redis") is None:
        raise StorageError("replication.url: Redis needs the driver: pip install redis")
    from storage.replication import Replication

    lease_s = None if chosen.lease == "off" else chosen.lease
    return Replication(chosen.url, cache.documents, cache.entries, lease_s)


def _connect(replication: Replication, app: App) -> None:
    """What the others do has the effect here that it has there."""

    def drop(ids: Sequence[str]) -> None:
        app.cache.dropped(ids)
        gone = set(ids)
        app.ledger.forget(lambda report: report.entry_id in gone)

    def purging() -> None:
        app.cache.shut_out()
        app.ledger.forget(lambda report: True)  # whom it is about is not told

    async def reload() -> None:
        app.progress.done = False
        app.tasks.spawn(reembed(app.cache, await _load(app), _left(app)), "reembed")

    replication.take_in = lambda entry, vector: app.cache.take_in(entry, vector, app.clock())
    app.cache.certain = replication.certain
    replication.drop, replication.purging = drop, purging
    replication.give_up, replication.reload = app.cache.purge, reload


def make_fleet(
    chosen: Sequence[NamedUpstream],
    environ: Mapping[str, str],
    waited: Callable[[str], Callable[[float], None]],
    kind: type[Upstream] = Upstream,
) -> Fleet:
    """`waited`: by upstream, who is told how long a caller waited for a place. Raises `ConfigError`."""
    keys = upstream_keys(chosen, environ)
    for name in keys:
        log.warning("upstream %s is called with our own key for every caller who brings credentials", name)
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
        LoadOfOne(chosen.name, chosen.capacity),
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


# What goes on beside the calls


def _background(app: App, files: Stamps) -> dict[str, Work]:
    works: dict[str, Work] = {
        "tend-load": app.load.tend,
        "warm-up": lambda: _warm_up(app),
        "sweep": lambda: _sweep(app),
        "keep-history": lambda: app.history.keep(app.clock),
        "watch-categories": lambda: _watch(app, files),
        "tend-index": app.cache.entries.vectors.tend,
    }
    if app.replication is not None:
        works["hear-replicas"] = app.replication.listen
        works["tell-replicas"] = app.replication.announce
    if app.recorder is not None:
        works["record-calls"] = app.recorder.run
    return works


def _scrapers(app: App, upstream_url: str) -> dict[str, Work]:
    works: dict[str, Work] = {}
    for chosen in app.settings.fleet(upstream_url):
        if chosen.metrics_url is not None:
            names = Names(chosen.metrics_waiting, chosen.metrics_running, chosen.metrics_cache)
            url, load = urljoin(chosen.url, chosen.metrics_url), app.load.upstreams[chosen.name]
            works[f"scrape-load-{chosen.name}"] = Scraper(url, names, load).run
    return works


async def _warm_up(app: App) -> None:
    """The index from the documents, while calls are already served."""
    if app.replication is not None:
        await app.replication.joined()
    await reembed(app.cache, await _load(app), _left(app))


async def _load(app: App) -> list[str]:
    """Until it works, though another may end meanwhile; returns the entries of another embedding model."""

    def note(loaded: int) -> None:
        app.progress.loaded = loaded

    def note_foreign(id: str) -> None:
        foreign.append(id)
        app.progress.to_embed = len(foreign)

    cache, pause, foreign = app.cache, 1.0, list[str]()
    while True:
        try:
            await rebuild(
                cache.documents, cache.entries, cache.embedder.fingerprint, cache.kept, app.clock(), note,
                note_foreign,
            )  # fmt: skip
        except StorageError as error:
            app.progress.failed = str(error)
            log.error("the index could not be loaded from the documents, next try in %g s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(60.0, 2 * pause)
        else:
            app.progress.failed = ""
            app.progress.done = True
            cache.entries.vectors.loaded()
            return foreign


def _left(app: App) -> Callable[[int], None]:
    def note(count: int) -> None:
        app.progress.to_embed = count

    return note


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


async def _watch(app: App, taken: Stamps) -> None:
    """Reloads the categories when their files are not as they were `taken` and two looks agree on how, and on
    SIGHUP."""
    folder = app.settings.categories
    wanted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wanted.set)
    before = taken
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(WATCH_EVERY_S):
                await wanted.wait()
        now = await asyncio.to_thread(_stamps, folder)
        if wanted.is_set() or taken != now == before:
            wanted.clear()
            taken = now
            await _reload(app)
        before = now


async def _reload(app: App) -> None:
    try:
        await app.reload()
    except (ConfigError, EmbeddingError) as error:
        log.error("the categories stay as they were: %s", "; ".join(str(error).splitlines()))
    except Exception:
        log.exception("the categories stay as they were: reloading them failed in a way that it should not")
    else:
        log.info("categories reloaded, book %s", app.cache.rules.book.version)


def _stamps(folder: Path | None) -> Stamps:
    """Packaged files do not change."""
    stamps: Stamps = {}
    if folder is None:
        return stamps
    with suppress(OSError):
        for path in folder.rglob("*"):
            stamps[path] = ()  # what may not be looked at, or links to nothing, is there all the same
            with suppress(OSError):
                stat = path.stat()
                stamps[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return stamps
