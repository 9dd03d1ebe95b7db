"""What the classifier learns from examples: a linear model that generalises, and prototypes that decide
nearby.

The linear model is a ridge regression of each category's indicator, 1 or 0, on the vectors of all examples
(Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 4.2 and 3.4.1):

    W = (M + λ·tr(M)/d · I)⁻¹ S        M = Σ w·x·xᵀ        S_c = Σ_{examples of c} w·x

M and S are sums over examples. So a few examples of a new category can be added to thousands learned earlier,
exactly as if all had been learned together. A category that is left out stays in M, where it still tells the
others what they are not.

A linear model cannot follow the local shape of a category. Prototypes, the centres of clusters of examples,
can: each votes for its category, with a weight that fades with distance and ends at a radius (kernel
smoothing; ibid. 6.6). The linear model is the prior of that vote:

    p(c | x) ∝ κ·softmax_c(W·x / T) + Σ_{prototypes i of c} v_i·k(x·x_i)     k(s) = max(0, (s - r) / (1 - r))⁴

So prototypes decide where there are examples nearby, and the linear model decides elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.prototypes import Prototypes, nearness

Floats = NDArray[np.float32] | NDArray[np.float64]

RIDGE = 0.05
"""λ. With whole sources held out, 0.03 to 0.1 do equally well; more costs accuracy on known sources."""

PRIOR = 0.04
"""κ: a one-example prototype exactly at the query outweighs the linear model by twenty-five to one."""


@dataclass(frozen=True)
class Lessons:
    fingerprint: str
    """Of the embedding model that made the examples' vectors."""
    temperature: float
    """T, fitted on held-out examples."""
    moment: NDArray[np.float64]
    """M, shape (d + 1, d + 1); the last coordinate of every x is 1."""
    sums: Mapping[str, NDArray[np.float64]]
    """S by category, each of shape (d + 1,)."""
    prototypes: Mapping[str, Prototypes]
    """By category."""

    @classmethod
    def none(cls, fingerprint: str, dimensions: int, temperature: float) -> Lessons:
        size = dimensions + 1
        return cls(fingerprint, temperature, np.zeros((size, size)), {}, {})

    def taught(self, category: str, vectors: Floats, weight: float, prototypes: Prototypes) -> Lessons:
        """These lessons plus more examples of a category: `vectors` of shape (examples, d), each with
        `weight` in the sums, and the `prototypes` of the same examples."""
        rows = np.column_stack([vectors, np.ones(len(vectors))]).astype(np.float64)
        total = self.sums.get(category, np.zeros(rows.shape[1])) + weight * rows.sum(axis=0)
        moment = self.moment + weight * rows.T @ rows
        known = self.prototypes.get(category)
        joined = known.joined(prototypes) if known else prototypes
        return Lessons(
            self.fingerprint,
            self.temperature,
            moment,
            {**self.sums, category: total},
            {**self.prototypes, category: joined},
        )

    def solved(self, categories: Sequence[str]) -> Solved:
        size = len(self.moment)
        ridge = np.eye(size) * (RIDGE * np.trace(self.moment[:-1, :-1]) / (size - 1))
        ridge[-1, -1] = 1e-9  # the intercept is not penalised
        targets = np.stack([self.sums[name] for name in categories], axis=1)
        line = np.linalg.solve(self.moment + ridge, targets).astype(np.float32)
        chosen = [self.prototypes[name] for name in categories]
        ends = np.cumsum([len(each) for each in chosen])
        return Solved(
            line,
            np.concatenate([each.centres for each in chosen]),
            np.concatenate([each.voices for each in chosen]),
            np.array([0, *ends[:-1]]),
            self.temperature,
        )

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "temperature": self.temperature,
            "moment": self.moment[np.triu_indices(len(self.moment))].astype(np.float32),
            "names": list(self.sums),
            "sums": np.stack(list(self.sums.values())).astype(np.float32),
            **{f"prototypes_{name}": each.packed() for name, each in self.prototypes.items()},
            **{f"voices_{name}": each.voices for name, each in self.prototypes.items()},
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
            names = list(map(str, file["names"]))
            prototypes = {
                name: Prototypes.unpacked(file[f"prototypes_{name}"], file[f"voices_{name}"])
                for name in names
            }
            by_name = dict(zip(names, sums, strict=True))
            return cls(str(file["fingerprint"]), float(file["temperature"]), moment, by_name, prototypes)


@dataclass(frozen=True)
class Solved:
    """The fitted model for a fixed list of categories, which are its columns."""

    line: NDArray[np.float32]
    """W, shape (d + 1, categories): (x, 1)·W is about 1 for its own category and 0 for others."""
    centres: NDArray[np.float32]
    """Shape (prototypes, d), grouped by category."""
    voices: NDArray[np.float32]
    """Shape (prototypes,)."""
    starts: NDArray[np.intp]
    """The index of each category's first prototype."""
    temperature: float

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores of the linear model alone; shape (vectors, categories)."""
        return np.asarray(vectors @ self.line[:-1] + self.line[-1])

    def confidences(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """p; shape (vectors, categories)."""
        scores = self.scores(vectors) / self.temperature
        prior = np.exp(scores - scores.max(axis=1, keepdims=True))
        # Not `@`: a multi-threaded BLAS would wake its threads for this, which costs milliseconds on a busy
        # machine, and a single-threaded one is no faster.
        near = nearness(np.vecdot(vectors[:, None], self.centres)) * self.voices
        votes = np.add.reduceat(near, self.starts, axis=1)
        odds = PRIOR * prior / prior.sum(axis=1, keepdims=True) + votes
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))
