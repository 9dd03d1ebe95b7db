"""Streams with one JSON object per line: https://github.com/ndjson/ndjson-spec"""

from __future__ import annotations


class Splitter:
    """Splits a byte stream, in whatever chunks it arrives, into whole lines with their ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line + b"\n" for line in lines]

    def rest(self) -> bytes:
        """What is left at the end of the stream."""
        rest, self._rest = self._rest, b""
        return rest
