"""Bodies and vectors as bytes at rest.

A packed body is one byte for the codec, four for the CRC-32 of the body, then the payload.
"""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np

from storage.base import Vector

RAW, ZLIB = 0, 1
COMPRESS_ABOVE = 1024
"""Bytes; smaller bodies gain little."""
LEVEL = 1

_HEADER = struct.Struct("<BI")


def pack(body: bytes) -> bytes:
    codec, payload = RAW, body
    if len(body) > COMPRESS_ABOVE:
        compressed = zlib.compress(body, LEVEL)
        if len(compressed) < len(body):
            codec, payload = ZLIB, compressed
    return _HEADER.pack(codec, zlib.crc32(body)) + payload


def unpack(packed: bytes) -> bytes:
    """Raises ValueError when these are not the bytes that `pack` made."""
    try:
        codec, crc = _HEADER.unpack_from(packed)
        body = _payload(codec, packed[_HEADER.size :])
    except (struct.error, zlib.error, TypeError) as error:
        raise ValueError(f"damaged body: {error}") from error
    if zlib.crc32(body) != crc:
        raise ValueError("damaged body: checksum differs")
    return body


def _payload(codec: int, payload: bytes) -> bytes:
    match codec:
        case 0:
            return payload
        case 1:
            return zlib.decompress(payload)
    raise ValueError(f"damaged body: unknown codec {codec}")


def vector_to_bytes(vector: Vector | None) -> bytes | None:
    """Little-endian float32."""
    return vector.astype("<f4").tobytes() if vector is not None else None


def vector_from_bytes(data: bytes | None) -> Vector | None:
    """Raises ValueError when the length is not that of whole numbers, or one is not finite."""
    if data is None:
        return None
    vector = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("damaged vector")
    return vector


def tags_to_text(tags: tuple[str, ...]) -> str:
    return json.dumps(tags)


def tags_from_text(text: str) -> tuple[str, ...]:
    """Raises ValueError when it is not a list of strings."""
    tags = json.loads(text)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("damaged tags")
    return tuple(tags)
