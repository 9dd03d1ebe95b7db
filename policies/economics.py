"""Whether look-ups pay: what a category's look-ups cost, what its hits save, and the hit rate at which it
breaks even.

Break-even hit rate h* = T_lookup / (T_upstream − T_hit), net gain per look-up h·(T_upstream − T_hit) −
T_lookup: arXiv 2510.26835. If a right hit saves S and a wrong one costs L, hits pay while the share of wrong
ones f < S / (S + L).

Durations are in milliseconds where the name says so. `now` is in seconds of any one clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, log, sqrt

HALF_LIFE_S = 1800.0
"""Age at which an observation counts half."""
LEAST = 20.0
"""Observations, after decay, below which no figure is reported."""
LEAST_S = 60.0
"""Observation time below which no hourly figure is reported."""
OUTLIER = 10.0
"""Measurements are capped at this many times the average, so that one call that hung does not dominate."""


@dataclass(slots=True)
class Mean:
    """An average with exponential decay: the weight of an observation halves every `HALF_LIFE_S`."""

    total: float = 0.0
    weight: float = 0.0
    at: float = 0.0

    def add(self, value: float, now: float, capped: bool = True) -> None:
        """`capped`: whether `OUTLIER` applies."""
        self._fade(now)
        if capped and self.weight >= LEAST:
            value = min(value, OUTLIER * max(self.total / self.weight, 1e-3))
        self.total += value
        self.weight += 1.0

    def value(self, now: float) -> float | None:
        """The average, or None if there are too few observations."""
        return self.total / self.weight if self.weight * _kept(now - self.at) >= LEAST else None

    def _fade(self, now: float) -> None:
        if now > self.at:
            kept = _kept(now - self.at)
            self.total *= kept
            self.weight *= kept
            self.at = now


def _kept(seconds: float) -> float:
    return float(2.0 ** (-max(0.0, seconds) / HALF_LIFE_S))


@dataclass(slots=True)
class Saved:
    """What the hits of all tiers saved, as sums with exponential decay."""

    since: float
    at: float
    ms: float = 0.0
    tokens: float = 0.0
    cost: float = 0.0
    priced: float = 0.0
    unpriced: float = 0.0

    def add(self, ms: float, tokens: int, cost: float | None, now: float) -> None:
        self.fade(now)
        self.ms += ms
        self.tokens += tokens
        if cost is None:
            self.unpriced += 1.0
        else:
            self.priced += 1.0
            self.cost += cost

    def fade(self, now: float) -> None:
        if now > self.at:
            kept = _kept(now - self.at)
            self.at = now
            self.ms *= kept
            self.tokens *= kept
            self.cost *= kept
            self.priced *= kept
            self.unpriced *= kept

    def hours(self, now: float) -> float | None:
        """What to divide the sums by for hourly rates: the integral of the weights since the start. None: too
        short a time."""
        if now - self.since < LEAST_S:
            return None
        return (1.0 - _kept(now - self.since)) * HALF_LIFE_S / log(2) / 3600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """None: not known. `missing` gives the reason for the first one that is not."""

    looks: float
    """Calls that went through the semantic tier, after decay."""
    hit_rate: float | None
    """Of those calls. Hits in shadow mode count too: they cost the same and would have saved the same."""
    lookup_ms: float | None
    hit_ms: float | None
    """Time to serve a hit, without the look-up. Assumed to be 0 in the figures below until it is known."""
    upstream_ms: float | None
    """Time of a complete answer from the upstream."""
    break_even: float | None
    """If above 1, no hit rate pays."""
    net_ms_per_look: float | None
    bearable_wrong_rate: float | None
    wrong_rate: float | None
    break_even_cost: float | None
    """The break-even hit rate in money."""
    saved_ms_per_hour: float | None
    lookup_ms_per_hour: float | None
    net_ms_per_hour: float | None
    tokens_per_hour: float | None
    cost_per_hour: float | None
    unpriced_share: float | None
    """Share of the hits whose model has no price; they are not part of the money figures."""
    missing: str = ""


@dataclass(slots=True)
class Meter:
    """Collects the measurements of one category, in constant memory."""

    started: float
    lookup: Mean = field(default_factory=Mean)
    found: Mean = field(default_factory=Mean)
    """1 for a look-up that found a hit, 0 for one that did not."""
    hit: Mean = field(default_factory=Mean)
    upstream: Mean = field(default_factory=Mean)
    saved: Saved = field(init=False)
    spent: Saved = field(init=False)
    """Milliseconds spent on look-ups."""

    def __post_init__(self) -> None:
        self.saved = Saved(self.started, self.started)
        self.spent = Saved(self.started, self.started)

    def looked(self, lookup_ms: float, found: bool, now: float) -> None:
        self.lookup.add(lookup_ms, now)
        self.found.add(found, now, capped=False)  # a rare 1 among zeros is not an outlier
        self.spent.add(lookup_ms, 0, None, now)

    def figures(
        self, now: float, wrong_rate: float | None, loss_ms: float, lookup_cost: float = 0.0
    ) -> Figures:
        """`wrong_rate`: the estimate from audits. `loss_ms`: what a wrong hit costs. `lookup_cost`: the price
        of one look-up, in money."""
        rate, lookup = self.found.value(now), self.lookup.value(now)
        hit, up = self.hit.value(now), self.upstream.value(now)
        gain = None if up is None else up - (hit or 0.0)
        self.saved.fade(now)
        self.spent.fade(now)
        saved, hours = self.saved, self.saved.hours(now)
        priced = saved.priced >= 1.0
        ms, spent = _per(saved.ms, hours), _per(self.spent.ms, hours)
        hits = saved.priced + saved.unpriced
        return Figures(
            looks=self.found.weight * _kept(now - self.found.at),
            hit_rate=rate,
            lookup_ms=lookup,
            hit_ms=hit,
            upstream_ms=up,
            break_even=break_even(lookup, up, hit or 0.0),
            net_ms_per_look=net(rate, gain, lookup),
            bearable_wrong_rate=bearable(gain, loss_ms),
            wrong_rate=wrong_rate,
            break_even_cost=break_even(lookup_cost, saved.cost / saved.priced, 0.0) if priced else None,
            saved_ms_per_hour=ms,
            lookup_ms_per_hour=spent,
            net_ms_per_hour=None if ms is None or spent is None else ms - spent,
            tokens_per_hour=_per(saved.tokens, hours),
            cost_per_hour=_per(saved.cost, hours) if priced else None,
            unpriced_share=saved.unpriced / hits if hits >= 1.0 else None,
            missing=_missing(rate, gain),
        )


def net(rate: float | None, gain: float | None, lookup: float | None) -> float | None:
    """h·(T_upstream − T_hit) − T_lookup."""
    return None if rate is None or gain is None or lookup is None else rate * gain - lookup


def _per(total: float, hours: float | None) -> float | None:
    return total / hours if hours else None


def break_even(lookup: float | None, upstream: float | None, hit: float | None) -> float | None:
    """h* = T_lookup / (T_upstream − T_hit), in any unit. None if a hit saves nothing or a term is unknown."""
    if lookup is None or upstream is None or hit is None or upstream <= hit:
        return None
    rate = lookup / (upstream - hit)
    return rate if isfinite(rate) else None


def bearable(saving: float | None, loss: float) -> float | None:
    """S / (S + L): the share of wrong hits at which hits stop paying."""
    return saving / (saving + loss) if saving is not None and saving > 0 else None


def _missing(rate: float | None, gain: float | None) -> str:
    if rate is None:
        return f"fewer than {LEAST:.0f} recent look-ups"
    if gain is None:
        return f"fewer than {LEAST:.0f} recent answers of the upstream"
    return "" if gain > 0 else "a hit is no faster than the upstream"


def interval(hits: float, looks: float, deviations: float) -> tuple[float, float]:
    """Wilson's score interval for `hits` of `looks`. `looks` must be positive but need not be an integer."""
    square = deviations * deviations
    share = hits / looks
    middle = (share + square / (2 * looks)) / (1 + square / looks)
    reach = deviations / (1 + square / looks) * sqrt(share * (1 - share) / looks + square / (4 * looks**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)
