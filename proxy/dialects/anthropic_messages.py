"""Anthropic's messages: https://docs.anthropic.com/en/api/messages"""

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
from proxy.dialects.turns import are_turns, span

name = "anthropic-messages"
framing = EVENTS
place = ""

enrichment = NOTHING_ADDED

_HERE = ("bash_", "text_editor_", "computer_", "browser_", "memory_", "custom")
"""How the types of tools begin that the caller runs. All others run at the upstream, which then looks at the
world, or changes it, while it answers."""
_AT_UPSTREAM = ("mcp_servers", "container")


# Requests


def read(body: JsonObject) -> Reading | None:
    model, messages, stream = body.get("model"), body.get("messages"), body.get("stream")
    if not is_text(model) or not are_turns(messages) or not isinstance(stream, bool | None):
        return None
    plain = {k: v for k, v in _unmarked(body).items() if k != "stream"}
    asked = span(plain["messages"])
    identity = plain | {"messages": asked.rest}
    return Reading(model, bool(stream), asked.text, asked.opaque, identity, _barred(body), asked.tied)


def _unmarked(body: JsonObject) -> JsonObject:
    """Without `cache_control`, which says what the upstream shall keep ready and nothing about the answer.
    Taken out only where it is such a marker: an argument of somebody's tool may have that name."""
    plain = _without_marker(body)
    plain["messages"] = [
        {**message, "content": _unmarked_blocks(message.get("content"))} for message in body["messages"]
    ]
    for name in ("system", "tools"):
        if name in plain:
            plain[name] = _unmarked_blocks(plain[name])
    return plain


def _unmarked_blocks(blocks: Any) -> Any:
    if not isinstance(blocks, list):
        return blocks
    return [_unmarked_block(block) if isinstance(block, dict) else block for block in blocks]


def _unmarked_block(block: JsonObject) -> JsonObject:
    plain = _without_marker(block)
    if plain.get("type") == "tool_result":
        plain["content"] = _unmarked_blocks(plain.get("content"))
    return plain


def _without_marker(value: JsonObject) -> JsonObject:
    return {k: v for k, v in value.items() if k != "cache_control" or not isinstance(v, dict | None)}


def _barred(body: JsonObject) -> str:
    tools = body.get("tools")
    hosted = isinstance(tools, list) and any(_is_hosted(tool) for tool in tools)
    return "hosted-tools" if hosted or any(body.get(member) for member in _AT_UPSTREAM) else ""


def _is_hosted(tool: Any) -> bool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return isinstance(kind, str) and not kind.startswith(_HERE)


# Streams to objects

_OF_THE_EVENT = ("type", "delta", "usage")
"""Members of a `message_delta` that are none of the message's; `context_management` is one."""


class Gatherer:
    def __init__(self) -> None:
        self._message: JsonObject | None = None
        self._blocks: dict[int, JsonObject] = {}
        self._inputs: dict[int, str] = {}
        self._done = False

    def feed(self, event: bytes) -> None:
        data = sse.payload(event)
        if data is not None:
            self._take(json.loads(data))

    def _take(self, event: JsonObject) -> None:
        if self._done:
            raise ValueError("more after the end")
        match event["type"]:
            case "message_start":
                self._message = dict(event["message"])
            case "content_block_start":
                self._blocks[int(event["index"])] = dict(event["content_block"])
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "content_block_stop":
                self._settle(event["index"])
            case "message_delta":
                self._end(event)
            case "message_stop":
                self._done = True
            case "ping":
                pass
            case _:
                raise ValueError("an error, or nothing that we know")

    def _grow(self, index: int, delta: JsonObject) -> None:
        block = self._blocks[index]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
            case _:
                raise ValueError("a part that we do not know")

    def _settle(self, index: int) -> None:
        """The input of a tool is one JSON text in pieces."""
        if text := self._inputs.pop(index, ""):
            self._blocks[index]["input"] = json.loads(text)

    def _end(self, event: JsonObject) -> None:
        message = self._message
        if message is None:
            raise ValueError("the end before the beginning")
        message |= {k: v for k, v in event.items() if k not in _OF_THE_EVENT}
        message |= _given(event["delta"], message)
        message["usage"] = message["usage"] | _given(event.get("usage") or {}, message["usage"])

    def answer(self) -> JsonObject | None:
        if not self._done or self._message is None or self._inputs:
            return None
        return {**self._message, "content": [self._blocks[index] for index in sorted(self._blocks)]}


