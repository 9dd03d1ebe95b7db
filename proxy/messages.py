"""Turns a request's bytes into a `Call` (what must match exactly, what may be similar, what the caller asks
of the cache) and, once its category is known, into a `Question`.

A call's identity is everything that is not known to be irrelevant: path and query, the headers in
`IDENTITY_HEADERS`, the tenant, the namespace, and every member of the body except the last user text and
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
    (?: x-bf-eh- | x-pass- )?                 # passed on without this prefix
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
"""Names of headers that determine who answers, or how; not those for logs, timing, caches and credentials.
For a gateway with a header for every setting of every provider, all headers but those exceptions."""
SHARED = "shared"
"""Takes the place of a tenant's digest in categories whose answers cross tenants."""

SHOWN = 500
"""Characters of a question that are kept if it is only shown to people."""
TENANT_SHOWN = 12
"""Characters of a tenant's digest in reports and for people."""
_DIGEST_BYTES = 16

REMEMBERED_BODIES = 1024
REMEMBERED_BYTES = 8192
"""Largest body that is remembered; larger ones are parsed each time."""
REMEMBERED_NAMES = 256
"""Header names whose match is remembered: clients send the same ones with every call, and matching them again
takes three times as long."""


class Ambiguous(Exception):
    """JSON that two parsers may read differently, or that we cannot read. It is never cached."""


@dataclass(slots=True)
class Call:
    """A request that may be answered from the cache."""

    dialect: Dialect
    target: str
    """Path and query, as received."""
    headers: CIMultiDictProxy[str]
    body: bytes
    """As received, but without LiteLLM's `cache` member."""
    fields: JsonObject
    reading: Reading
    controls: Controls
    tenant: str
    """Digest of the caller's credentials."""
    identity: bytes
    """Digest of everything but the text and the tenant."""
    generation: int = 0
    """The cache's generation when the call began, set by the data plane: an answer is not stored across a
    purge."""

    @property
    def text(self) -> str | None:
        return self.reading.text

    def partition(self, tenant: str) -> bytes:
        """Digest of everything but the text: only calls with the same one are ever compared. `tenant`: whose
        answers may be used, or `SHARED`."""
        return _digest(self.identity, b"near", tenant.encode())

    def exact(self, tenant: str) -> bytes:
        """Digest of the whole call, text included."""
        text = b"\0" if self.text is None else b"\1" + self.text.encode("utf-8", "surrogatepass")
        return _digest(self.identity, b"same", tenant.encode(), text)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A call whose category is known, ready to be looked up or sent upstream."""

    call: Call
    scope: str
    """Whose answers may be used: its tenant's digest, or `SHARED`."""
    policy: InForce
    vector: Vector | None
    """Of the call's text. None: only an identical call may match."""
    fingerprint: str
    """Of the embedding model that made the vector; "" without one."""
    partition: bytes
    """`Call.partition` for that scope."""
    exact: bytes
    """`Call.exact` for that scope."""

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
    """Reads a request as a call. `target`: path and query, as received. `tenant`: digest of the caller's
    credentials. None: the body is JSON but not a request of this API, so the upstream should answer it.

    Raises `BadRequest` if the body is not JSON, and `Ambiguous` if it must not be cached.
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
    """What can be told from the body alone: its members (not to be modified), their reading, the digest of
    all that must match exactly, and LiteLLM's `cache` member. None: not a request of this API.

    Remembered because most repeated bodies are identical, and parsing is a quarter of the time of an exact
    hit; per tenant, so that timing does not reveal what another tenant has asked.
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
    """The body of a request that does not become a `Call`, without LiteLLM's `cache` member if it can be
    parsed; else as received."""
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
    """Clears the memory of parsed bodies."""
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
    """As much of a question as is shown to people."""
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _parse(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (json.JSONDecodeError, UnicodeDecodeError, _NotJson) as error:
        raise BadRequest(f"The body of this request is not valid JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Ambiguous("a number is too long, or the body is nested too deeply, for us to read") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Ambiguous
    return members


class _NotJson(ValueError):
    """A constant that Python accepts but JSON does not have."""


def _not_json(constant: str) -> None:
    raise _NotJson(f"{constant} is not JSON")


def _finite(text: str) -> float:
    """Raises `Ambiguous` for a number too large for a float: it would be sent upstream as `Infinity`, which
    is not JSON."""
    if isinf(value := float(text)):
        raise Ambiguous("a number is too large for us to keep")
    return value


# Created once: the functions of the json module create one for every call with options.
_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_not_json, parse_float=_finite)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)


def _canonical(value: Any) -> bytes:
    """The same text for the same meaning: members sorted, no white space. 1 and 1.0 stay different, as an
    upstream may treat them differently."""
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
