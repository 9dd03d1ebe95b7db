"""From a request's bytes to a `Call` (what must match exactly, what may be alike, what the caller asks of the
cache), and to a `Question` once its category is known.

Identity is all that is not known to be irrelevant: the path with its query, the headers in
`IDENTITY_HEADERS`, the tenant, the namespace and every member of the body but the last user text and
`stream`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import isinf
from typing import Any

from multidict import CIMultiDictProxy

from embeddings.base import Vector
from policies.decision import Controls
from policies.model import InForce
from proxy import controls as request_controls
from proxy.controls import EVERYTHING, Permits
from proxy.dialects import Dialect
from proxy.dialects.base import JsonObject, Reading, dump
from proxy.errors import BadRequest

IDENTITY_HEADERS = re.compile(
    r"""
    (?: x-bf-eh- | x-pass- )?                 # handed on under the rest of the name
    (?: openai-(?: organization | project | beta ) | anthropic-(?: version | beta )
      | x-goog-fieldmask | azureml-model-deployment | groq-model-version
      | x-amzn-bedrock-(?: guardrail.+ | trace )
      | x-litellm-tags
      | cf-aig-(?: custom-provider | byok-alias | gateway-id )
      | helicone-(?: openai-api-base | fallbacks )
      | helicone-(?: target | moderations | llm-security | token-limit )-.+
      | x-bf-(?: api-key | api-key-id | mcp-include-.+ | prompt-.+ | send-back-.+ | passthrough-.+ | compat )
      | x-portkey-(?! trace- | span- | parent-span- | metadata | debug | sensitive- | request-timeout | retry-
                    | cache | api-key | aws-access- | aws-secret- | .+-token$ | runtime | package-version
                    | request-id | user ).+
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Names of headers that choose who answers, or how; not those for logs, timing, caches and credentials. Of a
gateway that has a header for each provider's settings, all but those."""
SHARED = "shared"
"""Stands where a tenant's digest would, for categories whose answers cross tenants."""

SHOWN = 500
"""Characters of a question that are kept where it is only shown to people."""
TENANT_SHOWN = 12
"""Characters of a tenant's digest that people see, and that a report holds."""
_DIGEST_BYTES = 16

REMEMBERED_BODIES = 1024
REMEMBERED_BYTES = 8192
"""Longest of them; larger bodies are read anew each time."""
REMEMBERED_NAMES = 256
"""Names of headers; clients send the same ones with every call, and matching them anew takes three times as
long."""


class Ambiguous(Exception):
    """JSON that two readers may read differently, or that we cannot read. It is never cached."""


@dataclass(slots=True)
class Call:
    """A request for an answer that may be in the cache."""

    dialect: Dialect
    target: str
    """Path and query as they came."""
    headers: CIMultiDictProxy[str]
    body: bytes
    """As it came, without LiteLLM's `cache` member."""
    fields: JsonObject
    reading: Reading
    controls: Controls
    tenant: str
    """Digest of the caller's credentials."""
    identity: bytes
    """Digest of everything but the text and the tenant."""
    generation: int = 0
    """Of the cache when the call began, set by whoever takes it in: an answer is not stored across a
    purge."""

    @property
    def text(self) -> str | None:
        return self.reading.text

    def partition(self, tenant: str) -> bytes:
        """Digest of all but the text: only calls with the same one are ever compared. `tenant`: whose answers
        may serve it, or `SHARED`."""
        return _digest(self.identity, b"near", tenant.encode())

    def exact(self, tenant: str) -> bytes:
        """Digest of the whole call, text included."""
        text = b"\0" if self.text is None else b"\1" + self.text.encode("utf-8", "surrogatepass")
        return _digest(self.identity, b"same", tenant.encode(), text)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A call once its category is known: what the caches and the upstream are asked."""

    call: Call
    scope: str
    """Whose answers may serve it: its tenant's digest, or `SHARED`."""
    policy: InForce
    vector: Vector | None
    """Of the call's text; None where only the same call to the letter may match."""
    fingerprint: str
    """Of the embedding model that made the vector; "" without one."""
    partition: bytes
    """`Call.partition` in that scope."""
    exact: bytes
    """`Call.exact` in that scope."""

    @classmethod
    def of(cls, call: Call, scope: str, policy: InForce, vector: Vector | None, fingerprint: str) -> Question:
        partition, exact = call.partition(scope), call.exact(scope)
        return cls(call, scope, policy, vector, fingerprint, partition, exact)


def read_call(
    dialect: Dialect,
    target: str,
    headers: CIMultiDictProxy[str],
    body: bytes,
    tenant: str,
    permits: Permits = EVERYTHING,
) -> Call | None:
    """The call that a request makes. `target`: path and query as they came. `tenant`: digest of the caller's
    credentials. None: the body is JSON, but no request of this API; the upstream shall answer it.

    Raises `BadRequest` for what is not JSON and `Ambiguous` for what nobody should cache.
    """
    understand = _understood if len(body) <= REMEMBERED_BYTES else _understood.__wrapped__
    try:
        understood = understand(dialect, dialect.place or target, tenant, body)  # type: ignore[arg-type]  # a module, which can be hashed
        if understood is None:
            return None
        fields, reading, identity, asked_in_body = understood
        asked = request_controls.asked(headers, asked_in_body)
        if asked_in_body is not None:
            body = dump(fields)
        asked = permits.of(asked, tenant)
        chosen = _identity_headers(headers)
        if chosen or asked.namespace:
            identity = _digest(identity, _canonical([chosen, asked.namespace]))
        return Call(dialect, target, headers, body, fields, reading, asked, tenant, identity)
    except RecursionError as error:
        raise Ambiguous("nested too deeply for us to compare") from error


@lru_cache(REMEMBERED_BODIES)
def _understood(
    dialect: Dialect, place: str, tenant: str, body: bytes
) -> tuple[JsonObject, Reading, bytes, JsonObject | None] | None:
    """What a body says by itself: its members (not to be changed), their reading, the digest of all that must
    match exactly, and LiteLLM's `cache` member. None: not a request of this API.

    Remembered, as what comes again mostly comes to the letter, and reading takes a quarter of an exact hit.
    Remembered by tenant, so that the time it takes tells nobody what another tenant asked.
    """
    fields = _parse(body)
    if not isinstance(fields, dict):
        return None
    asked = fields.pop("cache") if isinstance(fields.get("cache"), dict) else None
    reading = dialect.read(fields)
    if reading is None:
        return None
    return fields, reading, _digest(_canonical([dialect.name, place, reading.identity])), asked


def without_controls(body: bytes) -> bytes:
    """The body of a request that is not made into a `Call`, without LiteLLM's `cache` member where that can
    be told; else as it came."""
    if b'"cache"' not in body:
        return body
    try:
        fields = _parse(body)
        if not isinstance(fields, dict) or not isinstance(fields.pop("cache", None), dict):
            return body
        return dump(fields)
    except (BadRequest, Ambiguous, RecursionError):
        return body


def forget_bodies() -> None:
    """Forgets what was remembered of the bodies that were read."""
    _understood.cache_clear()


def _identity_headers(headers: CIMultiDictProxy[str]) -> list[tuple[str, list[str]]]:
    names = sorted(set(map(str.lower, filter(_is_identity, headers))))
    return [(name, headers.getall(name)) for name in names]


@lru_cache(REMEMBERED_NAMES)
def _is_identity(name: str) -> bool:
    return IDENTITY_HEADERS.fullmatch(name) is not None


def tenant_digest(credentials: str) -> str:
    """Digest that tells tenants apart without keeping their credentials."""
    return blake2b(
        credentials.encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES, person=b"nearhit-tenant"
    ).hexdigest()


def shown(text: str) -> str:
    """As much of a question as people need to recognise it."""
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _parse(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (json.JSONDecodeError, UnicodeDecodeError, _NotJson) as error:
        raise BadRequest(f"The body of this request is not valid JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Ambiguous("a number too long, or nested too deeply, for us to read") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Ambiguous
    return members


class _NotJson(ValueError):
    """A constant that Python writes and JSON does not have."""


def _not_json(constant: str) -> None:
    raise _NotJson(f"{constant} is not JSON")


def _finite(text: str) -> float:
    """Raises `Ambiguous` at what is too large for a float: it would go up as `Infinity`, which is not
    JSON."""
    if isinf(value := float(text)):
        raise Ambiguous("a number too large for us to keep")
    return value


# Made once: the functions of the json module make one for every call that has options.
_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_not_json, parse_float=_finite)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)


def _canonical(value: Any) -> bytes:
    """One text for one meaning: members sorted, no white space. 1 and 1.0 stay different, as upstreams may
    tell them apart."""
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
