"""The interface of a dialect, which is what the exchange needs to know of an API. A dialect is one file, and
the exchange knows none by name.

Inside nearhit, an answer always has the same form: the JSON object that the API gives without streaming. A
`Gatherer` turns an event stream into it, and `scatter` turns it into an event stream.
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
    """The fuzzy span: the text of the last user turn. None: only an identical call may match."""
    opaque: str
    """Why there is no fuzzy span; "" if there is one."""
    identity: JsonObject
    """The body without the fuzzy span and without what only concerns transport."""
    barred: str = ""
    """Why the call must bypass the cache; "" if it need not."""
    tied: bool = False
    """The answer refers to something that the upstream keeps for this caller, so nobody else could continue
    from it."""


@dataclass(frozen=True, slots=True)
class Usage:
    tokens_in: int = 0
    tokens_out: int = 0

    @classmethod
    def told(cls, tokens_in: object, tokens_out: object = 0) -> Usage:
        """From the values that an upstream sent, which may be anything. What cannot be a count becomes 0, so
        that no sum and no store fails because of it."""
        return cls(_count(tokens_in), _count(tokens_out))


MALFORMED = (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)
"""The errors that parsing an answer may raise if it does not have its API's format, as upstreams may send
anything."""


def usage_in(answer: JsonObject) -> JsonObject:
    """The answer's `usage`, or an empty object."""
    told = answer.get("usage")
    return told if isinstance(told, dict) else {}


def _count(told: object) -> int:
    return told if isinstance(told, int) and 0 <= told < 2**31 else 0


class Gatherer(Protocol):
    """Assembles a streamed answer from its events. Raises one of `MALFORMED` for events it does not
    understand; such an answer is not stored."""

    def feed(self, event: bytes) -> None:
        """One whole event."""

    def answer(self) -> JsonObject | None:
        """The answer as one object. None: the stream did not end as this API ends a stream."""


class Unchanged:
    """A filter for streams that passes on everything."""

    def feed(self, data: bytes) -> bytes:
        """What to pass on of the events that `data` completes."""
        return data

    def rest(self) -> bytes:
        """What to pass on at the end of the stream."""
        return b""


class Enrichment:
    """What nearhit adds to a request so that a streamed answer can be stored. This base class adds nothing,
    as the streams of most APIs report everything unasked."""

    def enrich(self, body: JsonObject) -> JsonObject | None:
        """The request's body with the addition. None: nothing has to be added."""
        return None

    def is_rejection(self, body: bytes) -> bool:
        """Whether the body of an error names the addition, and not just because it repeats the whole
        request."""
        return False

    def filter(self) -> Unchanged:
        """A filter that removes from the stream what the caller did not ask for."""
        return Unchanged()


NOTHING_ADDED = Enrichment()


def dump(value: Any, strict: bool = False) -> bytes:
    """Compact JSON. Lone surrogates stay escaped, as otherwise nobody could decode them. `strict`: raises
    ValueError for `NaN` and `Infinity`, which are not JSON."""
    write = partial(json.dumps, value, separators=(",", ":"), allow_nan=not strict)
    try:
        return write(ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return write().encode()


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a string that can be encoded: JSON can also contain lone surrogates, which cannot."""
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
    """A text in pieces of eight words, or of more, so that there are at most `_MOST_PIECES`. Any other value
    is a single piece, and None is no piece."""
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
        """What is left at the end of the stream."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How a stream is split into events."""

    content_type: str
    splitter: Callable[[], Splitter]


class WholeSplitter:
    """A splitter for streams that are a single JSON text, which is complete only at their end."""

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
        """The part of path and query that belongs to the call's identity; "": all of it, as received."""

    @property
    def enrichment(self) -> Enrichment: ...

    def read(self, body: JsonObject) -> Reading | None:
        """None: not a valid request of this API, so the upstream should reject it."""

    def gatherer(self) -> Gatherer: ...

    def scatter(self, answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
        """The answer as the event stream that `request` asked for."""

    def ending(self, answer: JsonObject) -> Ending:
        """Raises one of `MALFORMED` for an answer it does not understand."""

    def usage(self, answer: JsonObject) -> Usage: ...

    def said(self, answer: JsonObject) -> str:
        """The texts and tool calls of an answer that ended normally, to compare it with another one."""

    def error(self, status: int, code: str, message: str) -> bytes:
        """The body of an error in this API's format."""
