"""The interfaces of this package.

An `Encoder` is a synchronous back end (ONNX Runtime, sentence-transformers). An `Embedder` is what the rest
of the program awaits. `batcher.Batcher` makes the second out of the first.

Errors:

    EmbeddingError              a text could not be embedded; the call goes on without a vector
    ├── TextTooLong             the model would not read its end, so it may not be matched by meaning
    ├── EmbedderOverloaded      the queue is full
    ├── EmbedderTimeout         no vector within the deadline
    └── EmbedderFailed          the back end raised, or its worker has gone
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""Shape (dimensions,), unit length: the dot product of two is their cosine."""

Matrix = NDArray[np.float32]
"""Shape (texts, dimensions), unit rows."""


class EmbeddingError(Exception):
    """A text could not be embedded."""


class TextTooLong(EmbeddingError):
    """The text has more tokens than the model reads."""


class EmbedderOverloaded(EmbeddingError):
    """The queue is full."""


class EmbedderTimeout(EmbeddingError):
    """The deadline passed."""


class EmbedderFailed(EmbeddingError):
    """The back end failed."""


class Encoder(Protocol):
    """A back end that turns tokens into vectors. `encode` blocks and is called in worker threads only."""

    fingerprint: str
    """Names the vector space: model, weights, pooling. Vectors of two fingerprints are never compared."""
    dimensions: int
    max_tokens: int
    """Longest text in tokens, special tokens included."""
    workers: int
    """How many threads may be inside `encode` at once."""
    batch_tokens: int
    """Most tokens (texts × longest) in one batch; 0: batches gain nothing here, encode one by one."""

    def tokenize(self, text: str) -> Sequence[int]:
        """Token ids with special tokens, not truncated. Quick enough for the event loop up to 2,000
        characters or so."""

    def encode(self, batch: Sequence[Sequence[int]]) -> Matrix:
        """Rows in the order of the batch. A text's vector must not depend on what else is in its batch."""

    def close(self) -> None: ...


class Embedder(Protocol):
    """What the call path awaits."""

    fingerprint: str
    dimensions: int

    async def embed(self, text: str, tenant: str = "") -> Vector:
        """One vector, or an `EmbeddingError` within the embedder's deadline. `tenant`: whose text it is, so
        that what comes sooner because it came before tells nobody what others asked; "": the proxy's own."""

    async def embed_many(self, texts: Sequence[str]) -> Matrix:
        """Vectors for texts that nobody waits for (examples, replays): no deadline, does not fill the queue
        that `embed` uses, too long texts are cut."""

    def stats(self) -> dict[str, Any]:
        """Queue length, batches, texts, timeouts, for the metrics."""

    async def close(self) -> None:
        """Fails what still waits and ends the workers."""
