"""Headers leave as the bytes that they came as, also where these are not UTF-8 (RFC 9110, section 5.5).

aiohttp reads such bytes as half characters (`surrogateescape`) and leaves these out when it writes: `k\\xe9y`
would go up as `ky`, which may be another's key. It has no setting for that, and makes its writers itself.
"""

from __future__ import annotations

from aiohttp import http_writer
from multidict import CIMultiDict

_serialize = http_writer._serialize_headers
"""Of aiohttp 3, which is the bound of our dependency."""


def keep() -> None:
    """For all that aiohttp writes in this process from now on."""
    http_writer._serialize_headers = _as_they_came


def _as_they_came(status_line: str, headers: CIMultiDict[str]) -> bytes:
    if status_line.isascii() and "".join(headers.values()).isascii():
        return _serialize(status_line, headers)
    # As one character a byte nothing is left out: what was written is these characters as UTF-8.
    each = CIMultiDict((name, _a_character_a_byte(value)) for name, value in headers.items())
    return _serialize(_a_character_a_byte(status_line), each).decode().encode("latin-1")


def _a_character_a_byte(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
