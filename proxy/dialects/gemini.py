"""Gemini's generateContent and streamGenerateContent: https://ai.google.dev/api/generate-content

Model and way of sending are in the path, and the form of a stream in its query: events with `alt=sse`, one
JSON array without. So what speaks here is made for each call, of its path and query.

Google's servers read members in two spellings (`toolConfig`, `tool_config`). Calls that are spelt differently
are different calls; what has to be found in a call is found in either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from policies.storable import Ending
from proxy.dialects.base import (
    NOTHING_ADDED,
    Framing,
    JsonObject,
    Reading,
    Usage,
    dump,
    is_text,
)
from proxy.dialects.gemini_chunks import ARRAY, EVENTS, Gatherer, parts_of, scattered
from proxy.dialects.turns import span
from proxy.targets import without

PATHS = tuple(
    f"/{{version}}/models/{{model}}:{verb}" for verb in ("generateContent", "streamGenerateContent")
)
CREDENTIALS_IN_QUERY = frozenset({"key", "access_token", "oauth_token"})
"""Parameters in which Google's callers may carry theirs."""

_FORM = frozenset({"alt", "$alt"})
_PATH = re.compile(r"/(v1|v1beta|v1alpha)/models/([^/]+)")
_CALL = re.compile(r"([^/:\ufffd]{1,512}):(generate|streamGenerate)Content")
_NATIVE = re.compile(
    r"/(?:upload/)?v1(?:beta|alpha)/(?!openai/)|/ws/google\."
    r"|/v1/models/[^/]+(?::|%3A)(?:count|embed|batch|generate|streamGenerate)[A-Z]\w*$"
)
"""Paths that only Google has, but for those below `openai`, where it speaks as OpenAI does."""
_FORMS = {
    ("generate", ()): ARRAY,
    ("generate", ("json",)): ARRAY,
    ("streamGenerate", ()): ARRAY,
    ("streamGenerate", ("json",)): ARRAY,
    ("streamGenerate", ("sse",)): EVENTS,
}


def of(path: str, query: str) -> Gemini | None:
    """Of path and query as they came. None: another path, or a form that we do not read."""
    found = _PATH.fullmatch(path)
    called = _CALL.fullmatch(unquote(found[2])) if found else None
    if not found or not called:
        return None
    model, verb = called.groups()
    forms = tuple(value for name, value in parse_qsl(query, keep_blank_values=True) if name in _FORM)
    framing = _FORMS.get((verb, forms))
    if framing is None:
        return None
    place = f"/{found[1]}/models/{quote(model, safe='')}?{without(query, CREDENTIALS_IN_QUERY | _FORM)}"
    return Gemini(model, verb == "streamGenerate", framing, place)


def speaking(path: str, query: str) -> Gemini | None:
    """Who answers in this API's shape on such a path, whether or not anything is cached there."""
    return of(path, query) or (PLAIN if _NATIVE.match(path) else None)


