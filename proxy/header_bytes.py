"""Passes on headers byte for byte, even if they are not UTF-8 (RFC 9110, section 5.5).

aiohttp reads such bytes as lone surrogates (`surrogateescape`) but drops them when it writes: `k\\xe9y` would
be sent as `ky`, which may be somebody else's key. It has no setting for this, and creates its writers itself,
so its serializer is replaced.
"""

from __future__ import annotations

from aiohttp import http_writer
from multidict import CIMultiDict

_serialize = http_writer._serialize_headers
"""A private function of aiohttp 3, to which our dependency is pinned."""


def keep() -> None:
    """Applies to everything that aiohttp writes in this process from now on."""
    http_writer._serialize_headers = _as_they_came


def _as_they_came(status_line: str, headers: CIMultiDict[str]) -> bytes:
    if status_line.isascii() and "".join(headers.values()).isascii():
        return _serialize(status_line, headers)
    # With one character per byte nothing is dropped; the UTF-8 that aiohttp makes of them is undone.
    each = CIMultiDict((name, _a_character_a_byte(value)) for name, value in headers.items())
    return _serialize(_a_character_a_byte(status_line), each).decode().encode("latin-1")


def _a_character_a_byte(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
