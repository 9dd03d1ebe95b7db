"""What a caller asks of the cache, from headers and, for LiteLLM's callers, from the body.

`Cache-Control` has the meaning of RFC 9111, section 5.2.1. The other gateways' names are aliases. Our own
headers and the aliases end here: the upstream never sees them. `Cache-Control` goes on, as any cache on the
way may act on it. A control that does not parse is ignored, as RFC 9111 wants of unknown directives: a
typing error in a header must not fail the call. A `max-age` that does not parse is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from multidict import CIMultiDictProxy, istr

from policies import values
from policies.decision import Controls

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})

Change = Callable[[Controls, str], Controls]

Name = Literal[
    "no-cache", "no-store", "only-if-cached", "max-age", "max-stale", "stale-if-error", "category",
    "namespace", "ttl", "threshold", "tags", "debug",
]  # fmt: skip
"""What may be asked, whatever it is called in a header."""
NAMES: tuple[Name, ...] = get_args(Name)
_MEMBERS = {"no-cache": "read", "no-store": "write"}


@dataclass(frozen=True, slots=True)
class Permits:
    """Who may ask for what."""

    allowed: tuple[Name, ...] | None = None
    """None: everything."""
    trusted: tuple[str, ...] = ()
    """Starts of the digests of tenants who may ask for everything."""

    def of(self, controls: Controls, tenant: str) -> Controls:
        """What is left of what this tenant asks for."""
        if self.allowed is None or tenant.startswith(self.trusted):
            return controls
        members = [_MEMBERS.get(name) or name.replace("-", "_") for name in self.allowed]
        return replace(_NOTHING, **{member: getattr(controls, member) for member in members})


def _clean(value: str) -> str:
    """Without half characters, which no store and no header would take."""
    return value.encode("utf-8", "replace").decode()


def _seconds(text: str) -> float | None:
    """As in category files; None for anything else."""
    try:
        return values.seconds(text)
    except ValueError:
        return None


def _fraction(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def _if_true(**changes: Any) -> Change:
    return lambda controls, value: (
        replace(controls, **changes) if value.strip().lower() in _TRUE else controls
    )


def _if_false(**changes: Any) -> Change:
    return lambda controls, value: (
        replace(controls, **changes) if value.strip().lower() in _FALSE else controls
    )


def _ttl(controls: Controls, value: str) -> Controls:
    asked = _seconds(value)
    return controls if asked is None else replace(controls, ttl=asked)


def _threshold(controls: Controls, value: str) -> Controls:
    asked = _fraction(value)
    return controls if asked is None else replace(controls, threshold=max(asked, controls.threshold or 0.0))


def _exactly(word: str) -> Change:
    """`word` wants the same question only, not one that is alike."""
    return lambda controls, value: (
        replace(controls, threshold=1.0) if value.strip().lower() == word else controls
    )


def _namespace(controls: Controls, value: str) -> Controls:
    return replace(controls, namespace=value.strip() or controls.namespace)


def _key(controls: Controls, value: str) -> Controls:
    """Of several, each keeps apart: a line each, as no header holds a line break."""
    keys = (controls.namespace, value.strip())
    return replace(controls, namespace="\n".join(filter(None, keys)))


def _category(controls: Controls, value: str) -> Controls:
    return replace(controls, category=value.strip() or None)


def _tags(controls: Controls, value: str) -> Controls:
    return replace(
        controls, tags=tuple(dict.fromkeys(tag.strip() for tag in value.split(",") if tag.strip()))
    )


def _directives(controls: Controls, value: str) -> Controls:
    for directive in value.lower().split(","):
        name, _, argument = directive.strip().partition("=")
        if change := _DIRECTIVES.get(name):
            controls = change(controls, argument.strip().strip('"'))
    return controls


def _age(member: str, bare: float | None = None, invalid: float | None = None) -> Change:
    """`bare`: what it means without an argument. `invalid`: with one that is none."""

    def change(controls: Controls, argument: str) -> Controls:
        value = _seconds(argument) if argument else bare
        value = invalid if value is None else value
        changes: dict[str, Any] = {} if value is None else {member: value}
        return replace(controls, **changes)

    return change


_max_age = _age("max_age", invalid=0.0)
"""Who says how old an answer may be, and nobody can read it, gets no old one (RFC 9111, section 4.2.1)."""


_DIRECTIVES: dict[str, Change] = {
    "no-cache": lambda controls, _: replace(controls, read=False),
    "no-store": lambda controls, _: replace(controls, write=False),
    "only-if-cached": lambda controls, _: replace(controls, only_if_cached=True),
    "max-age": _max_age,
    "max-stale": _age("max_stale", bare=math.inf),
    "stale-if-error": _age("stale_if_error"),
}

_OURS: dict[str, Change] = {
    "x-nearhit-category": _category,
    "x-nearhit-namespace": _namespace,
    "x-nearhit-ttl": _ttl,
    "x-nearhit-threshold": _threshold,
    "x-nearhit-tags": _tags,
    "x-nearhit-debug": _if_true(debug=True),
}

_ALIASES: dict[str, Change] = {
    "x-cache-control": _directives,
    "cf-aig-skip-cache": _if_true(read=False, write=False),
    "cf-aig-cache-ttl": _ttl,
    "cf-aig-cache-key": _key,
    "x-portkey-cache": _exactly("simple"),
    "x-portkey-cache-force-refresh": _if_true(read=False),
    "x-portkey-cache-namespace": _key,
    "helicone-cache-enabled": _if_false(read=False, write=False),
    "helicone-cache-seed": _key,
    "x-bf-cache-key": _key,
    "x-bf-cache-type": _exactly("direct"),
    "x-bf-cache-ttl": _ttl,
    "x-bf-cache-threshold": _threshold,
    "x-bf-cache-no-store": _if_true(write=False),
}

_FIRST = {istr(name): change for name, change in {"cache-control": _directives, **_ALIASES}.items()}
_LAST = {istr(name): change for name, change in _OURS.items()}
"""As `istr`, which are found among headers in half the time."""

_NOTHING = Controls()
EVERYTHING = Permits()

REMOVED = frozenset({*_ALIASES, *_OURS})
"""Headers, in lower case, that say something here."""


def removed(name: str) -> bool:
    """Whether a header, in lower case, ends here; a misspelt one of ours too: it was meant for us."""
    return name in REMOVED or name.startswith("x-nearhit-")


def asked(headers: CIMultiDictProxy[str], cache: dict[str, Any] | None = None) -> Controls:
    """`cache`: LiteLLM's member of the body, https://docs.litellm.ai/docs/proxy/caching. What is said in our
    own words comes last, and wins."""
    controls = _told(_NOTHING, _FIRST, headers)
    if cache is not None:
        for name, change in _LITELLM.items():
            if cache.get(name) is not None:
                controls = change(controls, _clean(str(cache[name])))
    return _told(controls, _LAST, headers)


def _told(controls: Controls, names: dict[istr, Change], headers: CIMultiDictProxy[str]) -> Controls:
    for name, change in names.items():
        if name in headers:
            controls = change(controls, _clean(",".join(headers.getall(name))))
    return controls


_LITELLM: dict[str, Change] = {
    "no-cache": _if_true(read=False),
    "no-store": _if_true(write=False),
    "ttl": _ttl,
    "s-maxage": _max_age,
    "namespace": _key,
}