def _given(changes: JsonObject, known: JsonObject) -> JsonObject:
    """A null says only that there is nothing new."""
    return {k: v for k, v in changes.items() if v is not None or k not in known}


def gatherer() -> Gatherer:
    return Gatherer()


# Objects to streams

_LATE = ("stop_reason", "stop_sequence", "stop_details")
"""Members that are known only at the end."""
_LATE_USAGE = ("output_tokens", "output_tokens_details", "server_tool_use")


def scatter(answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
    usage: JsonObject = answer["usage"]
    first = {k: v for k, v in usage.items() if k not in _LATE_USAGE} | {"output_tokens": 1}
    opening = {k: None if k in _LATE else v for k, v in answer.items()} | {"content": [], "usage": first}
    yield _event({"type": "message_start", "message": opening})
    for index, block in enumerate(answer["content"]):
        yield from (_event({**step, "index": index}) for step in _steps(block))
    ended = {k: answer[k] for k in _LATE if k in answer}
    told = {k: usage[k] for k in _LATE_USAGE if k in usage}
    yield _event({"type": "message_delta", "delta": ended, "usage": told})
    yield _event({"type": "message_stop"})


def _steps(block: JsonObject) -> Iterator[JsonObject]:
    empty, deltas = _taken_apart(block)
    yield {"type": "content_block_start", "content_block": empty}
    for delta in deltas:
        yield {"type": "content_block_delta", "delta": delta}
    yield {"type": "content_block_stop"}


def _taken_apart(block: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    """How a block begins, and what it grows by. Blocks that we do not know begin whole."""
    match block:
        case {"type": "text", "text": text}:
            citations = block.get("citations") or []
            empty = {**block, "text": ""} | ({"citations": []} if citations else {})
            cited = [{"type": "citations_delta", "citation": citation} for citation in citations]
            return empty, [*cited, *({"type": "text_delta", "text": piece} for piece in pieces(text))]
        case {"type": "thinking", "thinking": text}:
            grown = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(text)]
            signature = block.get("signature")
            signed = [{"type": "signature_delta", "signature": signature}] if signature else []
            empty = {**block, "thinking": ""} | ({"signature": ""} if signed else {})
            return empty, [*grown, *signed]
        case {"input": dict() as given}:
            text = dump(given).decode()
            grown = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(text)]
            return {**block, "input": {}}, grown
    return block, []


def _event(event: JsonObject) -> bytes:
    return sse.event(dump(event), event["type"].encode())


# What an answer says of itself


def ending(answer: JsonObject) -> Ending:
    content = answer.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        return Ending(whole=False)
    if answer.get("type") != "message" or not isinstance(answer.get("usage"), dict) or answer.get("error"):
        return Ending(whole=False)
    return Ending(
        whole=True,
        reasons=(str(answer.get("stop_reason")),),
        empty=not any(block.get("text") or block.get("type") == "tool_use" for block in content),
    )


def said(answer: JsonObject) -> str:
    return "\n".join(_said(block) for block in answer["content"] if block.get("type") in ("text", "tool_use"))


def _said(block: JsonObject) -> str:
    if block["type"] == "text":
        return str(block.get("text"))
    return f"{block.get('name')} {json.dumps(block.get('input'), sort_keys=True)}"


_READ_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def usage(answer: JsonObject) -> Usage:
    told = usage_in(answer)
    counts = {name: count for name, count in told.items() if isinstance(count, int)}
    return Usage.told(sum(counts.get(name, 0) for name in _READ_TOKENS), counts.get("output_tokens", 0))


# Errors: https://docs.anthropic.com/en/api/errors

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error(status: int, code: str, message: str) -> bytes:
    kind = _KINDS.get(status, "api_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": f"{message} ({code})"}}).encode()
