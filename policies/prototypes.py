"""Centres of clusters of examples; each votes for its category, for queries near it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

RADIUS = 0.3
"""Cosine below which a prototype has no vote."""

_ROUNDS = 6
_LEVELS = 31
"""Coordinates are saved as integers of at most this size: small files, and cosines off by about 0.002."""


@dataclass(frozen=True)
class Prototypes:
    centres: Matrix
    """Shape (prototypes, d), roughly unit length."""
    voices: NDArray[np.float32]
    """Weight of each one's vote; shape (prototypes,)."""

    @classmethod
    def of(cls, vectors: Matrix, count: int, voice: float = 1.0) -> Prototypes:
        """At most `count` centres of `vectors`, by spherical k-means (Dhillon and Modha 2001, Machine
        Learning 42).

        A cluster of n examples gets a voice of `voice`·√n: more than a single example, but less than n
        examples that are far apart.
        """
        centres = vectors[np.random.default_rng(0).permutation(len(vectors))[:count]]
        nearest = np.arange(len(centres))
        if len(vectors) > len(centres):
            for _ in range(_ROUNDS):
                nearest = (vectors @ centres.T).argmax(axis=1)
                centres = _means(vectors, nearest)
            nearest = (vectors @ centres.T).argmax(axis=1)
        members = np.bincount(nearest, minlength=len(centres))
        return cls(centres, (voice * np.sqrt(members)).astype(np.float32))

    def __len__(self) -> int:
        return len(self.voices)

    def joined(self, other: Prototypes) -> Prototypes:
        return Prototypes(
            np.concatenate([self.centres, other.centres]), np.concatenate([self.voices, other.voices])
        )

    def packed(self) -> NDArray[np.int8]:
        """The centres as integers, each row scaled by its own largest coordinate."""
        largest = np.abs(self.centres).max(axis=1, keepdims=True)
        return np.asarray(np.round(self.centres / largest * _LEVELS).astype(np.int8))

    @classmethod
    def unpacked(cls, centres: NDArray[np.int8], voices: NDArray[np.float32]) -> Prototypes:
        return cls(_unit(centres.astype(np.float32)), voices)


def nearness(cosines: Matrix) -> Matrix:
    """1 where the prototype itself is, falling to 0 at `RADIUS`."""
    inside = np.maximum(cosines - RADIUS, 0.0) / (1.0 - RADIUS)
    squared = inside * inside
    return np.asarray(squared * squared)


def _means(vectors: Matrix, nearest: NDArray[np.intp]) -> Matrix:
    """The unit mean of each cluster that is not empty."""
    order = np.argsort(nearest, kind="stable")
    _, starts = np.unique(nearest[order], return_index=True)
    return _unit(np.add.reduceat(vectors[order], starts, axis=0))


def _unit(vectors: Matrix) -> Matrix:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
