"""Bodies and vectors as bytes at rest.

A packed body is one byte for the codec, four for the CRC-32 of the body, then the payload. What is sealed
is one byte, four that name the key, a nonce of twelve, then AES-256-GCM of the plain bytes, bound to what
they are part of: a sealed value that is moved to another entry does not open.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np

from storage.base import Vector

RAW, ZLIB, SEALED = 0, 1, 2
COMPRESS_ABOVE = 1024
"""Bytes; smaller bodies gain little."""
LEVEL = 1
NEEDS_KEYS = (
    "documents.url: the store holds sealed answers: set NEARHIT_DOCUMENTS__KEYS, or name another store"
)

_HEADER = struct.Struct("<BI")
_SEAL = struct.Struct("<B4s12s")


class Locked(ValueError):
    """Sealed with a key that is not among ours."""


class Codec:
    """Packs bodies, and seals them when there are keys: the first seals, each opens what it sealed."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        """Each key has 32 bytes. Raises ImportError when there are keys and `cryptography` is not
        installed."""
        self._ciphers = {_name(key): _cipher(key) for key in keys}
        self._first = next(iter(self._ciphers), None)

    @property
    def seals(self) -> bool:
        return self._first is not None

    def pack(self, body: bytes, id: str) -> bytes:
        packed = pack(body)
        return self._seal(packed, f"{id} body") if self.seals else packed

    def unpack(self, packed: bytes, id: str) -> bytes:
        """Raises ValueError when these are not the bytes that `pack` made, `Locked` without the key."""
        if packed[:1] == bytes([SEALED]):
            packed = self._unseal(packed, f"{id} body")
        return unpack(packed)

    def pack_vector(self, vector: Vector | None, id: str) -> bytes | None:
        """None for None. The bytes of a plain vector are a multiple of four, those of a sealed one are
        not."""
        plain = vector_to_bytes(vector)
        return self._seal(plain, f"{id} vector") if self.seals and plain is not None else plain

    def unpack_vector(self, data: bytes | None, id: str) -> Vector | None:
        """Raises ValueError when it is damaged, `Locked` without the key."""
        if data is not None and len(data) % 4:
            data = self._unseal(data, f"{id} vector")
        return vector_from_bytes(data)

    def seal_text(self, text: str, id: str) -> bytes:
        """Only with a key."""
        return self._seal(text.encode(), f"{id} text")

    def unseal_text(self, sealed: bytes, id: str) -> str:
        """Raises ValueError when it is damaged, `Locked` without the key."""
        return self._unseal(sealed, f"{id} text").decode()

    def is_newest(self, sealed: bytes) -> bool:
        """Sealed with the first key."""
        return self._first is not None and sealed[:5] == bytes([SEALED]) + self._first

    def _seal(self, plain: bytes, of: str) -> bytes:
        assert self._first is not None
        nonce = os.urandom(12)
        sealed: bytes = self._ciphers[self._first].encrypt(nonce, plain, of.encode())
        return _SEAL.pack(SEALED, self._first, nonce) + sealed

    def _unseal(self, sealed: bytes, of: str) -> bytes:
        """Raises `Locked`, or ValueError when it was altered or belongs elsewhere."""
        try:
            _, name, nonce = _SEAL.unpack_from(sealed)
        except struct.error as error:
            raise ValueError(f"damaged seal: {error}") from error
        if (cipher := self._ciphers.get(name)) is None:
            raise Locked(f"sealed with another key ({name.hex()})")
        try:
            plain: bytes = cipher.decrypt(nonce, sealed[_SEAL.size :], of.encode())
        except Exception as error:  # InvalidTag, which cannot be named where the package may be missing
            raise ValueError("damaged seal") from error
        return plain


def _name(key: bytes) -> bytes:
    """Four bytes that tell keys apart and nothing of the key."""
    return blake2b(key, digest_size=4, person=b"nearhit-key").digest()


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


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
    if codec == RAW:
        return payload
    if codec == ZLIB:
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
