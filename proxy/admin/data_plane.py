"""The data plane in OpenAPI: the calls that may be answered from the cache, their controls and our headers.

Bodies are those of the APIs; this only describes the members that nearhit needs.
"""

from __future__ import annotations

from typing import Any

from proxy import dialects
from proxy.admin.shown import VERSION, Json
from proxy.controls import NAMES
from proxy.dialects import gemini

_STRING = {"type": "string"}
_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
_ASKED: dict[str, tuple[str, Any]] = {
    "Cache-Control": (f"`{'`, `'.join(NAMES[:6])}`, as in RFC 9111", _STRING),
    "X-Nearhit-Category": ("Name of the category to use", _STRING),
    "X-Nearhit-Namespace": ("Namespaces do not share answers", _STRING),
    "X-Nearhit-TTL": ("Seconds, or 90s, 1h30m, 7d; bounded by the category", _STRING),
    "X-Nearhit-Threshold": ("Lowest cosine; can only be stricter than the category's", _FRACTION),
    "X-Nearhit-Tags": ("Separated by commas; entries can be purged by tag", _STRING),
    "X-Nearhit-Debug": ("1: similarity, threshold and pressure in the answer", _STRING),
}
_TOLD: dict[str, tuple[str, Any]] = {
    "Cache-Status": ("RFC 9211", _STRING),
    "X-Cache": ("Outcome of the call", {"enum": ["HIT", "MISS", "BYPASS", "STALE", "SHADOW"]}),
    "X-Cache-Tier": ("Tier that answered", {"enum": ["exact", "semantic", "inflight"]}),
    "X-Cache-Category": ("The question's category", _STRING),
    "X-Cache-Bypass-Reason": ("Why the call bypassed the cache", _STRING),
    "X-Cache-Entry-Id": ("Id of the answer served or stored", _STRING),
    "X-Cache-Items": ("Batches of embeddings: how many items were cached", _STRING),
    "Age": ("Seconds since the answer was stored", {"type": "integer", "minimum": 0}),
}
_TURN = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {"role": _STRING, "content": {"type": ["string", "array"]}},
}
_TURNS = {"type": "array", "minItems": 1, "items": _TURN}
_TEXTS = {"type": ["string", "array"]}
_PARTS = {"type": "array", "items": {"type": "object"}}
_CONTENT = {"type": "object", "properties": {"role": _STRING, "parts": _PARTS}}
_CONTENTS = {"contents": {"type": "array", "minItems": 1, "items": _CONTENT}}
_MODEL = {"model": _STRING}
_NEEDED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**_MODEL, "messages": _TURNS},
    "/v1/completions": {**_MODEL, "prompt": _TEXTS},
    "/v1/responses": {**_MODEL, "input": _TEXTS},
    "/v1/embeddings": {**_MODEL, "input": _TEXTS},
    "/v1/messages": {**_MODEL, "messages": _TURNS, "max_tokens": {"type": "integer", "minimum": 1}},
    "/api/chat": {**_MODEL, "messages": _TURNS},
    "/api/generate": {**_MODEL, "prompt": _STRING},
    "/openai/deployments/{model}/chat/completions": {"messages": _TURNS},
    "/openai/deployments/{model}/completions": {"prompt": _TEXTS},
    **dict.fromkeys(gemini.PATHS, _CONTENTS),
}
"""Members that the APIs require."""
_IN_PATH: dict[str, Json] = {
    "version": {"enum": ["v1", "v1beta", "v1alpha"]},
    "model": {"type": "string", "pattern": "^[^/:]{1,512}$"},
}
_REFUSALS = {
    "400": "The body is not valid JSON",
    "413": "The body is larger than `limits.body_bytes`",
    "431": "Too many headers, or one that is too long",
    "429": "nearhit is full, or there was no place at the upstream in time; see `Retry-After`",
    "501": "The body has a transfer coding other than chunked",
    "502": "The upstream cannot be reached",
    "504": "The upstream did not answer in time, or `only-if-cached` and nothing is cached",
    "default": "The upstream's own answer, unchanged",
}


def described() -> Json:
    return {
        "openapi": "3.1.0",
        "info": {"title": "nearhit data plane", "version": VERSION},
        "paths": {path: {method.lower(): _operation(name, path)} for method, path, name in dialects.cached()},
        "components": {
            "parameters": {
                name: {"name": name, "in": "header", "description": description, "schema": schema}
                for name, (description, schema) in _ASKED.items()
            },
            "headers": {
                name: {"description": description, "schema": schema}
                for name, (description, schema) in _TOLD.items()
            },
        },
    }


def _operation(api: str, path: str) -> Json:
    members = _NEEDED[path]
    schema = {"type": "object", "required": list(members), "properties": members}
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _IN_PATH.items()
        if f"{{{name}}}" in path
    ]
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    told = {name: {"$ref": f"#/components/headers/{name}"} for name in _TOLD}
    refused = {status: {"description": description} for status, description in _REFUSALS.items()}
    return {
        "summary": f"{api}, from the cache or from the upstream",
        "parameters": [*in_path, *({"$ref": f"#/components/parameters/{name}"} for name in _ASKED)],
        "requestBody": body,
        "responses": {
            "200": {"description": "The answer in the API's own format", "headers": told},
            **refused,
        },
    }
