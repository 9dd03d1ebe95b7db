"""Gemini's streams: an answer in chunks, each of which has its shape and a part of its candidates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from proxy import sse
from proxy.dialects.base import Framing, JsonObject, WholeSplitter, dump, pieces

EVENTS = Framing("text/event-stream", sse.Splitter)
"""Without comments and names of events, which Google's own client does not read."""
ARRAY = Framing("application/json; charset=UTF-8", WholeSplitter)


def parts_of(candidate: JsonObject) -> list[JsonObject]:
    return list((candidate.get("content") or {}).get("parts") or ())


# Streams to objects

_LATEST = frozenset({"safetyRatings", "finishReason", "index", "tokenCount", "avgLogprobs"})
"""Members of a candidate of which each chunk may tell another state."""
_IN_PIECES = frozenset({"partialArgs", "willContinue"})


class Gatherer:
    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._answer: JsonObject = {}
        self._candidates: dict[int, JsonObject] = {}

    def feed(self, event: bytes) -> None:
        data = sse.payload(event) if self._framing is EVENTS else event
        if data is None or not data.strip():
            return
        told = json.loads(data)
        for chunk in [told] if self._framing is EVENTS else _array(told):
            self._take(chunk)

    def _take(self, chunk: JsonObject) -> None:
        if chunk.get("error"):
            raise ValueError
        for candidate in chunk.get("candidates") or ():
            _grow(self._candidates.setdefault(int(candidate.get("index", 0)), {}), candidate)
        self._answer |= {k: v for k, v in chunk.items() if k != "candidates"}

    def answer(self) -> JsonObject | None:
        """Nothing marks the end of a stream but that every candidate has come to its own."""
        candidates = [self._candidates[index] for index in sorted(self._candidates)]
        if not candidates or not all(each.get("finishReason") for each in candidates):
            return None
        return {"candidates": candidates, **self._answer}


def _array(told: Any) -> list[Any]:
    if not isinstance(told, list):
        raise ValueError("an error, or nothing that we know")
    return told


def _grow(whole: JsonObject, candidate: JsonObject) -> None:
    for key, new in candidate.items():
        if key == "content":
            _continue(whole.setdefault("content", {}), new or {})
        elif key in _LATEST:
            whole[key] = new
        elif whole.setdefault(key, new) != new:
            raise ValueError("a member of which we do not know how it grows")


def _continue(content: JsonObject, new: JsonObject) -> None:
    content |= {k: v for k, v in new.items() if k != "parts"}
    for part in new.get("parts") or ():
        _add(content.setdefault("parts", []), part)


def _add(parts: list[JsonObject], part: JsonObject) -> None:
    """Texts grow, but for those that are signed: the signature is of that part alone."""
    if any(_IN_PIECES & value.keys() for value in part.values() if isinstance(value, dict)):
        raise ValueError("a call in pieces")
    last = parts[-1] if parts else {}
    if _grows(part) and _grows(last) and part.get("thought") == last.get("thought"):
        parts[-1] = {**last, "text": last["text"] + part["text"]}
    else:
        parts.append(part)


def _grows(part: JsonObject) -> bool:
    return isinstance(part.get("text"), str) and part.keys() <= {"text", "thought"}


# Objects to streams

_ALWAYS = ("modelVersion", "responseId", "createTime")
"""Members that every chunk carries; the others come with the last."""


def scattered(answer: JsonObject, framing: Framing) -> Iterator[bytes]:
    chunks = (dump(chunk) for chunk in _chunks(answer))
    if framing is EVENTS:
        return (sse.event(chunk) for chunk in chunks)
    return iter((b"[" + b",\r\n".join(chunks) + b"\n]\n",))


def _chunks(answer: JsonObject) -> Iterator[JsonObject]:
    told = [chunk for candidate in answer["candidates"] for chunk in _of_candidate(candidate)]
    frame = {name: answer[name] for name in _ALWAYS if name in answer}
    for chunk in told[:-1]:
        yield {"candidates": [chunk], **frame}
    yield {**answer, "candidates": told[-1:]}


def _of_candidate(candidate: JsonObject) -> Iterator[JsonObject]:
    """How it ended comes with its last piece."""
    content, at = candidate.get("content") or {}, {k: candidate[k] for k in ("index",) if k in candidate}
    grown = [piece for part in parts_of(candidate) for piece in _taken_apart(part)]
    for piece in grown[:-1]:
        yield {"content": {**content, "parts": [piece]}, **at}
    yield {**candidate, "content": {**content, "parts": grown[-1:]}} if grown else candidate


def _taken_apart(part: JsonObject) -> list[JsonObject]:
    texts = list(pieces(part["text"])) if _grows(part) else []
    return [{**part, "text": text} for text in texts] or [part]
