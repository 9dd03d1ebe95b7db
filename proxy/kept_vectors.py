"""Caches vectors in a file, for commands that embed the same texts in every run."""

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
"""Texts queued for the encoder at a time."""
_DEADLINE_S = 600.0


def open_patient(chosen: Embedding) -> Embedder:
    """The embedder of the settings, with a long deadline, for bulk work. Opening it takes a while. Raises
    `EmbedderFailed` or `OSError`."""
    model = chosen.model or ""
    try:
        return open_embedder(chosen.kind, model, chosen.device, queue=AT_ONCE, deadline_s=_DEADLINE_S)
    except ValueError as error:
        raise EmbedderFailed(str(error)) from None


def open_kept(chosen: Embedding) -> KeptVectors:
    """The same, with its vectors cached in `FOLDER`."""
    return KeptVectors(open_patient(chosen), FOLDER)


class KeptVectors:
    """An `Embedder` that wraps another one, and caches every vector without limit, in a file under
    `folder`."""

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
        """The cached vector. None: the text is too long, or has not been embedded."""
        return self._vectors.get(_digest(text))

    async def embed_many(self, texts: Sequence[str]) -> Matrix:
        return await self._embedder.embed_many(texts)

    async def prepare(self, texts: Iterable[str], advance: Callable[[int], None]) -> None:
        """Embeds each text once and saves the vectors, even if it is interrupted.

        Texts that are too long get no vector. `advance` is told the number of texts after each step. Raises
        `EmbeddingError`.
        """
        # Sorted, so that the texts of a batch have similar lengths.
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
            pass  # as in the proxy, only the exact tier will find it

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
    """Empty if there is no such file, or none that can be used; it will then be overwritten."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            digests, vectors = arrays["digests"], arrays["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if vectors.shape != (len(digests), dimensions):
        return {}
    return {digest.tobytes(): vector for digest, vector in zip(digests, vectors, strict=True)}
