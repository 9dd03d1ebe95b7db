"""OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from policies.storable import Ending
from proxy import sse
from proxy.dialects.base import JsonObject, Reading, Usage, dump, is_text, pieces
from proxy.dialects.openai_common import error as error
from proxy.dialects.openai_common import hosted_tools
from proxy.dialects.turns import span

name = "openai-chat"

_TRANSPORT = ("stream", "stream_options")
_DONE = b"[DONE]"


# Requests


def read(body: JsonObject) -> Reading | None:
    model, messages, stream = body.get("model"), body.get("messages"), body.get("stream")
    if not is_text(model) or not isinstance(messages, list) or not messages:
        return None
    if not all(isinstance(message, dict) for message in messages):
        return None
    if not isinstance(stream, bool | None) or not isinstance(body.get("stream_options"), dict | None):
        return None
    asked = span(messages)
    identity = {k: v for k, v in body.items() if k not in _TRANSPORT} | {"messages": asked.rest}
    return Reading(model, bool(stream), asked.text, asked.opaque, identity, barred=hosted_tools(body))


def enrich(body: JsonObject) -> JsonObject | None:
    """Streams tell their usage only when asked, and an answer without it could not be replayed as JSON."""
    if not body.get("stream"):
        return None
    options = body.get("stream_options") or {}
    return (
        None
        if options.get("include_usage")
        else {**body, "stream_options": {**options, "include_usage": True}}
    )


def offended(body: bytes) -> bool:
    return b"stream_options" in body or b"include_usage" in body


class UsageFilter:
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


def unenriched() -> UsageFilter:
    return UsageFilter()


def _chunk(event: bytes) -> JsonObject | None:
    try:
        chunk = json.loads(sse.payload(event) or b"")
    except ValueError:
        return None
    return chunk if isinstance(chunk, dict) else None


# Streams to objects


_PER_CHUNK = frozenset({"choices", "obfuscation"})


class Gatherer:
    def __init__(self) -> None:
        self._head: JsonObject = {}
        self._choices: dict[int, JsonObject] = {}
        self._done = False
        self._broken = False

    def feed(self, event: bytes) -> None:
        data = sse.payload(event)
        if data is None:
            return
        if data.strip() == _DONE:
            self._done = True
            return
        try:
            self._take(json.loads(data))
        except (ValueError, TypeError, AttributeError, KeyError):
            self._broken = True

    def _take(self, chunk: JsonObject) -> None:
        if "error" in chunk or "choices" not in chunk:
            raise ValueError
        for choice in chunk["choices"]:
            whole = self._choices.setdefault(choice["index"], {"index": choice["index"], "message": {}})
            _merge(whole["message"], choice.get("delta") or {})
            rest = {k: v for k, v in choice.items() if k not in ("index", "delta") and v is not None}
            _merge(whole, rest)
        self._head |= {k: v for k, v in chunk.items() if k not in _PER_CHUNK and v is not None}

    def answer(self) -> JsonObject | None:
        """None also without the usage, as nobody could be given it as JSON."""
        head = {**self._head, "object": "chat.completion"}
        usage = head.pop("usage", None)
        if self._broken or not self._done or not self._choices or not isinstance(usage, dict):
            return None
        choices = [_settle(self._choices[index]) for index in sorted(self._choices)]
        return {**head, "choices": choices, "usage": usage}


_GROWING = frozenset(
    {
        "content", "refusal", "reasoning", "reasoning_content", "thinking", "text", "arguments", "input",
        "transcript", "data", "summary", "signature",
    }
)  # fmt: skip
"""Strings that a stream continues. All others it repeats, and some servers repeat them empty."""


def _merge(whole: JsonObject, delta: JsonObject) -> None:
    """Continues `whole` by `delta`: texts and lists grow, objects merge, list items that carry an index meet
    their like."""
    for key, new in delta.items():
        old = whole.get(key)
        if isinstance(new, list) and any(isinstance(item, dict) and "index" in item for item in new):
            _merge_indexed(whole.setdefault(key, []), new)
        elif old is None or new is None:
            whole[key] = old if new is None else new
        elif isinstance(old, str) and isinstance(new, str):
            whole[key] = old + new if key in _GROWING else new or old
        elif isinstance(old, dict) and isinstance(new, dict):
            _merge(old, new)
        elif isinstance(old, list) and isinstance(new, list):
            whole[key] = old + new
        else:
            whole[key] = new


def _merge_indexed(whole: list[JsonObject], items: list[JsonObject]) -> None:
    by_index = {item["index"]: item for item in whole}
    for item in items:
        if item["index"] not in by_index:
            whole.append(by_index.setdefault(item["index"], {"index": item["index"]}))
        known = by_index[item["index"]]
        if known.get("id") and item.get("id") and known["id"] != item["id"]:
            raise ValueError("two items under one index")
        _merge(known, item)


def _settle(choice: JsonObject) -> JsonObject:
    """A gathered choice in the shape that the API gives unstreamed."""
    message = {"role": "assistant", "content": None} | choice["message"]
    if isinstance(message.get("tool_calls"), list):
        calls = sorted(message["tool_calls"], key=lambda call: call.get("index", 0))
        message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls]
    return {"finish_reason": None, "logprobs": None} | {**choice, "message": message}


def gatherer() -> Gatherer:
    return Gatherer()


# Objects to streams


_FRAME = ("id", "created", "model", "system_fingerprint", "service_tier")
"""Members that every chunk repeats; others of the answer come once, with the last choice."""


def scatter(answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
    wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    head = {k: answer[k] for k in _FRAME if k in answer} | {"object": "chat.completion.chunk"}
    rest = {k: v for k, v in answer.items() if k not in (*_FRAME, "object", "choices", "usage")}
    tail = {"usage": None} if wants_usage else {}
    parts = [part for choice in answer["choices"] for part in _parts(choice)]
    for number, part in enumerate(parts, 1):
        yield _event({**head, **(rest if number == len(parts) else {}), "choices": [part], **tail})
    if wants_usage:
        yield _event({**head, "choices": [], "usage": answer.get("usage")})
    yield sse.event(_DONE)


def _parts(choice: JsonObject) -> Iterator[JsonObject]:
    index, message = choice.get("index", 0), choice.get("message") or {}
    frame = {"index": index, "delta": {}, "logprobs": None, "finish_reason": None}
    grown = {k: v for k, v in message.items() if k not in ("role", "content", "tool_calls") and v is not None}
    opening = "" if message.get("content") else None
    yield {**frame, "delta": {"role": message.get("role", "assistant"), "content": opening}}
    if grown:
        yield {**frame, "delta": grown}
    for piece in pieces(message.get("content")):
        yield {**frame, "delta": {"content": piece}}
    for position, call in enumerate(message.get("tool_calls") or ()):
        yield {**frame, "delta": {"tool_calls": [{"index": position, **call}]}}
    rest = {k: v for k, v in choice.items() if k not in ("index", "message", "finish_reason")}
    yield {**frame, **rest, "finish_reason": choice.get("finish_reason")}


def _event(chunk: JsonObject) -> bytes:
    return sse.event(dump(chunk))


# What an answer says of itself

_SUBSTANCE = ("content", "tool_calls", "function_call", "audio")


def ending(answer: JsonObject) -> Ending:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not all(_is_choice(choice) for choice in choices):
        return Ending(whole=False)
    messages = [choice["message"] for choice in choices]
    return Ending(
        whole=True,
        reasons=tuple(str(choice.get("finish_reason")) for choice in choices),
        refused=any(message.get("refusal") for message in messages),
        empty=not all(any(message.get(part) for part in _SUBSTANCE) for message in messages),
    )


def _is_choice(choice: Any) -> bool:
    """In the shape that `scatter` takes apart."""
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        return False
    calls = choice["message"].get("tool_calls")
    return calls is None or (isinstance(calls, list) and all(isinstance(call, dict) for call in calls))


def said(answer: JsonObject) -> str:
    messages = [choice.get("message") or {} for choice in answer.get("choices") or ()]
    return "\n".join(piece for message in messages for piece in _said(message))


def _said(message: JsonObject) -> Iterator[str]:
    if isinstance(message.get("content"), str):
        yield message["content"]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield f"{function.get('name')} {function.get('arguments')}"


def usage(answer: JsonObject) -> Usage:
    told = answer.get("usage") or {}
    counts = [told.get(key) for key in ("prompt_tokens", "completion_tokens")]
    return Usage(*(count if isinstance(count, int) else 0 for count in counts))
