"""The interfaces of this package.

An `Encoder` is a synchronous back end (ONNX Runtime, sentence-transformers). An `Embedder` is what the rest
of the program awaits. `batcher.Batcher` turns the first into the second.

Errors:

    EmbeddingError              a text could not be embedded; the call goes on without a vector
    ├── TextTooLong             the model would not read the whole text, so it must not be matched by meaning
    ├── EmbedderOverloaded      the queue is full
    ├── EmbedderTimeout         no vector within the deadline
    └── EmbedderFailed          the back end raised, or its worker has died
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


class EmbeddingError(Exception): ...


class TextTooLong(EmbeddingError): ...


class EmbedderOverloaded(EmbeddingError): ...


class EmbedderTimeout(EmbeddingError): ...


class EmbedderFailed(EmbeddingError): ...


class Encoder(Protocol):
    """A back end that turns tokens into vectors. `encode` blocks and is only called in worker threads."""

    fingerprint: str
    """Identifies the vector space: model, weights, pooling. Only vectors of one fingerprint are compared."""
    dimensions: int
    max_tokens: int
    """Longest text in tokens, including special tokens."""
    workers: int
    """How many threads may be inside `encode` at once."""
    batch_tokens: int
    """Most tokens (texts × longest) in one batch; 0: batching gains nothing, encode texts one by one."""

    def tokenize(self, text: str) -> Sequence[int]:
        """Token ids, including special tokens, not truncated. Must be fast enough for the event loop, for up
        to about 2,000 characters."""

    def encode(self, batch: Sequence[Sequence[int]]) -> Matrix:
        """One row per text, in order. A text's vector must not depend on the rest of its batch."""

    def close(self) -> None: ...


class Embedder(Protocol):
    """The asynchronous interface that the rest of the program uses."""

    fingerprint: str
    dimensions: int

    async def embed(self, text: str, tenant: str = "") -> Vector:
        """One vector, or an `EmbeddingError` within the embedder's deadline. `tenant`: whose text it is; ""
        for the proxy's own. Anything cached is cached per tenant, as a fast answer would otherwise reveal
        that another tenant has asked the same."""

    async def embed_many(self, texts: Sequence[str]) -> Matrix:
        """Vectors for texts that no caller waits for (examples, replays). There is no deadline, the queue of
        `embed` is left free, and texts that are too long are truncated."""

    def stats(self) -> dict[str, Any]:
        """Queue length, batches, texts, timeouts and so on, for the metrics."""

    async def close(self) -> None:
        """Fails whatever is still waiting and stops the workers."""
