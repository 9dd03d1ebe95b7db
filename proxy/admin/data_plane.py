"""The data plane in OpenAPI: what of it may be answered from memory, how to steer that, and what is told.

Bodies are the APIs' own; only what nearhit asks of them is said here.
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
    "X-Nearhit-Category": ("Name of the category to take", _STRING),
    "X-Nearhit-Namespace": ("Answers of different namespaces are apart", _STRING),
    "X-Nearhit-TTL": ("Seconds, or 90s, 1h30m, 7d; bounded by the category", _STRING),
    "X-Nearhit-Threshold": ("Least cosine; may only be stricter than the category's", _FRACTION),
    "X-Nearhit-Tags": ("Separated by commas; to be purged by", _STRING),
    "X-Nearhit-Debug": ("1: similarity, threshold and pressure in the answer", _STRING),
}
_TOLD: dict[str, tuple[str, Any]] = {
    "Cache-Status": ("RFC 9211", _STRING),
    "X-Cache": ("What became of it", {"enum": ["HIT", "MISS", "BYPASS", "STALE", "SHADOW"]}),
    "X-Cache-Tier": ("Which memory answered", {"enum": ["exact", "semantic", "inflight"]}),
    "X-Cache-Category": ("The question's category", _STRING),
    "X-Cache-Bypass-Reason": ("On a bypass", _STRING),
    "X-Cache-Entry-Id": ("Of the answer served or stored", _STRING),
    "X-Cache-Items": ("Of a batch of embeddings: how many were known", _STRING),
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
"""Members without which a call is not the API's."""
_IN_PATH: dict[str, Json] = {
    "version": {"enum": ["v1", "v1beta", "v1alpha"]},
    "model": {"type": "string", "pattern": "^[^/:]{1,512}$"},
}
_REFUSALS = {
    "400": "The body is not valid JSON",
    "413": "The body is over `limits.body_bytes`",
    "431": "More headers than are read, or longer ones",
    "429": "The door is full, or no place at the upstream in time; `Retry-After` says when",
    "501": "The body is in another transfer coding than chunked",
    "502": "The upstream cannot be reached",
    "504": "The upstream did not answer in time, or `only-if-cached` and it is not",
    "default": "The upstream's own answer, as it came",
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
        "summary": f"{api}, from memory or from the upstream",
        "parameters": [*in_path, *({"$ref": f"#/components/parameters/{name}"} for name in _ASKED)],
        "requestBody": body,
        "responses": {
            "200": {"description": "The answer in the API's own shape", "headers": told},
            **refused,
        },
    }