@dataclass(frozen=True, slots=True)
class Gemini:
    model: str
    streams: bool
    framing: Framing
    place: str

    name = "gemini"
    enrichment = NOTHING_ADDED

    def read(self, body: JsonObject) -> Reading | None:
        contents = _listed(body.get("contents"))
        if not contents or not is_text(self.model) or not all(isinstance(each, dict) for each in contents):
            return None
        asked = span([_turn(content) for content in contents])
        identity = {**body, "contents": asked.rest}
        tied = asked.tied or _refers(body)
        return Reading(self.model, self.streams, asked.text, asked.opaque, identity, _barred(body), tied)

    def gatherer(self) -> Gatherer:
        return Gatherer(self.framing)

    def scatter(self, answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
        return scattered(answer, self.framing)

    def ending(self, answer: JsonObject) -> Ending:
        candidates = answer.get("candidates")
        if not isinstance(candidates, list) or not all(_is_candidate(each) for each in candidates):
            return Ending(whole=False)
        return Ending(
            whole=bool(candidates) and not answer.get("error"),
            reasons=tuple(str(each.get("finishReason")) for each in candidates),
            empty=not all(any(map(_has_substance, parts_of(each))) for each in candidates),
        )

    def usage(self, answer: JsonObject) -> Usage:
        told = answer.get("usageMetadata")
        counts = {k: v for k, v in told.items() if isinstance(v, int)} if isinstance(told, dict) else {}
        return Usage.told(*(sum(counts.get(name, 0) for name in names) for names in (_READ, _WRITTEN)))

    def said(self, answer: JsonObject) -> str:
        parts = (part for candidate in answer["candidates"] for part in parts_of(candidate))
        return "\n".join(piece for part in parts for piece in _said(part))

    def error(self, status: int, code: str, message: str) -> bytes:
        told = dump({"error": {"code": status, "message": f"{message} ({code})", "status": _status(status)}})
        return b"[" + told + b"]" if self.streams and self.framing is ARRAY else told


PLAIN = Gemini("", False, ARRAY, "")
"""Speaks for the paths of which nothing is cached."""


# Requests


def _turn(content: JsonObject) -> JsonObject:
    """In the shape of the other APIs' turns. Who says nothing of its role is the user."""
    beside = {k: v for k, v in content.items() if k != "parts"}
    parts = [_part(part) for part in _listed(content.get("parts"))]
    return {"role": beside.get("role") or "user", "content": parts, "beside": beside}


def _part(part: Any) -> JsonObject:
    plain = isinstance(part, dict) and part.keys() == {"text"}
    return {"type": "text", "text": part["text"]} if plain else {"part": part}


def _listed(value: Any) -> list[Any]:
    """Google's servers take one thing for a list of it."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _member(body: JsonObject, name: str) -> list[Any]:
    """What a call says under a name, in either spelling."""
    return [value for key, value in body.items() if _spelt(key) == name and value is not None]


def _spelt(name: str) -> str:
    return name.replace("_", "").lower()


_HERE = frozenset({"functiondeclarations", "computeruse"})
"""Tools that the caller runs. All others run at the upstream, which then looks at the world, or changes it,
while it answers."""


def _barred(body: JsonObject) -> str:
    tools = [tool for each in _member(body, "tools") for tool in _listed(each)]
    hosted = any(not isinstance(tool, dict) or not _HERE.issuperset(map(_spelt, tool)) for tool in tools)
    return "hosted-tools" if hosted else ""


def _refers(body: JsonObject) -> bool:
    """To what the upstream may keep for this caller alone."""
    told = [_turn(each) for each in _member(body, "systeminstruction") if isinstance(each, dict)]
    return bool(_member(body, "cachedcontent")) or any(
        "part" in part for turn in told for part in turn["content"]
    )


# What an answer says of itself

_READ = ("promptTokenCount", "toolUsePromptTokenCount")
_WRITTEN = ("candidatesTokenCount", "thoughtsTokenCount")


def _is_candidate(candidate: Any) -> bool:
    """In the shape that `scatter` takes apart."""
    if not isinstance(candidate, dict) or not isinstance(candidate.get("content"), dict | None):
        return False
    parts = (candidate.get("content") or {}).get("parts")
    return parts is None or (isinstance(parts, list) and all(isinstance(part, dict) for part in parts))


def _has_substance(part: JsonObject) -> bool:
    return not part.get("thought") and any(part.get(name) for name in ("text", "functionCall", "inlineData"))


def _said(part: JsonObject) -> Iterator[str]:
    if not part.get("thought") and isinstance(part.get("text"), str):
        yield part["text"]
    if isinstance(call := part.get("functionCall"), dict):
        yield f"{call.get('name')} {json.dumps(call.get('args'), sort_keys=True)}"


# Errors: https://cloud.google.com/apis/design/errors

_STATUSES = {
    401: "UNAUTHENTICATED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _status(status: int) -> str:
    return _STATUSES.get(status, "INVALID_ARGUMENT")
