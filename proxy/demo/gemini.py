"""Gemini's shapes of what the demo upstream says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from proxy.demo.answers import THOUGHTS, Body, Choice, Refusal, Reply, data_event, dumps, pieces_of


def as_chat(body: Body) -> Body:
    """The call in the members that the rest of the demo reads. Raises `Refusal`."""
    try:
        return _as_chat(body)
    except (AttributeError, KeyError, TypeError):
        raise Refusal(400, "Invalid JSON payload received.") from None


def _as_chat(body: Body) -> Body:
    settings = _given(body, "generationConfig", "generation_config") or {}
    contents = _listed(body.get("contents"))
    if not contents:
        raise Refusal(400, "* GenerateContentRequest.contents: contents is not specified")
    asked = {
        "model": body["model"],
        "messages": [{"role": c.get("role") or "user", "content": _listed(c.get("parts"))} for c in contents],
        "n": _given(settings, "candidateCount", "candidate_count"),
        "max_tokens": _given(settings, "maxOutputTokens", "max_output_tokens"),
        "temperature": settings.get("temperature"),
        "tools": [
            {"function": {"name": each["name"], "parameters": _parameters(each)}}
            for tool in _listed(body.get("tools"))
            for each in _listed(_given(tool, "functionDeclarations", "function_declarations"))
        ],
        "tool_choice": "required" if _must_call(body) else None,
        "thinks": _thinks(settings),
    }
    if _given(settings, "responseMimeType", "response_mime_type") == "application/json":
        schema = _lower(_given(settings, "responseSchema", "response_schema", "responseJsonSchema") or {})
        asked["response_format"] = {"type": "json_schema", "schema": {"type": "object"} | schema}
    return {key: value for key, value in asked.items() if value is not None}


def _parameters(declared: Body) -> Any:
    return _lower(_given(declared, "parameters", "parametersJsonSchema", "parameters_json_schema") or {})


def _thinks(settings: Body) -> bool:
    thinking = _given(settings, "thinkingConfig", "thinking_config") or {}
    return bool(_given(thinking, "includeThoughts", "include_thoughts"))


def _must_call(body: Body) -> bool:
    config = _given(body, "toolConfig", "tool_config") or {}
    calling = _given(config, "functionCallingConfig", "function_calling_config") or {}
    return bool(calling.get("mode") == "ANY")


def _given(holder: Body, *names: str) -> Any:
    return next((holder[name] for name in names if holder.get(name) is not None), None)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _lower(schema: Any) -> Any:
    """A schema whose types are written as Google does (`STRING`), as others write it."""
    if isinstance(schema, list):
        return [_lower(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    lowered = {key: _lower(value) for key, value in schema.items()}
    kind = lowered.get("type")
    return {**lowered, "type": kind.lower()} if isinstance(kind, str) else lowered


def document(reply: Reply) -> Body:
    candidates = [
        _candidate(index, [*_thoughts(reply), *_said(choice)], _finish(choice))
        for index, choice in enumerate(reply.choices)
    ]
    return {"candidates": candidates, **_head(reply), "usageMetadata": _usage(reply)}


def events(reply: Reply) -> Iterator[bytes]:
    return (data_event(chunk) for chunk in _chunks(reply))


def elements(reply: Reply) -> Iterator[bytes]:
    """The same as one array."""
    for number, chunk in enumerate(_chunks(reply)):
        yield (b",\r\n" if number else b"[") + dumps(chunk)
    yield b"\n]\n"


def _chunks(reply: Reply) -> Iterator[Body]:
    for index, choice in enumerate(reply.choices):
        said = _said(choice) if choice.tool else [{"text": piece} for piece in choice.pieces]
        for part in [*_thoughts(reply, True), *said]:
            yield {"candidates": [_candidate(index, [part])], **_head(reply)}
        yield {
            "candidates": [_candidate(index, [] if choice.tool else [{"text": ""}], _finish(choice))],
            **_head(reply),
            "usageMetadata": _usage(reply),
        }


def _thoughts(reply: Reply, in_pieces: bool = False) -> list[Body]:
    texts = pieces_of(THOUGHTS) if in_pieces else [THOUGHTS]
    return [{"text": text, "thought": True} for text in texts] if reply.body.get("thinks") else []


def _said(choice: Choice) -> list[Body]:
    if choice.tool:
        return [{"functionCall": {"name": choice.tool, "args": json.loads(choice.text)}}]
    return [{"text": choice.text}]


def _candidate(index: int, parts: list[Body], finish: str | None = None) -> Body:
    content = {"parts": parts, "role": "model"} if parts else {"role": "model"}
    return {"content": content, "index": index} | ({"finishReason": finish} if finish else {})


def _finish(choice: Choice) -> str:
    return "MAX_TOKENS" if choice.finish == "length" else "STOP"


def _head(reply: Reply) -> Body:
    return {"modelVersion": reply.model, "responseId": f"demo-{reply.number}"}


def _usage(reply: Reply) -> Body:
    thoughts = len(pieces_of(THOUGHTS)) if reply.body.get("thinks") else 0
    total = reply.prompt_tokens + reply.completion_tokens + thoughts
    counts = {"promptTokenCount": reply.prompt_tokens, "candidatesTokenCount": reply.completion_tokens}
    return counts | {"totalTokenCount": total} | ({"thoughtsTokenCount": thoughts} if thoughts else {})


_STATUSES = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}


def error(refusal: Refusal) -> Body:
    status = "INTERNAL" if refusal.status >= 500 else "INVALID_ARGUMENT"
    told = {
        "code": refusal.status,
        "message": refusal.message,
        "status": _STATUSES.get(refusal.status, status),
    }
    return {"error": told}
