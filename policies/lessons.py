"""What examples teach: a linear least-squares classifier, kept as the sums it is solved from.

Every category has a regression of "is it this one, 1 or 0" on the vectors of all examples (ridge regression
on indicators; Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 4.2 and 3.4.1):

    W = (M + λ·tr(M)/d · I)⁻¹ S        M = Σ w·x·xᵀ        S_c = Σ_{examples of c} w·x

M and S are sums over examples, so a few examples of a new category are added to thousands that were learned
elsewhere exactly as if they had been there all along, and a category that is left out keeps its part in M,
where it still says what the others are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]

RIDGE = 0.05
"""λ: leaving sources out, 0.03 to 0.1 are alike; more costs accuracy on known sources."""


@dataclass(frozen=True)
class Lessons:
    fingerprint: str
    """The vector space of the examples."""
    temperature: float
    """Divides the scores before the softmax that makes confidences of them; fitted on held-out examples."""
    moment: NDArray[np.float64]
    """M, shape (d + 1, d + 1); the last coordinate of every x is 1."""
    sums: Mapping[str, NDArray[np.float64]]
    """S by category, each of shape (d + 1,)."""

    @classmethod
    def none(cls, fingerprint: str, dimensions: int, temperature: float) -> Lessons:
        size = dimensions + 1
        return cls(fingerprint, temperature, np.zeros((size, size)), {})

    def taught(self, category: str, vectors: Floats, weights: Sequence[float] | Floats) -> Lessons:
        """With more examples: `vectors` of shape (examples, d), a weight for each."""
        rows = np.column_stack([vectors, np.ones(len(vectors))]).astype(np.float64)
        weighted = rows * np.asarray(weights, np.float64)[:, None]
        total = self.sums.get(category, np.zeros(rows.shape[1])) + weighted.sum(axis=0)
        moment = self.moment + weighted.T @ rows
        return Lessons(self.fingerprint, self.temperature, moment, {**self.sums, category: total})

    def solved(self, categories: Sequence[str]) -> NDArray[np.float32]:
        """Shape (categories, d + 1): dotted with (x, 1) about 1 for its own category and 0 for others."""
        size = len(self.moment)
        ridge = np.eye(size) * (RIDGE * np.trace(self.moment[:-1, :-1]) / (size - 1))
        ridge[-1, -1] = 1e-9  # the constant is not held back
        targets = np.stack([self.sums[name] for name in categories], axis=1)
        return np.ascontiguousarray(np.linalg.solve(self.moment + ridge, targets).T, dtype=np.float32)

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "temperature": self.temperature,
            "moment": self.moment[np.triu_indices(len(self.moment))].astype(np.float32),
            "names": list(self.sums),
            "sums": np.stack(list(self.sums.values())).astype(np.float32),
        }
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Lessons:
        with np.load(path) as file:
            sums = file["sums"].astype(np.float64)
            size = sums.shape[1]
            moment = np.zeros((size, size))
            moment[np.triu_indices(size)] = file["moment"]
            moment += np.triu(moment, 1).T
            by_name = dict(zip(map(str, file["names"]), sums, strict=True))
            return cls(str(file["fingerprint"]), float(file["temperature"]), moment, by_name)
