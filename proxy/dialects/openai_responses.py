"""OpenAI's responses: https://platform.openai.com/docs/api-reference/responses

Unless a call says `store: false`, the upstream keeps its answer for the next call to go on from
(`previous_response_id`). An answer is replayed with its id, which the upstream still knows, but from callers
with the same credentials only: so such an answer never crosses tenants, whatever its category says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from policies.storable import Ending
from proxy import sse
from proxy.dialects.base import (
    EVENTS,
    NOTHING_ADDED,
    JsonObject,
    Reading,
    Usage,
    dump,
    is_text,
    pieces,
    usage_in,
)
from proxy.dialects.openai_common import error as error
from proxy.dialects.openai_common import hosted_tools
from proxy.dialects.turns import Span, are_turns, span

name = "openai-responses"
framing = EVENTS
place = ""

enrichment = NOTHING_ADDED

_TRANSPORT = ("stream", "stream_options")
_OF_THE_CALLER = ("previous_response_id", "prompt", "include")
"""Members that name what the upstream keeps for this caller, or ask for what only this caller can send
back."""


# Requests


def read(body: JsonObject) -> Reading | None:
    model, stream = body.get("model"), body.get("stream")
    if not is_text(model) or not isinstance(stream, bool | None):
        return None
    identity = {k: v for k, v in body.items() if k not in _TRANSPORT}
    asked = _asked(body.get("input"))
    if asked.text is not None:
        identity["input"] = asked.rest
    tied = (
        body.get("store") is not False
        or asked.text is None
        or any(body.get(member) for member in _OF_THE_CALLER)
    )
    return Reading(model, bool(stream), asked.text, asked.opaque, identity, _barred(body), tied)


def _asked(given: Any) -> Span:
    if isinstance(given, str):
        return span([{"role": "user", "content": given}])
    if not are_turns(given):
        return Span(None, "no-input", [])
    if any(item.get("type", "message") != "message" for item in given):
        return Span(None, "items", [])
    return span(given)


def _barred(body: JsonObject) -> str:
    """A conversation grows at the upstream with each call: the same words come after other words, and an
    answer from here would be missing there."""
    if body.get("conversation"):
        return "conversation"
    return "background" if body.get("background") else hosted_tools(body)


# Streams to objects

_ENDS = ("response.completed", "response.incomplete", "response.failed")


class Gatherer:
    """The last event holds the whole answer, but for its output with some servers."""

    def __init__(self) -> None:
        self._items: dict[int, JsonObject] = {}
        self._response: JsonObject | None = None

    def feed(self, event: bytes) -> None:
        data = sse.payload(event)
        if data is None or data.strip() == b"[DONE]":
            return
        self._take(json.loads(data))

    def _take(self, event: JsonObject) -> None:
        kind = event["type"]
        if kind == "error":
            raise ValueError
        if kind == "response.output_item.done":
            self._items[int(event["output_index"])] = dict(event["item"])
        elif kind in _ENDS:
            self._response = dict(event["response"])

    def answer(self) -> JsonObject | None:
        if self._response is None:
            return None
        output = self._response.get("output") or [self._items[index] for index in sorted(self._items)]
        return {**self._response, "output": output}


def gatherer() -> Gatherer:
    return Gatherer()


# Objects to streams


def scatter(answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
    for number, (kind, members) in enumerate(_steps(answer)):
        event = {"type": f"response.{kind}", "sequence_number": number, **members}
        yield sse.event(dump(event), event["type"].encode())


Step = tuple[str, JsonObject]


def _steps(answer: JsonObject) -> Iterator[Step]:
    begun = answer | {"status": "in_progress", "output": [], "usage": None}
    begun |= {"completed_at": None} if "completed_at" in answer else {}
    yield "created", {"response": begun}
    yield "in_progress", {"response": begun}
    for index, item in enumerate(answer["output"]):
        yield from _of_item(item, {"output_index": index})
    yield answer["status"], {"response": answer}


def _of_item(item: JsonObject, at: JsonObject) -> Iterator[Step]:
    empty, steps = _taken_apart(item, {**at, "item_id": item.get("id") or item.get("call_id") or ""})
    if "status" in item:
        empty = {**empty, "status": "in_progress"}
    yield "output_item.added", {**at, "item": empty}
    yield from steps
    yield "output_item.done", {**at, "item": item}


def _taken_apart(item: JsonObject, at: JsonObject) -> tuple[JsonObject, Iterator[Step]]:
    """How an item begins, and what it grows by. Items that we do not know begin whole."""
    match item:
        case {"type": "message", "content": list() as content}:
            return {**item, "content": []}, _of_parts(content, at)
        case {"type": "function_call", "arguments": str() as text}:
            return {**item, "arguments": ""}, _of_text("function_call_arguments", text, "arguments", at)
        case {"type": "custom_tool_call", "input": str() as text}:
            return {**item, "input": ""}, _of_text("custom_tool_call_input", text, "input", at)
        case {"type": "reasoning", "summary": list() as summary}:
            return {**item, "summary": []}, _of_summary(summary, at)
    return item, iter(())


def _of_parts(content: list[JsonObject], at: JsonObject) -> Iterator[Step]:
    for index, part in enumerate(content):
        here = {**at, "content_index": index}
        if part.get("type") == "output_text" and isinstance(part.get("text"), str):
            yield "content_part.added", {**here, "part": {**part, "text": "", "annotations": []}}
            yield from _of_said(part, here)
        elif part.get("type") == "refusal" and isinstance(part.get("refusal"), str):
            yield "content_part.added", {**here, "part": {**part, "refusal": ""}}
            yield from _of_text("refusal", part["refusal"], "refusal", here)
        else:
            yield "content_part.added", {**here, "part": part}
        yield "content_part.done", {**here, "part": part}


def _of_said(part: JsonObject, at: JsonObject) -> Iterator[Step]:
    """Tokens that are told with their probabilities stay with their text."""
    told = part.get("logprobs") or []
    for piece in [part["text"]] if told else pieces(part["text"]):
        yield "output_text.delta", {**at, "delta": piece, "logprobs": told}
    for index, annotation in enumerate(part.get("annotations") or ()):
        yield "output_text.annotation.added", {**at, "annotation_index": index, "annotation": annotation}
    yield "output_text.done", {**at, "text": part["text"], "logprobs": told}


def _of_summary(summary: list[JsonObject], at: JsonObject) -> Iterator[Step]:
    for index, part in enumerate(summary):
        here = {**at, "summary_index": index}
        yield "reasoning_summary_part.added", {**here, "part": {**part, "text": ""}}
        yield from _of_text("reasoning_summary_text", part.get("text"), "text", here)
        yield "reasoning_summary_part.done", {**here, "part": part}


def _of_text(kind: str, text: Any, member: str, at: JsonObject) -> Iterator[Step]:
    for piece in pieces(text):
        yield f"{kind}.delta", {**at, "delta": piece}
    yield f"{kind}.done", {**at, member: text}


# What an answer says of itself

_CALLS = ("function_call", "custom_tool_call")


def ending(answer: JsonObject) -> Ending:
    output = answer.get("output")
    if not isinstance(output, list) or not all(_is_item(item) for item in output) or answer.get("error"):
        return Ending(whole=False)
    states = [answer.get("status"), *(item["status"] for item in output if item.get("status"))]
    parts = [part for item in output for part in _content(item)]
    return Ending(
        whole=isinstance(answer.get("status"), str),
        reasons=tuple(map(str, states)),
        refused=any(part.get("type") == "refusal" for part in parts),
        empty=not any(part.get("text") for part in parts) and not any(_is_call(item) for item in output),
    )


def _is_item(item: Any) -> bool:
    """In the shape that `scatter` takes apart."""
    if not isinstance(item, dict):
        return False
    parts = [part for member in ("content", "summary") for part in item.get(member) or ()]
    return all(isinstance(part, dict) for part in parts)


def _is_call(item: JsonObject) -> bool:
    return item.get("type") in _CALLS


def _content(item: JsonObject) -> list[JsonObject]:
    return (item.get("content") or []) if item.get("type") == "message" else []


def said(answer: JsonObject) -> str:
    return "\n".join(piece for item in answer["output"] for piece in _said(item))


def _said(item: JsonObject) -> Iterator[str]:
    for part in _content(item):
        if part.get("type") == "output_text":
            yield str(part.get("text"))
    if _is_call(item):
        yield f"{item.get('name')} {item.get('arguments', item.get('input'))}"


def usage(answer: JsonObject) -> Usage:
    told = usage_in(answer)
    return Usage.told(told.get("input_tokens"), told.get("output_tokens"))
