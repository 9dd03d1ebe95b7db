"""Centres of clusters of examples, which vote for the category of what is near them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

RADIUS = 0.3
"""Cosine below which a prototype says nothing."""

_ROUNDS = 6
_LEVELS = 31
"""Saved coordinates are whole numbers up to this: cosines are off by about 0.002, and files pack well."""


@dataclass(frozen=True)
class Prototypes:
    centres: Matrix
    """Shape (prototypes, d), about unit length."""
    voices: NDArray[np.float32]
    """Shape (prototypes,)."""

    @classmethod
    def of(cls, vectors: Matrix, count: int, voice: float = 1.0) -> Prototypes:
        """At most `count` of them, by spherical k-means (Dhillon and Modha 2001, Machine Learning 42).

        Each of n examples has a voice of `voice`·√n: more than one alone, less than n that stand apart.
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
        """The centres, each in steps of its own."""
        largest = np.abs(self.centres).max(axis=1, keepdims=True)
        return np.asarray(np.round(self.centres / largest * _LEVELS).astype(np.int8))

    @classmethod
    def unpacked(cls, centres: NDArray[np.int8], voices: NDArray[np.float32]) -> Prototypes:
        return cls(_unit(centres.astype(np.float32)), voices)


def nearness(cosines: Matrix) -> Matrix:
    """1 at the place of a prototype, 0 from `RADIUS` on."""
    inside = np.maximum(cosines - RADIUS, 0.0) / (1.0 - RADIUS)
    squared = inside * inside
    return np.asarray(squared * squared)


def _means(vectors: Matrix, nearest: NDArray[np.intp]) -> Matrix:
    """Of each cluster that has a member."""
    order = np.argsort(nearest, kind="stable")
    _, starts = np.unique(nearest[order], return_index=True)
    return _unit(np.add.reduceat(vectors[order], starts, axis=0))


def _unit(vectors: Matrix) -> Matrix:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
