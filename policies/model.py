"""A category's policy as plain values. Durations are seconds, thresholds cosines, shares fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Scope = Literal["tenant", "shared"]
Mode = Literal["on", "shadow", "off", "auto"]
"""shadow: looked up, decided, counted and stored as usual, but the upstream's answer is served. auto: one of
the others for the semantic tier, chosen by its measured gain; the exact tier stays on."""


@dataclass(frozen=True, slots=True)
class Match:
    """Rules that assign a category before the trained classifier is asked."""

    models: tuple[str, ...] = ()
    """Shell patterns over the model's name."""
    patterns: tuple[str, ...] = ()
    """Regular expressions, searched for in the query's text."""


@dataclass(frozen=True, slots=True)
class Stale:
    while_revalidate: float = 0.0
    if_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """How far the category gives way while its upstream is under pressure. Not at all, by default."""

    threshold_drop: float = 0.0
    threshold_floor: float = 0.0
    ttl_factor: float = 1.0
    ttl_ceiling: float = float("inf")
    stale_at: float | None = None
    """Pressure from which an answer within `stale.if_error` is served at once. None: only when the upstream
    fails."""
    renew_below: float = 0.8
    """Pressure from which answers served past their lifetime are no longer renewed."""
    share_flights: bool = True
    """Whether the lowered threshold also decides who may share a call that is in flight."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Which hits are checked against a fresh answer. None by default, as each check costs a call."""

    share: float = 0.0
    per_hour: int = 60
    threshold_floor: float | None = None
    """How low a threshold that follows its target may fall. None: never below the category's own."""
    threshold_ceiling: float = 0.98


@dataclass(frozen=True, slots=True)
class Category:
    name: str
    threshold: float
    ttl: float
    description: str = ""
    match: Match = field(default_factory=Match)
    examples: tuple[str, ...] = ()
    cacheable: bool = True
    scope: Scope = "tenant"
    mode: Mode = "on"
    stale: Stale = field(default_factory=Stale)
    quota: float = 0.0
    priority: int = 1
    guards: tuple[str, ...] = ("language", "numbers", "negation", "identifiers", "entities")
    load: Load = field(default_factory=Load)
    audit: Audit = field(default_factory=Audit)
    target_wrong_rate: float | None = None
    wrong_hit_costs: float = 60.0
    """Seconds of upstream time that hits must save to make up for one wrong hit."""

    @property
    def barred(self) -> str:
        """Why calls of this category bypass the cache; "" if they do not."""
        return "category" if not self.cacheable else "off" if self.mode == "off" else ""


@dataclass(slots=True)
class InForce:
    """A category's threshold and lifetime for one call, under the pressure of that call's upstream."""

    category: Category
    threshold: float
    ttl: float
    pressure: float = 0.0


def in_force(category: Category, pressure: float, base: float | None = None) -> InForce:
    """θ = max(floor, θ₀ − drop·λ) and ttl = min(ceiling, ttl₀·(1 + (factor − 1)·λ)), where λ = `pressure` in
    [0, 1] and θ₀ = `base` if audits have moved it, else the category's threshold.

    Floor and ceiling only limit the adjustment: a base that is already beyond them is left alone.
    After arXiv 2510.26835, section on adaptive policies.
    """
    load, base = category.load, category.threshold if base is None else base
    threshold = min(base, max(load.threshold_floor, base - load.threshold_drop * pressure))
    ttl = max(category.ttl, min(load.ttl_ceiling, category.ttl * (1.0 + (load.ttl_factor - 1.0) * pressure)))
    return InForce(category, threshold, ttl, pressure)
