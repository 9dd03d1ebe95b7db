"""Measures what the cache costs and saves per category, from the calls' reports, and drives `mode: auto`."""

from __future__ import annotations

import logging

from policies.automatic import Automatic, Evidence, Switch
from policies.economics import Figures, Meter
from policies.model import Category
from policies.prices import Prices
from proxy.cache import Cache
from proxy.telemetry.report import Report

log = logging.getLogger("nearhit.economy")

FEW_VERDICTS = 20
"""Verdicts needed before a share of wrong hits is reported."""


class Economy:
    """Must observe a call before the readers of `Report.saved_cost`, which it sets."""

    def __init__(self, cache: Cache, prices: Prices) -> None:
        self.prices = prices
        self._cache = cache
        self._meters: dict[str, Meter] = {}
        self.cost_saved: dict[str, float] = {}
        """Money saved since the start, by category, by hits whose model has a price."""

    def observe(self, report: Report) -> None:
        name, now = report.category or "none", report.at
        meter = self._meters.get(name)
        if meter is None:
            meter = self._meters[name] = Meter(now)
        outcome = report.outcome
        if (outcome == "HIT" or outcome == "STALE") and not report.forwarded and report.tier != "inflight":
            self._saved(meter, name, report)
        if report.answer_ms is not None:
            meter.upstream.add(report.answer_ms, now)
        if report.lookup_ms is not None:
            meter.looked(report.lookup_ms, report.near, now)
            if self._cache.rules.book.get(name).mode == "auto":
                self._cache.automatics.get(name, now).note(report.near)

    def _saved(self, meter: Meter, name: str, report: Report) -> None:
        now, cost = report.at, self.prices.cost(report.model, report.tokens_in, report.tokens_out)
        meter.hit.add(report.total_ms - (report.lookup_ms or 0.0) - report.paced_ms, now)
        meter.saved.add(report.saved_ms, report.tokens_in + report.tokens_out, cost, now)
        report.saved_cost = cost
        if cost is not None:
            self.cost_saved[name] = self.cost_saved.get(name, 0.0) + cost

    def figures(self, category: Category, now: float) -> Figures:
        share = self._cache.audits.estimate(category).wrong
        wrong = share.value if share.whole >= FEW_VERDICTS else None
        meter = self._meters.get(category.name) or Meter(now)
        return meter.figures(now, wrong, category.wrong_hit_costs * 1000, self.prices.lookup)

    def step(self, now: float) -> None:
        """Lets every category with `mode: auto` reconsider its state, and forgets those that no longer have
        it."""
        book, of = self._cache.rules.book.categories, self._cache.automatics.of
        for name in [name for name in of if name not in book or book[name].mode != "auto"]:
            del of[name]
        for name, automatic in of.items():
            if switch := self._step(automatic, book[name], now):
                log.info("auto: %s goes from %s to %s: %s", name, switch.before, switch.after, switch.reason)

    def _step(self, automatic: Automatic, category: Category, now: float) -> Switch | None:
        figures, share = self.figures(category, now), self._cache.audits.estimate(category).wrong
        return automatic.step(
            Evidence(figures.break_even, share.low, share.high, share.whole, figures.bearable_wrong_rate), now
        )
