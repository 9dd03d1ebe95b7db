"""Server-sent events as bytes: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r|\r\n\n|\n\r\n")
_LINE = re.compile(rb"\r\n|\n|\r")


class Splitter:
    """Splits a byte stream, in whatever chunks it arrives, into whole events. They include their terminators,
    so no byte is lost."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes."""
        # Only the last bytes of what was searched before can be part of a boundary.
        known = max(0, len(self._rest) - 3)
        whole, self._rest = _cut(self._rest + data, known)
        return whole

    def rest(self) -> bytes:
        """What is left at the end of the stream: an event if the sender left out the last blank line."""
        rest, self._rest = self._rest, b""
        return rest


def _cut(data: bytes, known: int) -> tuple[list[bytes], bytes]:
    events, start = [], 0
    for boundary in _BOUNDARY.finditer(data, known):
        events.append(data[start : boundary.end()])
        start = boundary.end()
    return events, data[start:]


def payload(event: bytes) -> bytes | None:
    """The event's data lines, joined by newlines; None if it has none (a comment, a keep-alive)."""
    lines = [value for name, value in _fields(event) if name == b"data"]
    return b"\n".join(lines) if lines else None


def _fields(event: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in _LINE.split(event):
        name, _, value = line.partition(b":")
        yield name, value.removeprefix(b" ")


def event(data: bytes, name: bytes = b"") -> bytes:
    head = b"event: " + name + b"\n" if name else b""
    return head + b"data: " + data + b"\n\n"


def failure(body: bytes) -> bytes:
    """An API's error as the kind of event that its SDKs raise as an error."""
    return event(b" ".join(body.splitlines()), b"error")
