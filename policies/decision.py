"""May this stored answer be served to this call? Plain values in, a verdict out; no clock, no I/O.

The rules of RFC 9111, section 4, with one more condition: the stored question must be similar enough to the
one asked, and no guard may object to the pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policies.guards.objections import objection
from policies.model import InForce, Stale

AHEAD = 60.0
"""Seconds by which an answer may lie in the future, as the clocks of replicas differ. Any further ahead, it
was stored by a clock that was wrong, and its age is unknown."""

ON_CALL = 3600.0
"""Seconds for which an expired answer is kept even if its category has no `stale`, for callers who accept it
(`max-stale`, `stale-if-error`)."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What the caller asks of the cache. Durations are seconds; None: not asked for."""

    read: bool = True
    write: bool = True
    only_if_cached: bool = False
    max_age: float | None = None
    max_stale: float | None = None
    stale_if_error: float | None = None
    ttl: float | None = None
    threshold: float | None = None
    category: str | None = None
    namespace: str = ""
    tags: tuple[str, ...] = ()
    debug: bool = False


@dataclass(slots=True)
class Offer:
    """A candidate: a stored answer that might be served."""

    text: str
    similarity: float
    """Cosine to the question asked; 1 if the calls are identical."""
    age: float
    ttl: float | None
    """Lifetime requested by the caller who stored it."""
    policy: InForce
    """Policy of the category it was stored under."""
    exact: bool = False


Freshness = Literal["fresh", "revalidate", "stale", "refused"]


@dataclass(slots=True)
class Verdict:
    freshness: Freshness
    """fresh: serve. revalidate: serve, and renew in the background. stale: only if the upstream fails."""
    remaining: float = 0.0
    """Seconds until it expires; negative once it has."""
    reason: str = ""


def required_similarity(asked: InForce, stored: InForce, controls: Controls) -> float:
    """The strictest threshold that applies: the two categories may differ, and the caller may only
    tighten."""
    return max(asked.threshold, stored.threshold, controls.threshold or 0.0)


def lifetime(asked: InForce, stored: InForce, ttl: float | None) -> float:
    """Seconds for which an answer is fresh: the shorter of the two categories' lifetimes. A caller's `ttl`
    replaces that of the category it was stored under, up to `longest`."""
    own = stored.ttl if ttl is None else min(ttl, longest(stored))
    return own if asked.category.name == stored.category.name else min(asked.ttl, own)


def longest(policy: InForce) -> float:
    """The longest lifetime that a caller may ask for, in seconds."""
    ceiling = policy.category.load.ttl_ceiling
    return max(policy.ttl, ceiling if ceiling != float("inf") else 0.0)


def kept(stored: InForce, ttl: float | None) -> float:
    """Seconds after which an entry is of no use to anybody, even as a stale answer."""
    stale = stored.category.stale
    return lifetime(stored, stored, ttl) + max(stale.while_revalidate, stale.if_error, ON_CALL)


def judge(offer: Offer, asked_text: str, asked: InForce, controls: Controls) -> Verdict:
    if not offer.exact and (reason := _unlike(offer, asked_text, asked, controls)):
        return Verdict("refused", reason=reason)
    return _freshness(offer, asked, controls)


def _unlike(offer: Offer, asked_text: str, asked: InForce, controls: Controls) -> str:
    required = required_similarity(asked, offer.policy, controls)
    if offer.similarity < required or (required >= 1.0 and asked_text != offer.text):
        return "threshold"  # an encoder that ignores case gives different texts a cosine of 1
    names = dict.fromkeys((*asked.category.guards, *offer.policy.category.guards))
    return objection(tuple(names), asked_text, offer.text) or ""


def _stale(asked: Stale, stored: Stale) -> Stale:
    """As with lifetimes, the shorter of the two categories'."""
    return Stale(min(asked.while_revalidate, stored.while_revalidate), min(asked.if_error, stored.if_error))


def _freshness(offer: Offer, asked: InForce, controls: Controls) -> Verdict:
    if offer.age < -AHEAD:
        return Verdict("refused", reason="expired")
    if controls.max_age is not None and offer.age > controls.max_age:
        return Verdict("refused", reason="max-age")
    remaining = lifetime(asked, offer.policy, offer.ttl) - offer.age
    if remaining > 0:
        return Verdict("fresh", remaining)
    if controls.max_stale is not None and -remaining <= controls.max_stale:
        return Verdict("fresh", remaining, "max-stale")
    stale = _stale(asked.category.stale, offer.policy.category.stale)
    # A caller who gave an answer a second to live does not want the hour that goes with a category's week.
    shortened = 1.0 if offer.ttl is None else min(1.0, offer.ttl / offer.policy.category.ttl)
    # A caller who limits age or staleness must not get anything staler (RFC 9111, 5.2.1.1 and 5.2.1.2).
    limited = controls.max_age is not None or controls.max_stale is not None
    if -remaining <= stale.while_revalidate * shortened and not limited:
        return Verdict("revalidate", remaining)
    if -remaining <= (stale.if_error if controls.stale_if_error is None else controls.stale_if_error):
        return Verdict("stale", remaining)
    return Verdict("refused", remaining, "expired")
