"""Parts of the proxy as JSON values. Times are Unix seconds, durations seconds unless the name says ms.

What people or models wrote is `Written`, which nothing but `as_json` takes apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any

from policies.decision import lifetime
from policies.model import Category
from proxy.app import App
from proxy.cache import Cache
from proxy.messages import TENANT_SHOWN
from proxy.telemetry.ledger import Tally
from proxy.telemetry.logs import refusal
from proxy.telemetry.report import Report
from storage.base import Entry

Json = dict[str, Any]

VERSION = version("nearhit")
"""Read once, at import: looking it up reads files."""


@dataclass(frozen=True, slots=True)
class Written:
    """A question, an answer, words of them: `hidden` stands for it unless `admin.show_text`, but for
    an empty one."""

    content: Any
    hidden: str | None = None


def reason(told: str) -> Written:
    """What a guard found are words of the question; that it objected is not."""
    return Written(told, refusal(told))


def as_json(show_text: bool) -> Callable[[Any], str]:
    """How everything that the admin plane answers becomes text."""

    def open_up(value: Any) -> Any:
        if not isinstance(value, Written):
            raise TypeError(f"{type(value).__name__} is no JSON value")
        return value.content if show_text or not value.content else value.hidden

    return json.JSONEncoder(default=open_up).encode


_WRITTEN: dict[str, Callable[[str], Written]] = {"query": Written, "matched": Written, "reason": reason}
_REPORT = tuple(each.name for each in fields(Report) if each.name not in _WRITTEN)
_TALLY = tuple(each.name for each in fields(Tally))


def entry(entry: Entry, cache: Cache, now: float) -> Json:
    policy = cache.policy(entry.category, cache.pressure(entry.model))
    age = now - entry.created
    return {
        "id": entry.id,
        "category": entry.category,
        "text": Written(entry.text),
        "model": entry.model,
        "dialect": entry.dialect,
        "tenant": entry.tenant[:TENANT_SHOWN],
        "namespace": entry.namespace,
        "tags": list(entry.tags),
        "partition": entry.partition.hex()[:12],
        "created": entry.created,
        "age": age,
        "fresh_for": lifetime(policy, policy, entry.ttl) - age,
        "bytes": entry.size,
        "hits": entry.hits,
        "last_hit": entry.last_hit or None,
        "cost_ms": entry.cost_ms,
        "tokens_in": entry.tokens_in,
        "tokens_out": entry.tokens_out,
        "provenance": entry.provenance or "answered",
    }


def report(report: Report) -> Json:
    written = {name: wrap(getattr(report, name)) for name, wrap in _WRITTEN.items()}
    return {name: getattr(report, name) for name in _REPORT} | written


def tally(tally: Tally) -> Json:
    counts: Json = {name: getattr(tally, name) for name in _TALLY}
    return {**counts, "hits": tally.hits, "hit_rate": tally.hits / tally.requests if tally.requests else 0.0}


def total(tallies: list[Tally]) -> Json:
    whole = Tally()
    for each in tallies:
        for name in _TALLY:
            setattr(whole, name, getattr(whole, name) + getattr(each, name))
    return tally(whole)


def category(category: Category, app: App) -> Json:
    """With the policy in force, which pressure may have bent."""
    usage = app.cache.entries.usage()["categories"]
    shown = _finite(asdict(category))
    del shown["examples"]
    return {
        **shown,
        "example_count": len(category.examples),
        **bent(category, app),
        "usage": usage.get(category.name),
        "audit": {**shown["audit"], **estimate(category, app.cache)},
        "tally": tally(app.ledger.tallies.get(category.name) or Tally()),
    }


def bent(category: Category, app: App) -> Json:
    """Without pressure, and under what there is where it is highest."""
    base, now = app.cache.policy(category.name, 0.0), app.cache.policy(category.name, app.cache.pressure(""))
    return {
        "base": {"threshold": base.threshold, "ttl": base.ttl},
        "in_force": {"threshold": now.threshold, "ttl": now.ttl, "pressure": now.pressure},
    }


def estimate(category: Category, cache: Cache) -> Json:
    """What is known of its wrong hits; no rate without a verdict."""
    found = cache.audits.estimate(category)
    share = found.wrong
    return {
        "wrong_rate": share.value if share.whole else None,
        "wrong_rate_lower": share.low,
        "wrong_rate_upper": share.high,
        "wrong": share.part,
        "decided": share.whole,
        "unsure": found.unsure,
    }


def economics(category: Category, app: App) -> Json:
    """Rates and shares as fractions; null: not known, and `missing` says why."""
    automatic = app.cache.automatics.of.get(category.name)
    return {
        **asdict(app.economy.figures(category, app.clock())),
        "mode": app.cache.mode(category.name),
        "automatic": category.mode == "auto",
        "mode_reason": automatic.reason if automatic else "",
        "exploring": automatic.exploring if automatic else False,
    }


def _finite(value: Any) -> Any:
    """JSON has no infinity: no bound is null."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isinf(value) else value
