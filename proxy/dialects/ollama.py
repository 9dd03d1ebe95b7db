"""Ollama's own API: https://github.com/ollama/ollama/blob/main/docs/api.md

Its chat and its text generation differ in where the question and the answer are; their streams, errors and
counts are the same. They stream unless told not to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from policies.storable import Ending
from proxy.dialects.base import (
    LINES,
    NOTHING_ADDED,
    JsonObject,
    Reading,
    Usage,
    dump,
    is_text,
    pieces,
)
from proxy.dialects.turns import Span, are_turns, prompt_span, span

_TRANSPORT = ("stream", "keep_alive")


class Ollama:
    framing = LINES
    place = ""
    enrichment = NOTHING_ADDED

    def __init__(self, name: str, question: str, asked: Callable[[JsonObject], Span | None]) -> None:
        """`question`: the member that holds it; `asked` finds the fuzzy text in there."""
        self.name = name
        self._question = question
        self._asked = asked

    def read(self, body: JsonObject) -> Reading | None:
        model, stream, asked = body.get("model"), body.get("stream"), self._asked(body)
        if not is_text(model) or asked is None or not isinstance(stream, bool | None):
            return None
        identity = {k: v for k, v in body.items() if k not in _TRANSPORT}
        if asked.text is not None:
            identity[self._question] = asked.rest
        return Reading(model, stream is not False, asked.text, asked.opaque, identity, tied=asked.tied)

    def gatherer(self) -> Gatherer:
        return Gatherer()

    def scatter(self, answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
        head = {k: answer[k] for k in ("model", "created_at") if k in answer}
        for grown in _grown(answer):
            yield dump({**head, **grown, "done": False}) + b"\n"
        yield dump(_last(answer)) + b"\n"

    def ending(self, answer: JsonObject) -> Ending:
        said = answer.get("message", answer)
        text = said.get("content", said.get("response")) if isinstance(said, dict) else None
        if not isinstance(text, str) or not answer.get("done") or answer.get("error"):
            return Ending(whole=False)
        empty = not text and not said.get("tool_calls")
        return Ending(whole=True, reasons=(str(answer.get("done_reason")),), empty=empty)

    def usage(self, answer: JsonObject) -> Usage:
        return Usage.told(answer.get("prompt_eval_count"), answer.get("eval_count"))

    def said(self, answer: JsonObject) -> str:
        if "response" in answer:
            return str(answer["response"])
        message = answer["message"]
        calls = [json.dumps(call, sort_keys=True) for call in message.get("tool_calls") or ()]
        return "\n".join([str(message.get("content")), *calls])

    def error(self, status: int, code: str, message: str) -> bytes:
        return dump({"error": f"{message} ({code})"})


# Requests


def _in_messages(body: JsonObject) -> Span | None:
    messages = body.get("messages")
    if not are_turns(messages):
        return None
    if any(message.get("images") for message in messages):
        return Span(None, "media", messages)
    return span(messages)


def _in_prompt(body: JsonObject) -> Span | None:
    """`raw` prompts are written in the model's own template, with all their turns."""
    if body.get("images"):
        return Span(None, "media", [])
    verbatim = any(body.get(member) for member in ("suffix", "raw", "context", "template"))
    return Span(None, "verbatim", []) if verbatim else prompt_span(body.get("prompt"))


chat = Ollama("ollama-chat", "messages", _in_messages)
generate = Ollama("ollama-generate", "prompt", _in_prompt)


# Streams to objects

_GROWING = ("content", "thinking", "response")


class Gatherer:
    def __init__(self) -> None:
        self._answer: JsonObject = {}

    def feed(self, event: bytes) -> None:
        if not event.strip():
            return
        chunk = json.loads(event)
        if chunk.get("error") or self._answer.get("done"):
            raise ValueError
        _grow(self._answer, chunk)

    def answer(self) -> JsonObject | None:
        return self._answer if self._answer.get("done") is True else None


def _grow(whole: JsonObject, chunk: JsonObject) -> None:
    for key, new in chunk.items():
        old = whole.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            _grow(old, new)
        elif isinstance(new, list) and isinstance(old, list):
            whole[key] = old + new
        else:
            whole[key] = old + new if key in _GROWING and isinstance(old, str) else new


# Objects to streams


def _grown(answer: JsonObject) -> Iterator[JsonObject]:
    """What the answer grows by before its last line."""
    message = answer.get("message")
    if message is None:
        for key in ("thinking", "response"):
            yield from ({"response": "", key: piece} for piece in pieces(answer.get(key)))
        return
    begun = {"role": message.get("role", "assistant"), "content": ""}
    for key in ("thinking", "content"):
        yield from ({"message": {**begun, key: piece}} for piece in pieces(message.get(key)))
    rest = {k: v for k, v in message.items() if k not in ("role", "content", "thinking")}
    if rest:
        yield {"message": {**begun, **rest}}


def _last(answer: JsonObject) -> JsonObject:
    message = answer.get("message")
    if message is None:
        return {k: v for k, v in answer.items() if k != "thinking"} | {"response": ""}
    return {**answer, "message": {"role": message.get("role", "assistant"), "content": ""}}
