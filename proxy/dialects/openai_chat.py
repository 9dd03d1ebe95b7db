"""OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policies.storable import Ending
from proxy.dialects.base import EVENTS, JsonObject, Reading, is_text, pieces
from proxy.dialects.openai_chunks import Gatherer, scattered
from proxy.dialects.openai_chunks import enrichment as enrichment
from proxy.dialects.openai_chunks import usage as usage
from proxy.dialects.openai_common import error as error
from proxy.dialects.openai_common import hosted_tools, reports_error
from proxy.dialects.turns import are_turns, span

name = "openai-chat"
framing = EVENTS
place = ""

_TRANSPORT = ("stream", "stream_options")


# Requests


def read(body: JsonObject) -> Reading | None:
    model, messages, stream = body.get("model"), body.get("messages"), body.get("stream")
    if not is_text(model) or not are_turns(messages):
        return None
    if not isinstance(stream, bool | None) or not isinstance(body.get("stream_options"), dict | None):
        return None
    asked = span(messages)
    identity = {k: v for k, v in body.items() if k not in _TRANSPORT} | {"messages": asked.rest}
    return Reading(model, bool(stream), asked.text, asked.opaque, identity, hosted_tools(body), asked.tied)


# Streams to objects


def _grow(whole: JsonObject, choice: JsonObject) -> None:
    _merge(whole.setdefault("message", {}), choice.get("delta") or {})
    _merge(whole, {k: v for k, v in choice.items() if k not in ("index", "delta") and v is not None})


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
    return Gatherer("chat.completion", _grow, _settle)


# Objects to streams


def scatter(answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
    return scattered("chat.completion.chunk", answer, request, _parts)


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


# What an answer says of itself

_SUBSTANCE = ("content", "tool_calls", "function_call", "audio")


def ending(answer: JsonObject) -> Ending:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not all(_is_choice(choice) for choice in choices):
        return Ending(whole=False)
    if reports_error(answer, choices):
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
    functions = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    if isinstance(older := message.get("function_call"), dict):
        functions.append(older)
    for function in functions:
        yield f"{function.get('name')} {function.get('arguments')}"
