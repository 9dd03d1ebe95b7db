"""Prometheus metrics of the parts, taken at the moment of the scrape. `proxy.telemetry.metrics` has the
metrics of calls.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.admin.shown import VERSION
from proxy.app import App
from proxy.telemetry.logs import dropped_lines

Family = GaugeMetricFamily | CounterMetricFamily

_REPLICATION = {
    "announced": "Messages to the other replicas",
    "applied": "Messages applied, including our own",
    "reloads": "Comparisons with the whole document store, because something may have been missed",
    "given_up": "Entries given up, because of a purge before the others knew them",
    "failures": "Failed calls to Redis",
    "waited": "Calls that waited for another replica",
    "shared": "Calls that got another replica's answer",
}
_VECTORS = {
    "written": "Vectors written to the database",
    "dropped": "Vectors that did not fit into the queue; they are sent later",
    "search_failures": "Searches that failed or took too long",
    "write_failures": "Failed attempts to write or compare",
}


class Gauges(Collector):
    def __init__(self, app: App) -> None:
        self._app = app
        self._build = GaugeMetricFamily("nearhit_build_info", "Always 1", labels=["version"])
        self._build.add_metric([VERSION], 1)

    def collect(self) -> Iterator[Family]:
        yield from self._entries()
        yield from self._index()
        yield from self._process()
        yield from self._documents()
        yield from self._saved()
        yield from self._replication()
        yield from self._upstreams()
        yield from self._load()
        yield from self._audited()
        yield from self._economics()
        yield from self._loading()
        yield self._build
        yield _gauge("nearhit_start_time_seconds", "Unix time of the start", self._app.started)

    def _entries(self) -> Iterator[Family]:
        usage = self._app.cache.entries.usage()
        entries = GaugeMetricFamily("nearhit_entries", "Entries in memory", labels=["category"])
        sizes = GaugeMetricFamily("nearhit_entry_bytes", "Bytes of the entries", labels=["category"])
        for name, used in usage["categories"].items():
            entries.add_metric([name], used["entries"])
            sizes.add_metric([name], used["bytes"])
        yield from (entries, sizes)
        yield _gauge("nearhit_capacity_entries", "Most entries in memory", usage["capacity"])

    def _process(self) -> Iterator[Family]:
        app = self._app
        yield _gauge("nearhit_in_flight", "Calls being answered", app.data_plane.in_flight)
        yield _gauge("nearhit_in_flight_limit", "Most calls at once", app.settings.limits.in_flight)
        yield CounterMetricFamily(
            "nearhit_turned_away",
            "Calls refused because too many were being served",
            app.data_plane.turned_away,
        )
        yield CounterMetricFamily("nearhit_log_lines_dropped", "Log lines not written", dropped_lines())
        if app.recorder is not None:
            yield CounterMetricFamily(
                "nearhit_trace_lines_dropped", "Calls that log.trace lacks", app.recorder.dropped
            )

    def _documents(self) -> Iterator[Family]:
        stats = self._app.cache.documents.stats()
        yield _gauge("nearhit_documents_pending", "Answers not yet written", stats["pending"])
        yield _gauge("nearhit_documents_breaker_open", "1: the store failed", stats["breaker"] == "open")
        for name in ("dropped", "lost", "failures"):
            yield CounterMetricFamily(
                f"nearhit_documents_{name}", f"Of the document store: {name}", stats[name]
            )

    def _loading(self) -> Iterator[Family]:
        warm_up, categories = self._app.warm_up, self._app.categories
        yield _gauge("nearhit_index_loaded", "Stored answers that were loaded at start", warm_up.loaded)
        yield _gauge("nearhit_index_to_embed", "Entries of another embedding model", warm_up.to_embed)
        yield _gauge("nearhit_index_ready", "1: everything stored is loaded", warm_up.done)
        yield _gauge(
            "nearhit_categories_current", "1: the categories on disk are in force", not categories.error
        )
        yield _gauge(
            "nearhit_categories_reloading", "1: changed category files are being loaded", categories.reloading
        )

    def _index(self) -> Iterator[Family]:
        stats = self._app.cache.entries.vectors.stats()
        yield _gauge("nearhit_partitions", "Partitions with vectors", stats["partitions"])
        yield _gauge("nearhit_index_bytes", "Vectors in memory and their index", stats["bytes"])
        if stats.get("recall") is not None:
            yield _gauge("nearhit_index_recall", "Of the graph measured last", stats["recall"])
        if stats["kind"] == "memory":
            return
        yield _gauge("nearhit_vectors_pending", "Vectors not yet written or deleted", stats["pending"])
        yield _gauge("nearhit_vectors_breaker_open", "1: searches failed", stats["breaker"] == "open")
        yield _gauge("nearhit_vectors_current", "1: the database has all vectors", stats["current"])
        for name, text in _VECTORS.items():
            yield CounterMetricFamily(f"nearhit_vectors_{name}", text, stats[name])

    def _replication(self) -> Iterator[Family]:
        if self._app.replication is None:
            return
        stats = self._app.replication.stats()
        yield _gauge("nearhit_replication_connected", "1: in contact with the replicas", stats["current"])
        yield _gauge("nearhit_replication_waiting", "Changes not yet told to the others", stats["waiting"])
        if (behind := stats["behind_s"]) is not None:
            yield _gauge("nearhit_replication_lag_seconds", "Since this replica was last up to date", behind)
        for name, text in _REPLICATION.items():
            yield CounterMetricFamily(f"nearhit_replication_{name}", text, stats[name])

    def _saved(self) -> Iterator[Family]:
        seconds = CounterMetricFamily(
            "nearhit_saved_seconds", "Upstream time that hits saved", labels=["category"]
        )
        tokens = CounterMetricFamily("nearhit_saved_tokens", "Tokens that hits saved", labels=["category"])
        for name, tally in self._app.ledger.tallies.items():
            if tally.hits or tally.stale:
                seconds.add_metric([name], tally.saved_ms / 1000)
                tokens.add_metric([name], tally.tokens_saved)
        yield from (seconds, tokens)

    def _upstreams(self) -> Iterator[Family]:
        yield CounterMetricFamily(
            "nearhit_renewals_held_back", "Stale answers not renewed", self._app.renewals.held_back
        )
        down = GaugeMetricFamily(
            "nearhit_upstream_down", "1: it has not answered lately", labels=["upstream"]
        )
        errors = CounterMetricFamily("nearhit_upstream_errors", "Failed tries", labels=["upstream", "kind"])
        for name, backend in self._app.fleet.backends.items():
            down.add_metric([name], backend.outage.down)
            for kind, count in backend.errors.items():
                errors.add_metric([name, kind], count)
        yield from (down, errors)
        yield from self._places()

    def _places(self) -> Iterator[Family]:
        limit, used, queue = (
            GaugeMetricFamily(f"nearhit_upstream_{name}", text, labels=["upstream"])
            for name, text in (
                ("limit", "Most calls in flight"),
                ("in_use", "Calls in flight"),
                ("queue", "Calls waiting for a place"),
            )
        )
        refused = CounterMetricFamily(
            "nearhit_upstream_refused", "Calls for which there was no place", labels=["upstream", "reason"]
        )
        for name, backend in self._app.fleet.backends.items():
            if (admission := backend.admission) is None:
                continue
            limit.add_metric([name], admission.limit.places)
            used.add_metric([name], admission.in_use)
            queue.add_metric([name], admission.waiting)
            for reason, count in admission.refused.items():
                refused.add_metric([name, reason], count)
        yield from (limit, used, queue, refused)

    def _load(self) -> Iterator[Family]:
        pressures = GaugeMetricFamily("nearhit_pressure", "Load, 0 to 1", labels=["upstream"])
        parts = GaugeMetricFamily(
            "nearhit_pressure_signal", "Signals behind the pressure, 0 to 1", labels=["upstream", "signal"]
        )
        for name, upstream in self._app.load.upstreams.items():
            pressures.add_metric([name], upstream.highest)
            for signal, value in upstream.signals().items():
                parts.add_metric([name, signal], value)
        yield from (pressures, parts)

    def _audited(self) -> list[Family]:
        cache = self._app.cache
        verdicts = CounterMetricFamily("nearhit_audits", "Verdicts on hits", labels=["category", "verdict"])
        for (name, verdict), count in cache.audits.verdicts.items():
            verdicts.add_metric([name, verdict], count)
        thresholds = GaugeMetricFamily("nearhit_threshold", "Threshold in force", labels=["category"])
        targets = GaugeMetricFamily(
            "nearhit_wrong_rate_target", "Target share of wrong hits", labels=["category"]
        )
        lifetimes = GaugeMetricFamily("nearhit_ttl_seconds", "Lifetime in force", labels=["category"])
        rates = [
            GaugeMetricFamily(f"nearhit_wrong_rate{end}", f"Share of wrong hits{what}", labels=["category"])
            for end, what in (("", ""), ("_lower", ", at least"), ("_upper", ", at most"))
        ]
        for name, category in cache.rules.book.categories.items():
            policy = cache.policy(name, cache.pressure(""))
            thresholds.add_metric([name], policy.threshold)
            lifetimes.add_metric([name], policy.ttl)
            _add(targets, name, category.target_wrong_rate)
            share = cache.audits.estimate(category).wrong
            if share.whole:
                for family, value in zip(rates, (share.value, share.low, share.high), strict=True):
                    family.add_metric([name], value)
        return [verdicts, thresholds, lifetimes, targets, *rates]

    def _economics(self) -> list[Family]:
        app, now = self._app, self._app.clock()
        even = GaugeMetricFamily(
            "nearhit_break_even_hit_rate", "Hit rate from which look-ups pay", labels=["category"]
        )
        rate = GaugeMetricFamily("nearhit_look_hit_rate", "Hit rate of look-ups", labels=["category"])
        gain = GaugeMetricFamily(
            "nearhit_net_seconds_per_look", "Average net gain of a look-up", labels=["category"]
        )
        modes = GaugeMetricFamily(
            "nearhit_mode", "1: the semantic tier's mode now", labels=["category", "mode"]
        )
        cost = CounterMetricFamily(
            "nearhit_saved_cost",
            "What hits would have cost, for models with a known price",
            labels=["category", "currency"],
        )
        for name, category in app.cache.rules.book.categories.items():
            figures = app.economy.figures(category, now)
            _add(even, name, figures.break_even)
            _add(rate, name, figures.hit_rate)
            _add(gain, name, figures.net_ms_per_look and figures.net_ms_per_look / 1000)
            modes.add_metric([name, app.cache.mode(name)], 1)
        for name, saved in app.economy.cost_saved.items():
            cost.add_metric([name, app.economy.prices.currency], saved)
        return [even, rate, gain, modes, cost]


def _add(family: GaugeMetricFamily, category: str, value: float | None) -> None:
    if value is not None:
        family.add_metric([category], value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)
