"""Explains what would happen to a query: takes the decisions of the call path without carrying them out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from heapq import nlargest
from operator import itemgetter

from embeddings.base import EmbeddingError, Vector
from policies.bounded import TookTooLong
from policies.decision import Controls, Offer, judge, required_similarity
from policies.model import InForce, Mode
from proxy.admin import shown, walk
from proxy.admin.errors import Unavailable
from proxy.admin.inputs import Explained
from proxy.admin.shown import Json, Written
from proxy.admin.views import check_category
from proxy.app import App
from proxy.cache import CANDIDATES, Cache
from storage.base import Entry, StorageError

SEARCHED_S = 10.0
"""Time to search all partitions; with vectors in a database, each takes a round trip."""
_SERVED = ("fresh", "revalidate")


async def explain(app: App, asked: Explained) -> Json:
    """Assumes a call that is otherwise identical to the one that stored the entry: same model, tenant,
    earlier turns and parameters."""
    cache = app.cache
    if asked.category is not None:
        check_category(cache, asked.category)
    vector, problem = await _vector(cache, asked.text)
    try:
        kind = cache.rules.classifier.classify(
            text=asked.text, model=asked.model or "", vector=vector, header=asked.category
        )
    except TookTooLong as error:
        raise Unavailable(f"such a call passes the cache by: {error}") from error
    policy = cache.policy(kind.category, cache.pressure(asked.model or ""))
    try:
        async with asyncio.timeout(SEARCHED_S):
            candidates = await _candidates(app, asked, vector, policy)
    except TimeoutError as error:
        raise Unavailable(
            f"the search took longer than {SEARCHED_S:g} s: give a model or a tenant to narrow it down"
        ) from error
    except StorageError as error:
        raise Unavailable(f"similar entries cannot be searched for now: {error}") from error
    outcome, because = _outcome(policy, cache.mode(kind.category), candidates, problem)
    return {
        "text": Written(asked.text),
        "outcome": outcome,
        "because": because,
        "category": kind.category,
        "confidence": kind.confidence,
        "classified_by": kind.by,
        "threshold": policy.threshold,
        "ttl": policy.ttl,
        "pressure": policy.pressure,
        "scope": policy.category.scope,
        "guards": list(policy.category.guards),
        "embedding": problem or "ok",
        "nearest": candidates,
    }


async def _vector(cache: Cache, text: str) -> tuple[Vector | None, str]:
    try:
        return await cache.embed(text), ""
    except EmbeddingError as error:
        return None, str(error) or type(error).__name__


async def _candidates(app: App, asked: Explained, vector: Vector | None, policy: InForce) -> list[Json]:
    def comparable(entry: Entry) -> bool:
        of_tenant = asked.tenant is None or entry.tenant.startswith(asked.tenant)
        return of_tenant and asked.model in (None, entry.model) and app.cache.serves(entry)

    if vector is None:
        return []
    best: list[tuple[float, Entry]] = []
    partitions: Iterable[bytes] = app.cache.entries.vectors.partitions()
    if (asked.tenant, asked.model) != (None, None):
        walked = walk.matching(app.cache.entries, comparable)
        partitions = {entry.partition async for some in walked for entry in some}
    async for near in walk.nearest(app.cache.entries, partitions, vector, CANDIDATES):
        best += [(cosine, entry) for cosine, entry in near if comparable(entry)]
        best = nlargest(CANDIDATES, best, key=itemgetter(0))
    now = app.clock()
    return [_judged(app.cache, entry, cosine, asked.text, policy, now) for cosine, entry in best]


def _judged(cache: Cache, entry: Entry, cosine: float, text: str, policy: InForce, now: float) -> Json:
    stored, controls = cache.policy(entry.category, policy.pressure), Controls()
    offer = Offer(entry.text, cosine, now - entry.created, entry.ttl, stored)
    verdict = judge(offer, text, policy, controls)
    return {
        "similarity": cosine,
        "threshold": required_similarity(policy, stored, controls),
        "verdict": verdict.freshness,
        "reason": shown.reason(verdict.reason),
        "mode": cache.mode(entry.category),
        "entry": shown.entry(entry, cache, now),
    }


def _outcome(policy: InForce, mode: Mode, candidates: list[Json], problem: str) -> tuple[str, str]:
    if policy.category.barred:
        why = "not cacheable" if policy.category.barred == "category" else "switched off"
        return "BYPASS", f"category {policy.category.name} is {why}"
    if mode == "off":
        return (
            "MISS",
            f"semantic look-ups do not pay in category {policy.category.name} (mode auto)",
        )
    for each in candidates:
        if each["verdict"] in _SERVED:
            outcome = "SHADOW" if "shadow" in (mode, each["mode"]) else "HIT"
            like, needed = each["similarity"], each["threshold"]
            entry = each["entry"]["id"]
            return outcome, f"similarity {like:.3f} to entry {entry}, and {needed:.3f} is required"
    if problem:
        return "MISS", f"no vector, so only the exact tier applies: {problem}"
    if not candidates:
        return "MISS", "nothing is stored to compare it with"
    best = candidates[0]
    against = best["reason"].hidden or best["verdict"]
    nearest = f"the nearest entry has similarity {best['similarity']:.3f}"
    if against == "threshold":
        return "MISS", f"{nearest}, and {best['threshold']:.3f} is required"
    return "MISS", f"{nearest}, but is refused by {against}"
