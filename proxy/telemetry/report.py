"""One record per call: what was decided, why, and how long it took. Headers, metrics, log line and the list
of recent decisions are all made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiohttp import web
from multidict import CIMultiDict

from policies.classifier import Classification
from proxy.cache import Found, Tier
from proxy.messages import shown
from proxy.upstreams.fleet import Fleet

Outcome = Literal["HIT", "MISS", "BYPASS", "STALE", "SHADOW"]


@dataclass(slots=True)
class Report:
    """Times are Unix seconds, durations milliseconds (but `age` and `ttl` are seconds). None: the call did
    not get that far."""

    at: float
    path: str
    dialect: str = ""
    model: str = ""
    tenant: str = ""
    query: str = ""
    stream: bool = False
    outcome: Outcome = "MISS"
    tier: Tier | None = None
    reason: str = ""
    """Why it was a bypass, or why the nearest entry was not served."""
    category: str = ""
    classified_by: str = ""
    confidence: float | None = None
    similarity: float | None = None
    threshold: float | None = None
    pressure: float | None = None
    entry_id: str = ""
    matched: str = ""
    """The stored question."""
    age: float | None = None
    ttl: float | None = None
    stored: bool = False
    collapsed: bool = False
    forwarded: bool = False
    unfit: Literal["", "stale", "request"] = ""
    """Why a stored answer was not served, in the terms of RFC 9211: `stale`, it is too old for its category;
    `request`, it is too old for the caller."""
    status: int = 0
    upstream: str = ""
    """Name of the upstream that answered."""
    upstream_status: int = 0
    """Status of the upstream's failure for which a stale answer was served."""
    error: str = ""
    degraded: str = ""
    """What failed on the way, although the call was answered."""
    embed_ms: float | None = None
    lookup_ms: float | None = None
    """Time in the semantic tier: embedding, classification, search, guards. None: it was not used."""
    load_ms: float | None = None
    upstream_ms: float | None = None
    """To the first byte."""
    answer_ms: float | None = None
    """To the last byte of an upstream's answer with status 200."""
    near: bool = False
    """Whether the semantic tier found an answer, served or only counted."""
    total_ms: float = 0.0
    paced_ms: float = 0.0
    """The part of `total_ms` that comes from the chosen pace of a replayed stream."""
    saved_ms: float = 0.0
    saved_cost: float | None = None
    """In the currency of the price table. None: no hit, or no price."""
    tokens_in: int = 0
    tokens_out: int = 0

    def classified(self, classification: Classification) -> None:
        self.category = classification.category
        self.classified_by = classification.by
        self.confidence = classification.confidence

    def found(self, found: Found, now: float) -> None:
        self.outcome = "STALE" if found.verdict.remaining <= 0 else "HIT"
        self.tier = found.tier
        self.category = self.category or found.entry.category
        self.similarity, self.threshold = found.similarity, found.threshold
        self.pressure = found.policy.pressure
        self.entry_id, self.matched = found.entry.id, shown(found.entry.text)
        self.age, self.ttl = now - found.entry.created, found.verdict.remaining
        self.saved_ms = found.entry.cost_ms
        self.tokens_in, self.tokens_out = found.entry.tokens_in, found.entry.tokens_out

    def joined(self, entry_id: str, matched: str, similarity: float) -> None:
        """This call shares the answer to a call in flight, whose question is `matched`."""
        self.outcome, self.tier, self.collapsed = "HIT", "inflight", True
        self.entry_id, self.matched, self.similarity = entry_id, shown(matched), similarity

    def joined_in_vain(self) -> None:
        """The call in flight brought no answer that this one can use."""
        self.outcome, self.tier, self.collapsed, self.entry_id, self.age = "MISS", None, False, "", None

    def shadowed(self) -> None:
        """The hit is only counted. What is served is the upstream's answer, which has no age and no
        lifetime."""
        self.outcome, self.age, self.ttl, self.collapsed = "SHADOW", None, None, False
        self.saved_ms, self.tokens_in, self.tokens_out = 0.0, 0, 0

    def bypassed(self, reason: str) -> None:
        self.outcome, self.reason = "BYPASS", reason


_OURS = (
    "X-Cache", "X-Cache-Tier", "X-Cache-Category", "X-Cache-Bypass-Reason", "X-Cache-Entry-Id",
    "X-Cache-Similarity", "X-Cache-Threshold", "X-Cache-Pressure", "X-Cache-Items",
)  # fmt: skip
"""Our headers in answers."""


def add(headers: CIMultiDict[str], told: dict[str, str]) -> None:
    """Adds our headers to an upstream's. `Cache-Status` lists every cache on the way, ours last. Headers set
    by another nearhit on the way are removed, as they would be taken for ours."""
    for name in _OURS:
        headers.popall(name, None)
    status = [*headers.getall("Cache-Status", ()), told["Cache-Status"]]
    headers.update(told)
    headers["Cache-Status"] = ", ".join(status)


def headers(report: Report, debug: bool) -> dict[str, str]:
    """Our headers for an answer. `debug`: with the scores, which callers could use to probe the cache."""
    told: dict[str, str] = {"Cache-Status": _cache_status(report), "X-Cache": report.outcome}
    if report.tier is not None:
        told["X-Cache-Tier"] = report.tier
    if report.category:
        told["X-Cache-Category"] = report.category
    if report.outcome == "BYPASS":
        told["X-Cache-Bypass-Reason"] = report.reason
    if report.entry_id:
        told["X-Cache-Entry-Id"] = report.entry_id
    if report.age is not None:
        told["Age"] = str(max(0, int(report.age)))
    if debug:
        told.update(_scores(report))
    return told


def for_browsers(request: web.BaseRequest, fleet: Fleet) -> dict[str, str]:
    """The headers that let a web page read a cached answer (Fetch standard, CORS protocol). As for all JSON,
    its browser has asked the upstream for permission by a preflight, which was passed through. A preflight
    names no model, so with several upstreams the wrong one may have been asked: then there are no such
    headers."""
    origin = request.headers.get("Origin")
    if origin is None or fleet.several or request.content_type != "application/json":
        return {}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def _cache_status(report: Report) -> str:
    """RFC 9211."""
    if report.outcome in ("HIT", "STALE") and not report.forwarded and not report.collapsed:
        return f"nearhit; hit; ttl={int(report.ttl or 0)}; detail={report.tier}"
    parts = ["nearhit", f"fwd={_forwarded_because(report)}"]
    if report.outcome == "SHADOW":
        parts.append("detail=shadow")
    if report.upstream_status:
        parts.append(f"fwd-status={report.upstream_status}")
    parts += [name for name in ("stored", "collapsed") if getattr(report, name)]
    return "; ".join(parts)


def _forwarded_because(report: Report) -> str:
    if report.outcome == "STALE":
        return "stale"
    if report.outcome == "BYPASS":
        return "request" if report.reason == "no-cache" else "bypass"
    return "bypass" if report.outcome == "SHADOW" else report.unfit or "miss"


def _scores(report: Report) -> dict[str, str]:
    scores = {
        "X-Cache-Similarity": report.similarity,
        "X-Cache-Threshold": report.threshold,
        "X-Cache-Pressure": report.pressure,
    }
    return {name: f"{score:.4f}" for name, score in scores.items() if score is not None}
