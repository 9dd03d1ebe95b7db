"""Prometheus metrics of calls, counted from their reports. `proxy.admin.gauges` has the metrics of the parts.

Every label has a bounded set of values: names of categories, and words of our own.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from proxy.telemetry.logs import refusal
from proxy.telemetry.report import Report

_CALL_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
    120,
)  # fmt: skip
_EMBED_S = (0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_process = CollectorRegistry()
ProcessCollector(registry=_process)


class Histogram:
    """Counts per bucket, and the sum. Neither this nor the counters below are prometheus_client's, whose
    locks and labels take five times as long: here only one thread observes calls."""

    __slots__ = ("_bins", "_edges", "_sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = edges
        self._bins = [0] * (len(edges) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._bins[bisect_left(self._edges, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, *labels: str) -> None:
        bounds = [*map(floatToGoString, self._edges), "+Inf"]
        family.add_metric(labels, list(zip(bounds, accumulate(self._bins), strict=True)), self._sum)


class Metrics(Collector):
    """Counts calls since the start."""

    def __init__(self) -> None:
        self._requests = Counter[tuple[str, str, str]]()
        self._bypass, self._refused, self._degraded = Counter[str](), Counter[str](), Counter[str]()
        self._seconds: dict[str, Histogram] = {}
        self._waiting: dict[str, Histogram] = {}
        self._embed, self._first_byte = Histogram(_EMBED_S), Histogram(_CALL_S)
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def observe(self, report: Report) -> None:
        outcome = report.outcome
        self._requests[report.category or "none", outcome, report.tier or ""] += 1
        seconds = self._seconds.get(outcome)
        if seconds is None:
            seconds = self._seconds[outcome] = Histogram(_CALL_S)
        seconds.observe(report.total_ms / 1000)
        if report.embed_ms is not None:
            self._embed.observe(report.embed_ms / 1000)
        if report.upstream_ms is not None:
            self._first_byte.observe(report.upstream_ms / 1000)
        if report.reason and outcome not in ("HIT", "STALE", "SHADOW"):
            (self._bypass if outcome == "BYPASS" else self._refused)[refusal(report.reason)] += 1
        if report.degraded:
            self._degraded[report.degraded] += 1

    def waited(self, upstream: str) -> Callable[[float], None]:
        """The observer of the seconds that a caller waited for a place at that upstream."""
        return self._waiting.setdefault(upstream, Histogram(_CALL_S)).observe

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "nearhit_requests", "Calls that could be cached", labels=["category", "outcome", "tier"]
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        yield requests
        yield _counted("nearhit_bypass", "Calls that went past the cache, by reason", "reason", self._bypass)
        yield _counted("nearhit_refused", "Misses with a near entry, by reason", "reason", self._refused)
        yield _counted(
            "nearhit_degraded", "Calls answered although a part failed, by kind", "kind", self._degraded
        )
        yield _measured("nearhit_request_seconds", "From request to answer", "outcome", self._seconds)
        yield _measured(
            "nearhit_upstream_wait_seconds",
            "Of calls that waited for a place at the upstream",
            "upstream",
            self._waiting,
        )
        yield _measured("nearhit_embed_seconds", "Waiting for a vector", None, {"": self._embed})
        yield _measured(
            "nearhit_upstream_first_byte_seconds",
            "To the first byte of an upstream's answer",
            None,
            {"": self._first_byte},
        )

    async def render(self) -> bytes:
        # On a thread, as the process collector reads files.
        return generate_latest(self.registry) + await asyncio.to_thread(generate_latest, _process)


def _counted(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _measured(
    name: str, text: str, label: str | None, histograms: Mapping[str, Histogram]
) -> HistogramMetricFamily:
    """A family of histograms by the value of `label`, or a single histogram without one."""
    family = HistogramMetricFamily(name, text, labels=[label] if label else [])
    for value, histogram in histograms.items():
        histogram.add_to(family, *([value] if label else []))
    return family
