"""Streams of chunks with choices, as OpenAI's chat and text completions have them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from proxy import sse
from proxy.dialects.base import Enrichment, JsonObject, Unchanged, Usage, dump, usage_in

_DONE = b"[DONE]"

# What is asked for on our account


class UsageAsked(Enrichment):
    """Streams tell their usage only when asked, and an answer without it could not be replayed as JSON."""

    def enrich(self, body: JsonObject) -> JsonObject | None:
        options = body.get("stream_options") or {}
        if not body.get("stream") or options.get("include_usage"):
            return None
        return {**body, "stream_options": {**options, "include_usage": True}}

    def is_rejection(self, body: bytes) -> bool:
        return b"stream_options" in body or b"include_usage" in body

    def filter(self) -> UsageFilter:
        return UsageFilter()


enrichment = UsageAsked()


class UsageFilter(Unchanged):
    """Drops the usage event, and the `"usage":null` that announces it in all others."""

    # Outside a string this is a member; inside one its quotes would be escaped. So bytes will do.
    _NULL = re.compile(rb',\s*"usage"\s*:\s*null')

    def __init__(self) -> None:
        self._splitter = sse.Splitter()

    def feed(self, data: bytes) -> bytes:
        return b"".join(self._without(event) for event in self._splitter.feed(data))

    def rest(self) -> bytes:
        return self._without(self._splitter.rest())

    def _without(self, event: bytes) -> bytes:
        if b'"usage"' not in event:
            return event
        return b"" if _is_usage(event) else self._NULL.sub(b"", event)


def _is_usage(event: bytes) -> bool:
    chunk = _chunk(event)
    return chunk is not None and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)


def _chunk(event: bytes) -> JsonObject | None:
    try:
        chunk = json.loads(sse.payload(event) or b"")
    except (ValueError, RecursionError):
        return None
    return chunk if isinstance(chunk, dict) else None


# Streams to objects

_PER_CHUNK = frozenset({"choices", "obfuscation"})


class Gatherer:
    """`kind` is the whole answer's `object`; `grow` continues a choice by a piece of it, `settle` gives it
    the shape that it has unstreamed."""

    def __init__(
        self,
        kind: str,
        grow: Callable[[JsonObject, JsonObject], None],
        settle: Callable[[JsonObject], JsonObject],
    ) -> None:
        self._kind = kind
        self._grow = grow
        self._settle = settle
        self._head: JsonObject = {}
        self._choices: dict[int, JsonObject] = {}
        self._done = False

    def feed(self, event: bytes) -> None:
        data = sse.payload(event)
        if data is None:
            return
        if data.strip() == _DONE:
            self._done = True
            return
        self._take(json.loads(data))

    def _take(self, chunk: JsonObject) -> None:
        if chunk.get("error") or "choices" not in chunk or self._done:
            raise ValueError
        for choice in chunk["choices"]:
            index = int(choice["index"])
            self._grow(self._choices.setdefault(index, {"index": index}), choice)
        self._head |= {k: v for k, v in chunk.items() if k not in _PER_CHUNK and v is not None}

    def answer(self) -> JsonObject | None:
        """None also without the usage, as nobody could be given it as JSON."""
        head = {**self._head, "object": self._kind}
        usage = head.pop("usage", None)
        if not self._done or not self._choices or not isinstance(usage, dict):
            return None
        choices = [self._settle(self._choices[index]) for index in sorted(self._choices)]
        return {**head, "choices": choices, "usage": usage}


# Objects to streams

_FRAME = ("id", "created", "model", "system_fingerprint", "service_tier")
"""Members that every chunk repeats; others of the answer come once, with the last choice."""


def scattered(
    kind: str, answer: JsonObject, request: JsonObject, parts: Callable[[JsonObject], Iterator[JsonObject]]
) -> Iterator[bytes]:
    """The answer as chunks whose `object` is `kind`; `parts` takes a choice to pieces."""
    wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    head = {k: answer[k] for k in _FRAME if k in answer} | {"object": kind}
    rest = {k: v for k, v in answer.items() if k not in (*_FRAME, "object", "choices", "usage")}
    tail = {"usage": None} if wants_usage else {}
    every = [part for choice in answer["choices"] for part in parts(choice)]
    for number, part in enumerate(every, 1):
        yield _event({**head, **(rest if number == len(every) else {}), "choices": [part], **tail})
    if wants_usage:
        yield _event({**head, "choices": [], "usage": answer.get("usage")})
    yield sse.event(_DONE)


def _event(chunk: JsonObject) -> bytes:
    return sse.event(dump(chunk))


def usage(answer: JsonObject) -> Usage:
    told = usage_in(answer)
    return Usage.told(told.get("prompt_tokens"), told.get("completion_tokens"))
