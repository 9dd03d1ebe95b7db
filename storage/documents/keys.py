"""Keys that seal what is at rest. Light to import: the settings check them."""

from __future__ import annotations

import base64
import binascii

KEY_BYTES = 32


def read_key(text: str) -> bytes:
    """32 bytes in base64, either alphabet. Raises ValueError without repeating the text."""
    try:
        key = base64.b64decode(text.strip().translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("a key is 32 bytes in base64, as `openssl rand -base64 32` prints")
    return key
