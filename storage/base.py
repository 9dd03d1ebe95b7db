"""The interfaces of this package.

An `Entry` is what memory knows of a stored answer; a `Document` is the entry with its vector and its body
as it lies in the store. The document store is the truth and the in-memory index is derived from it.

Errors: a store raises `StorageError`, whatever its driver raises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""Shape (dimensions,), unit length."""

Matrix = NDArray[np.float32]
"""Shape (vectors, dimensions), unit rows."""


class StorageError(Exception):
    """A store, of documents or of vectors, or the Redis between replicas did not do what it was asked."""


@dataclass(slots=True, eq=False)
class Entry:
    """A stored answer as the index knows it. All times are Unix seconds."""

    id: str
    exact: bytes
    """16-byte digest of everything that identifies the call, text included."""
    partition: bytes
    """16-byte digest of everything but the text; only entries of one partition are ever compared."""
    fingerprint: str
    """Vector space of the vector; "" when there is none and only the exact tier finds the entry."""
    category: str
    text: str
    """The fuzzy span of the query."""
    created: float
    dialect: str
    model: str
    tenant: str
    """Digest that separates tenants, or "shared"."""
    namespace: str = ""
    tags: tuple[str, ...] = ()
    ttl: float | None = None
    """Seconds the caller asked for; None: what the category says."""
    size: int = 0
    """Bytes of the body."""
    cost_ms: float = 0.0
    """Upstream time that a hit saves."""
    tokens_in: int = 0
    tokens_out: int = 0
    hits: int = 0
    last_hit: float = 0.0
    provenance: str = ""
    """"" for an answer of the upstream's, "simulated" for one of the demo upstream's, "imported" for one that
    was brought in."""


@dataclass(slots=True, eq=False)
class Document:
    entry: Entry
    vector: Vector | None
    body: bytes
    expires: float | None = None
    """Unix seconds after which the document is of no use and a store may let go of it by itself; None:
    nobody knows. Kept with the document only where a store does so."""


Stored = tuple[Entry, Vector | None]
"""A document without its body."""


@dataclass(slots=True)
class Unreadable:
    """How often a store found what it cannot read. It is left out, and stays there: a key may come back."""

    damaged: int = 0
    """Rows and bodies that are not as they were written."""
    locked: int = 0
    """Rows and bodies that are sealed with a key that is not among ours."""


class PartitionIndex(Protocol):
    """Vectors of one partition. Synchronous and owned by one thread."""

    def __len__(self) -> int: ...

    def add(self, key: int, vector: Vector) -> None:
        """`key` is new to the index."""

    def remove(self, key: int) -> None:
        """`key` is in the index."""

    def nearest(self, vector: Vector, count: int) -> list[tuple[float, int]]:
        """At most `count` (cosine, key), best first."""


class Vectors(Protocol):
    """Where the vectors of all entries lie; who the entries are is known in memory (`index.entries`).

    What was added is found at once, what was removed is not found any more. Isolation is by construction: a
    search looks into one partition only.
    """

    dimensions: int
    complete: bool
    """Whether a search finds whatever is near, but for what a graph overlooks. Where not, who must not miss
    anything reads the documents."""

    def add(self, entry: Entry, vector: Vector, known: bool = False) -> int:
        """A key for `remove`. `known`: the vector comes from the documents, so that it may lie there
        already."""

    def remove(self, entry: Entry, key: int) -> None: ...

    async def nearest(self, partition: bytes, vector: Vector, count: int) -> list[tuple[float, Entry]]:
        """At most `count` (cosine, entry), best first. Raises StorageError, within its deadline."""

    def partitions(self) -> list[bytes]:
        """Those that have vectors."""

    def loaded(self) -> None:
        """Is told that everything in the documents has been added."""

    def condemn(self, gone: Iterable[Entry]) -> None:
        """Their vectors are to go for ever, wherever they lie; memory need not have known them, and what it
        knows has been removed before."""

    async def settle(self) -> None:
        """When it returns, the vectors of what was removed or condemned before are gone for ever. Raises
        StorageError; then they are deleted later, and the next call waits for them again."""

    async def tend(self) -> None:
        """For ever: what is to be done beside the calls."""

    def stats(self) -> dict[str, Any]: ...


class Documents(Protocol):
    """The store of documents. Every method raises `StorageError`, within the store's deadline."""

    unreadable: Unreadable

    async def save(self, documents: Sequence[Document]) -> None:
        """All or none. A document with a known id or a known `exact` digest replaces the old one."""

    async def load(self, id: str) -> bytes | None:
        """The body, or None when there is none (any more)."""

    async def load_many(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The bodies of those of some hundred documents that are there and can be read."""

    async def entries(self, ids: Sequence[str]) -> list[Stored]:
        """Of some hundred documents, what a scan would give, in any order; unknown ids are no error."""

    async def delete(self, ids: Iterable[str]) -> None:
        """Unknown ids are no error. When it returns, a restart does not bring them back."""

    async def scrub(self) -> None:
        """When it returns, a power cut does not bring back what was deleted before, and no file that is the
        store's alone to write still holds its bytes."""

    async def revector(self, fingerprint: str, vectors: Mapping[str, Vector | None]) -> None:
        """Puts the documents with these ids into another vector space, all or none; a document without a
        vector is found by its exact digest only. Unknown ids are no error."""

    async def reseal(self, ids: Sequence[str]) -> int:
        """Of some hundred documents, seals anew with the first key what another key sealed, or none; returns
        how many. What cannot be read stays as it is, as does what somebody else changes meanwhile. Without
        keys it does nothing."""

    def scan(self) -> AsyncIterator[list[Stored]]:
        """Everything stored, newest first, in batches, bodies left out."""

    async def ping(self) -> None:
        """Returns when the store answers."""

    async def close(self) -> None: ...
