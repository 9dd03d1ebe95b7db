"""What a caller asks of the cache, in headers and, for clients of LiteLLM, in the body.

`Cache-Control` has the meaning of RFC 9111, section 5.2.1. The headers of other gateways are aliases. Our own
headers and the aliases never reach the upstream; `Cache-Control` is passed on, as any cache on the way may
act on it. A control that does not parse is ignored, as RFC 9111 demands of unknown directives, because a typo
in a header must not fail the call. The exception is `max-age`, which then counts as 0.
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
"""The controls, whatever the header is called."""
NAMES: tuple[Name, ...] = get_args(Name)
_MEMBERS = {"no-cache": "read", "no-store": "write"}


@dataclass(frozen=True, slots=True)
class Permits:
    """Who may use which controls."""

    allowed: tuple[Name, ...] | None = None
    """None: all of them."""
    trusted: tuple[str, ...] = ()
    """Prefixes of the digests of tenants who may use all of them."""

    def of(self, controls: Controls, tenant: str) -> Controls:
        """The controls without those that this tenant may not use."""
        if self.allowed is None or tenant.startswith(self.trusted):
            return controls
        members = [_MEMBERS.get(name) or name.replace("-", "_") for name in self.allowed]
        return replace(_NOTHING, **{member: getattr(controls, member) for member in members})


def _clean(value: str) -> str:
    """The value without lone surrogates, which no store and no header accepts."""
    return value.encode("utf-8", "replace").decode()


def _seconds(text: str) -> float | None:
    """A duration as in category files; None if it is not one."""
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
    """The value `word` asks for identical questions only, not for similar ones."""
    return lambda controls, value: (
        replace(controls, threshold=1.0) if value.strip().lower() == word else controls
    )


def _namespace(controls: Controls, value: str) -> Controls:
    return replace(controls, namespace=value.strip() or controls.namespace)


def _key(controls: Controls, value: str) -> Controls:
    """Several keys all separate, so they are combined; with line breaks, which no header can contain."""
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
    """`bare`: the value without an argument. `invalid`: the value if the argument does not parse."""

    def change(controls: Controls, argument: str) -> Controls:
        value = _seconds(argument) if argument else bare
        value = invalid if value is None else value
        changes: dict[str, Any] = {} if value is None else {member: value}
        return replace(controls, **changes)

    return change


_max_age = _age("max_age", invalid=0.0)
"""A caller who limits the age in a form we cannot read gets no old answer (RFC 9111, section 4.2.1)."""


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
"""Keyed by `istr`, which halves the time to look up headers."""

_NOTHING = Controls()
EVERYTHING = Permits()

REMOVED = frozenset({*_ALIASES, *_OURS})
"""Headers, in lower case, that are controls."""


def removed(name: str) -> bool:
    """Whether a header, in lower case, is not passed on: a control, or a misspelt one of ours."""
    return name in REMOVED or name.startswith("x-nearhit-")


def asked(headers: CIMultiDictProxy[str], cache: dict[str, Any] | None = None) -> Controls:
    """`cache`: LiteLLM's member of the body, https://docs.litellm.ai/docs/proxy/caching. Our own headers are
    read last, and win."""
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
