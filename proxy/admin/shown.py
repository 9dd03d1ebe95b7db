"""Parts of the proxy as JSON values. Times are Unix seconds, durations seconds unless the name says ms.

Texts that people or models wrote are wrapped in `Written`, which only `as_json` unwraps.
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
"""Read once, at import, as looking it up reads files."""


@dataclass(frozen=True, slots=True)
class Written:
    """A question, an answer, or words from them. Unless `admin.show_text` is set, `hidden` is shown in its
    place; an empty text is always shown."""

    content: Any
    hidden: str | None = None


def reason(told: str) -> Written:
    """The reason of a refusal: that a guard objected may be shown, but what it found are words of the
    question."""
    return Written(told, refusal(told))


def as_json(show_text: bool) -> Callable[[Any], str]:
    """The JSON encoder for all answers of the admin plane."""

    def open_up(value: Any) -> Any:
        if not isinstance(value, Written):
            raise TypeError(f"{type(value).__name__} is not a JSON value")
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
    """A category with its policy in force, which may be adjusted to pressure."""
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
    """A category's policy without pressure, and under the highest pressure at present."""
    base, now = app.cache.policy(category.name, 0.0), app.cache.policy(category.name, app.cache.pressure(""))
    return {
        "base": {"threshold": base.threshold, "ttl": base.ttl},
        "in_force": {"threshold": now.threshold, "ttl": now.ttl, "pressure": now.pressure},
    }


def estimate(category: Category, cache: Cache) -> Json:
    """The estimate of a category's wrong hits; the rate is null without a verdict."""
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
    """The value with infinities, which JSON does not have, replaced by null."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isinf(value) else value
