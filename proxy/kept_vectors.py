"""Vectors of texts that are worked on again and again: made once, and kept in a file for the next run."""

from __future__ import annotations

import asyncio
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.base import Embedder, EmbedderFailed, Matrix, TextTooLong, Vector
from embeddings.opening import open_embedder
from proxy.settings import Embedding

FOLDER = Path("data/vectors")
AT_ONCE = 256
"""Texts that wait for the encoder at a time."""
_DEADLINE_S = 600.0


def open_patient(chosen: Embedding) -> Embedder:
    """The embedder of the settings, for work that nobody waits for; slow, as that is. Raises `EmbedderFailed`
    or `OSError`."""
    model = chosen.model or ""
    try:
        return open_embedder(chosen.kind, model, chosen.device, queue=AT_ONCE, deadline_s=_DEADLINE_S)
    except ValueError as error:
        raise EmbedderFailed(str(error)) from None


def open_kept(chosen: Embedding) -> KeptVectors:
    """As `open_patient`."""
    return KeptVectors(open_patient(chosen), FOLDER)


class KeptVectors:
    """An `Embedder` before another one, with room for every text it ever met, and a file under `folder`."""

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self.fingerprint = embedder.fingerprint
        self.dimensions = embedder.dimensions
        self._embedder = embedder
        self._path = folder / f"{_digest(embedder.fingerprint).hex()}.npz"
        self._vectors = _read(self._path, self.dimensions)
        self._saved = len(self._vectors)

    async def embed(self, text: str, tenant: str = "") -> Vector:
        digest = _digest(text)
        if (known := self._vectors.get(digest)) is not None:
            return known
        vector = self._vectors[digest] = await self._embedder.embed(text)
        return vector

    def known(self, text: str) -> Vector | None:
        """None when the text is too long, or was never asked for."""
        return self._vectors.get(_digest(text))

    async def embed_many(self, texts: Sequence[str]) -> Matrix:
        return await self._embedder.embed_many(texts)

    async def prepare(self, texts: Iterable[str], advance: Callable[[int], None]) -> None:
        """Embeds each text once and saves the vectors, also of what was done when it is broken off.

        Texts that are too long stay without one. `advance` is told how many more are done. Raises
        `EmbeddingError`.
        """
        # In order of length, so that the encoder's batches are of one length.
        waiting = sorted(set(texts), key=len)
        try:
            for start in range(0, len(waiting), AT_ONCE):
                part = waiting[start : start + AT_ONCE]
                outcomes = await asyncio.gather(*map(self._try, part), return_exceptions=True)
                if failed := next(filter(None, outcomes), None):
                    raise failed
                advance(len(part))
        finally:
            await asyncio.to_thread(self._save)

    async def _try(self, text: str) -> None:
        try:
            await self.embed(text)
        except TextTooLong:
            pass  # As in the proxy: found by the exact tier only.

    def stats(self) -> dict[str, Any]:
        return self._embedder.stats()

    async def close(self) -> None:
        await self._embedder.close()

    def _save(self) -> None:
        if len(self._vectors) == self._saved:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(f".{os.getpid()}.npz")
        digests = np.frombuffer(b"".join(self._vectors), np.uint8).reshape(len(self._vectors), -1)
        np.savez(partial, digests=digests, vectors=np.stack(list(self._vectors.values())))
        partial.replace(self._path)
        self._saved = len(self._vectors)


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _read(path: Path, dimensions: int) -> dict[bytes, Vector]:
    """Empty when there is no such file or it is not to be used: then it is written anew."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            digests, vectors = arrays["digests"], arrays["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if vectors.shape != (len(digests), dimensions):
        return {}
    return {digest.tobytes(): vector for digest, vector in zip(digests, vectors, strict=True)}
