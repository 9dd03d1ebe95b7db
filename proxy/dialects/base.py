"""What a dialect must tell the exchange of its API. A dialect is one file; the exchange knows none by name.

Answers have one form inside nearhit: the JSON object that the API gives without streaming. `Gatherer` makes
it of an event stream, and `scatter` makes an event stream of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeGuard

from policies.storable import Ending
from proxy import ndjson, sse

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """A request's body as the dialect reads it."""

    model: str
    stream: bool
    text: str | None
    """The fuzzy span: the text of the last user turn. None: only the same call to the letter may match."""
    opaque: str
    """Why there is no fuzzy span; "" when there is one."""
    identity: JsonObject
    """The body without the fuzzy span and without what only concerns transport."""
    barred: str = ""
    """Why no stored answer may serve the call and its own may not be stored; "" when they may."""
    tied: bool = False
    """The answer refers to something that the upstream keeps for this caller: nobody else could go on from
    it."""


@dataclass(frozen=True, slots=True)
class Usage:
    tokens_in: int = 0
    tokens_out: int = 0

    @classmethod
    def told(cls, tokens_in: object, tokens_out: object = 0) -> Usage:
        """Made of what an upstream told, which may be anything: what cannot be a count is 0, so that no sum
        and no store fails at it."""
        return cls(_count(tokens_in), _count(tokens_out))


MALFORMED = (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)
"""Errors of reading an answer that is not in its API's shape: upstreams may answer anything."""


def usage_in(answer: JsonObject) -> JsonObject:
    """What an answer says under `usage`, if that is an object."""
    told = answer.get("usage")
    return told if isinstance(told, dict) else {}


def _count(told: object) -> int:
    return told if isinstance(told, int) and 0 <= told < 2**31 else 0


class Gatherer(Protocol):
    """Collects the events of one streamed answer. Raises one of `MALFORMED` at what it does not understand;
    such an answer is not stored."""

    def feed(self, event: bytes) -> None:
        """One whole event."""

    def answer(self) -> JsonObject | None:
        """The answer as one object, or None when the stream did not end as its API ends it."""


class Unchanged:
    """A filter of streams that leaves all as it is."""

    def feed(self, data: bytes) -> bytes:
        """What is left of the events that `data` completes."""
        return data

    def rest(self) -> bytes:
        """What is left when the stream ends."""
        return b""


class Enrichment:
    """What the upstream is asked for on our account, so that a streamed answer can be stored. Here nothing:
    the streams of most APIs tell everything unasked."""

    def enrich(self, body: JsonObject) -> JsonObject | None:
        """The request's body with what is asked for in addition; None where nothing has to be added."""
        return None

    def is_rejection(self, body: bytes) -> bool:
        """Whether the body of an error names what was added. It may also just repeat the whole request."""
        return False

    def filter(self) -> Unchanged:
        """Takes out of the stream what the caller did not ask for."""
        return Unchanged()


NOTHING_ADDED = Enrichment()


def dump(value: Any, strict: bool = False) -> bytes:
    """Compact JSON. Halves of surrogate pairs stay escaped; unescaped, nobody could decode them. `strict`:
    raises ValueError at `NaN` and `Infinity`, which are no JSON."""
    write = partial(json.dumps, value, separators=(",", ":"), allow_nan=not strict)
    try:
        return write(ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return write().encode()


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a string of whole characters: JSON can also write halves of surrogate pairs, which cannot
    be encoded."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class NoStream:
    """The gatherer of dialects whose answers are never streamed."""

    def feed(self, event: bytes) -> None:
        pass

    def answer(self) -> JsonObject | None:
        return None


_PIECE = re.compile(r"\S*\s*(?:\S+\s*){0,7}", re.DOTALL)
_MOST_PIECES = 200


def pieces(text: Any) -> Iterator[Any]:
    """The text in pieces of eight words; a long one in at most `_MOST_PIECES`. What is no text comes in one
    piece, None in none."""
    if not isinstance(text, str):
        yield from () if text is None else (text,)
        return
    size, piece = len(text) // _MOST_PIECES, ""
    for words in _PIECE.findall(text):
        piece += words
        if len(piece) >= size and piece:
            yield piece
            piece = ""
    if piece:
        yield piece


class Splitter(Protocol):
    def feed(self, data: bytes) -> list[bytes]:
        """The whole events that `data` completes."""

    def rest(self) -> bytes:
        """What is left when the stream ends."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How a stream is cut into events."""

    content_type: str
    splitter: Callable[[], Splitter]


class WholeSplitter:
    """The splitter of streams that are one JSON text: it is there when they have ended."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        self._parts.append(data)
        return []

    def rest(self) -> bytes:
        rest, self._parts = b"".join(self._parts), []
        return rest


EVENTS = Framing("text/event-stream; charset=utf-8", sse.Splitter)
LINES = Framing("application/x-ndjson", ndjson.Splitter)


class Dialect(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def framing(self) -> Framing: ...

    @property
    def place(self) -> str:
        """Path and query as far as they are part of the call's identity; "": all of them, as they came."""

    @property
    def enrichment(self) -> Enrichment: ...

    def read(self, body: JsonObject) -> Reading | None:
        """None: no request that this API would answer; the upstream shall say so itself."""

    def gatherer(self) -> Gatherer: ...

    def scatter(self, answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
        """The answer as the event stream that `request` asked for."""

    def ending(self, answer: JsonObject) -> Ending:
        """Raises one of `MALFORMED` at what it does not understand."""

    def usage(self, answer: JsonObject) -> Usage: ...

    def said(self, answer: JsonObject) -> str:
        """The texts and tool calls of an answer that ended well, to compare it with another."""

    def error(self, status: int, code: str, message: str) -> bytes:
        """The body of an error in this API's shape."""
