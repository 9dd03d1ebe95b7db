"""Labelled pairs, and what is asked how alike they are.

A scorer learns from some pairs (or does not care) and returns a function that scores others: higher is more
alike, `REFUSED` is never served. `SCORERS` has them all; one more line there is one more column, curve and
row everywhere in the report. A scorer that learns is only asked about pairs it has not learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.guards.objections import GUARDS, objection
from policies.model import Category
from proxy.cli.tuning import refused

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
FOLDS = 5
REFUSED = -1.0


@dataclass(frozen=True)
class Pairs:
    rows: Sequence[Mapping[str, Any]]
    """`a`, `b`, `category`, `source`, and `equivalent` or `kind`."""
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]]
    """Of `a` and `b`, shape (pairs, dimensions)."""
    refused: NDArray[np.bool_]
    """By the category's guards, as in a call."""

    @classmethod
    def of(
        cls,
        rows: Sequence[Mapping[str, Any]],
        vector: Callable[[str], NDArray[np.float32] | None],
        book: Mapping[str, Category],
    ) -> Pairs:
        """Without those that have no vector."""
        found = [(row, vector(row["a"]), vector(row["b"])) for row in rows]
        kept = [(row, a, b) for row, a, b in found if a is not None and b is not None]
        sides = (np.stack([a for _, a, _ in kept]), np.stack([b for _, _, b in kept]))
        objections = [_refused(row, float(a @ b), book[row["category"]]) for row, a, b in kept]
        return cls([row for row, _, _ in kept], sides, np.array(objections))

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: Places) -> Pairs:
        a, b = self.vectors
        return Pairs([self.rows[i] for i in places], (a[places], b[places]), self.refused[places])

    def field(self, name: str) -> NDArray[np.str_]:
        return np.array([str(row[name]) for row in self.rows])

    @property
    def cosine(self) -> Floats:
        a, b = self.vectors
        return np.einsum("ij,ij->i", a, b).astype(np.float64)

    @property
    def equivalent(self) -> NDArray[np.bool_]:
        return np.array([bool(row.get("equivalent", False)) for row in self.rows])


def _refused(row: Mapping[str, Any], cosine: float, category: Category) -> bool:
    return refused(row["a"], row["b"], cosine, category, category)


Scores = Callable[[Pairs], Floats]
Scorer = Callable[[Pairs], Scores]


def cosine_alone(_: Pairs) -> Scores:
    return lambda pairs: pairs.cosine


def with_guards(_: Pairs) -> Scores:
    return lambda pairs: np.where(pairs.refused, REFUSED, pairs.cosine)


SCORERS: dict[str, Scorer] = {
    "cosine": cosine_alone,
    "with guards": with_guards,
}


# Splits


def group_folds(pairs: Pairs) -> Iterator[tuple[Places, Places]]:
    """(learn, test): no question, and no chain of pairs that share questions, is on both sides."""
    cluster = clusters(pairs)
    fold = np.random.default_rng(0).permutation(cluster.max() + 1)[cluster] % FOLDS
    for number in range(FOLDS):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def source_folds(pairs: Pairs) -> Iterator[tuple[Places, Places]]:
    """(learn, test): each source left out in turn."""
    sources = pairs.field("source")
    for source in sorted(set(sources)):
        yield np.flatnonzero(sources != source), np.flatnonzero(sources == source)


def clusters(pairs: Pairs) -> Places:
    """A number for each pair: the same for those that hang together by their texts."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while (above := parent.setdefault(text, text)) != text:
            parent[text] = parent[above]
            text = above
        return text

    for row in pairs.rows:
        parent[root(row["a"])] = root(row["b"])
    return np.unique([root(row["a"]) for row in pairs.rows], return_inverse=True)[1]


def out_of_fold(
    scorer: Scorer, pairs: Pairs, folds: Callable[[Pairs], Iterator[tuple[Places, Places]]]
) -> Floats:
    scores = np.empty(len(pairs))
    for learn, test in folds(pairs):
        scores[test] = scorer(pairs.at(learn))(pairs.at(test))
    return scores


# Measures


def threshold_at(scores: Floats, equivalent: NDArray[np.bool_], rate: float) -> float:
    """What a score must exceed so that at most `rate` of the pairs that are not equivalent is served."""
    others = np.sort(scores[~equivalent])[::-1]
    allowed = int(rate * len(others))
    return float(others[allowed]) if allowed < len(others) else REFUSED


def recall_at(scores: Floats, equivalent: NDArray[np.bool_], rate: float) -> float:
    same = scores[equivalent]
    limit = max(REFUSED, threshold_at(scores, equivalent, rate))
    return float(np.mean(same > limit)) if len(same) else float("nan")


def risk_coverage(
    scores: Floats, equivalent: NDArray[np.bool_], points: int = 60
) -> list[tuple[float, float]]:
    """(share of pairs served, share of these that is wrong) as the threshold falls, from 1 % of the pairs on.

    After El-Yaniv and Wiener 2010, "On the foundations of noise-free selective classification".
    """
    order = np.argsort(-scores, kind="stable")
    wrong = np.cumsum(~equivalent[order])
    served = int(np.sum(scores > REFUSED))
    counts = np.unique(np.linspace(max(1, len(scores) // 100), served, points).astype(int)) if served else []
    return [(count / len(scores), float(wrong[count - 1] / count)) for count in counts]


def objecting(a: str, b: str) -> frozenset[str]:
    """Guards that object to the pair, each asked alone."""
    return frozenset(name for name in GUARDS if objection((name,), a, b))
