"""Measures what a model of the pair brings behind threshold and guards.

    python tools/study_verifier.py [--data FOLDER]

Logistic regression on the cosine and on what the guards read from both texts, taught on one half of the
questions and counted on the other; texts that a pair or a group connects are in one half. Standard output is
the tables of docs/verifier.md. Nothing is random.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from study_guards import (
    ROOT,
    Policies,
    Stream,
    figures,
    labels,
    objecting,
    read,
    serves,
    table,
    total,
    uniform,
    vectors,
)

from policies.book import Book
from policies.guards.facts import Facts, facts
from policies.guards.objections import GUARDS
from policies.guards.wording import unmatched

NEAR = 0.75
"""Cosine from which on a pair is worth learning from."""
RIDGE = 10.0
STEP = 0.02
"""What one unit of log-odds counts in cosine; 0.01 and 0.04 are no better."""
SHIFTS = np.arange(-0.06, 0.10, 0.005)
"""Of all packaged thresholds at once."""
WRONG = 0.015
PERMISSIVE = (
    "nl2bash", "spider", "text2sql", "svamp", "banking77", "sgd", "snips", "disflqa", "boolq_contrast",
    "covid_sim",
)  # fmt: skip
COARSE = ("hint3", "personality")

Floats = NDArray[np.float64]
Row = dict[str, Any]
Texts = tuple[str, str]


# --- evidence -------------------------------------------------------------------------------------


def evidence(a: Facts, b: Facts, cosine: float) -> dict[str, tuple[float, int]]:
    """Value, and the sign that its weight may have in a model with reasonable signs (0: either)."""
    mine, theirs = (sum(1 for _ in unmatched(x, y)) for x, y in ((a, b), (b, a)))
    short, long = sorted((len(a.flat.split()), len(b.flat.split())))
    return _details(a, b) | {
        "cosine": (cosine, 1),
        "unmatched, fewer": (min(mine, theirs), -1),
        "unmatched, more": (max(mine, theirs), -1),
        "unmatched share": ((mine + theirs) / max(1, len(a.words) + len(b.words)), -1),
        "only added": (not mine or not theirs, 0),
        "same content": (set(a.words) == set(b.words), 1),
        "letters": (_overlap(_trigrams(a.flat), _trigrams(b.flat)), 1),
        "words": (_overlap(set(a.flat.split()), set(b.flat.split())), 1),
        "stems": (_overlap(a.stems, b.stems), 1),
        "length, shorter": (log(short + 1), 0),
        "length, longer": (log(long + 1), 0),
        "negated": (bool(a.negators) != bool(b.negators), -1),
        "conditions": (len(a.qualifiers ^ b.qualifiers), -1),
        "same kind": (bool(a.kind) and a.kind == b.kind, 1),
        "other kind": (a.kind != b.kind, -1),
    }


def _details(a: Facts, b: Facts) -> dict[str, tuple[float, int]]:
    found: dict[str, tuple[float, int]] = {
        name: (GUARDS[name](a, b) is not None, -1) for name in ("negation", "direction", "quantities")
    }
    for name in ("numbers", "dates", "identifiers", "names"):
        mine, theirs = set(getattr(a, name)), set(getattr(b, name))
        found[f"{name} replaced"] = (bool(mine - theirs and theirs - mine), -1)
        found[f"{name} apart"] = (len(mine ^ theirs), -1)
        found[f"{name} in common"] = (len(mine & theirs), 0)
    return found


def _overlap(mine: Set[str], theirs: Set[str]) -> float:
    return len(mine & theirs) / len(mine | theirs) if mine or theirs else 1.0


def _trigrams(flat: str) -> set[str]:
    return {flat[at : at + 3] for at in range(len(flat) - 2)}


# --- model ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Model:
    weights: Floats
    mean: Floats
    spread: Floats

    def odds(self, rows: Floats) -> Floats:
        return (rows - self.mean) / self.spread @ self.weights[:-1] + self.weights[-1]


def taught(rows: Floats, same: NDArray[np.bool_], weight: Floats, signs: Floats) -> Model:
    """Ridge logistic regression; a weight that would have the wrong sign is nought (an active set)."""
    mean, spread = rows.mean(0), np.maximum(rows.std(0), 1e-9)
    scaled = np.hstack([(rows - mean) / spread, np.ones((len(rows), 1))])
    free = np.ones(scaled.shape[1], bool)
    while True:
        solved = np.zeros(scaled.shape[1])
        solved[free] = _newton(scaled[:, free], same, weight)
        wrong = free.copy()
        wrong[:-1] &= solved[:-1] * signs < 0
        wrong[-1] = False
        if not wrong.any():
            return Model(solved, mean, spread)
        free &= ~wrong


def _newton(rows: Floats, same: NDArray[np.bool_], weight: Floats) -> Floats:
    ridge = np.diag([RIDGE] * (rows.shape[1] - 1) + [0.0])
    solved = np.zeros(rows.shape[1])
    for _ in range(20):
        chance = 1.0 / (1.0 + np.exp(-np.clip(rows @ solved, -30, 30)))
        slope = rows.T @ (weight * (chance - same)) + ridge @ solved
        solved -= np.linalg.solve((rows * (weight * chance * (1 - chance))[:, None]).T @ rows + ridge, slope)
    return solved


# --- data -----------------------------------------------------------------------------------------


def halves(pairs: Iterable[Row], stream: Iterable[Row]) -> dict[str, int]:
    """0 or 1 for each text."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while above.setdefault(name, name) != name:
            above[name] = name = above[above[name]]
        return name

    for a, b in (*((r["a"], r["b"]) for r in pairs), *((r["query"], f"group {r['group']}") for r in stream)):
        above[top(a)] = top(b)
    return {name: crc32(top(name).encode()) % 2 for name in list(above)}


@dataclass(slots=True)
class Pairs:
    texts: list[Texts]
    evidence: Floats
    same: NDArray[np.bool_]
    source: list[str]
    half: NDArray[np.int64]
    """Of the first text."""
    whole: NDArray[np.bool_]
    """Both texts are in that half."""

    @classmethod
    def of(
        cls, rows: Sequence[tuple[str, str, bool, str]], known: Mapping[str, Any], half: Mapping[str, int]
    ) -> Pairs:
        table = [
            [value for value, _ in evidence(facts(a), facts(b), float(known[a] @ known[b])).values()]
            for a, b, *_ in rows
        ]
        return cls(
            texts=[(a, b) for a, b, *_ in rows],
            evidence=np.array(table, np.float64),
            same=np.array([same for _, _, same, _ in rows]),
            source=[source.split(":")[0] for *_, source in rows],
            half=np.array([half[a] for a, *_ in rows]),
            whole=np.array([half[a] == half[b] for a, b, *_ in rows]),
        )

    def weight(self) -> Floats:
        """By the root of a source's pairs, so that large sources count more, but not all."""
        kinds = list(zip(self.source, self.same.tolist(), strict=True))
        counts = Counter(kinds)
        raw = np.array([counts[kind] ** -0.5 for kind in kinds])
        return raw / raw.mean()

    def chosen(self, mask: NDArray[np.bool_]) -> Pairs:
        at = np.flatnonzero(mask)
        return Pairs(
            [self.texts[i] for i in at], self.evidence[at], self.same[at], [self.source[i] for i in at],
            self.half[at], self.whole[at],
        )  # fmt: skip


def joined(a: Pairs, b: Pairs) -> Pairs:
    return Pairs(
        a.texts + b.texts, np.vstack([a.evidence, b.evidence]), np.concatenate([a.same, b.same]),
        a.source + b.source, np.concatenate([a.half, b.half]), np.concatenate([a.whole, b.whole]),
    )  # fmt: skip


def odds(lesson: Pairs, asked: Pairs, signs: Floats) -> Floats:
    """Of each asked pair, by the model that was taught with the other half."""
    result = np.zeros(len(asked.texts))
    for half in (0, 1):
        chosen = lesson.chosen((lesson.half != half) & lesson.whole)
        model = taught(chosen.evidence, chosen.same, chosen.weight(), signs)
        result[asked.half == half] = model.odds(asked.evidence[asked.half == half])
    return result


# --- measuring ------------------------------------------------------------------------------------


def auc(scores: Floats, same: NDArray[np.bool_]) -> float:
    ranks = scores.argsort().argsort() + 1.0
    positive = int(same.sum())
    return float((ranks[same].sum() - positive * (positive + 1) / 2) / (positive * (len(same) - positive)))


def moved(policies: Policies, shift: float) -> Policies:
    return {name: replace(each, threshold=each.threshold + shift) for name, each in policies.items()}


def best(stream: Stream, policies: Policies, category_of: Mapping[str, str]) -> list[str]:
    """The most right hits that some shift of all thresholds gives at `WRONG`."""
    found = ["–", "–"]
    for shift in SHIFTS[::-1]:
        row = total(stream.replay(moved(policies, shift), category_of))
        if row["wrong"] + row["stale"] > WRONG * (row["right"] + row["wrong"] + row["stale"]):
            break
        found = figures(row)[:2]
    return found


def rescored(stream: Stream, score: Mapping[Texts, float]) -> Stream:
    other = object.__new__(Stream)
    other.rows = stream.rows
    other.near = {
        text: sorted(
            ((score[text, near], near) for cosine, near in found if (text, near) in score), reverse=True
        )
        for text, found in stream.near.items()
    }
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("NEARHIT_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with the labelled questions")
    options = parser.parse_args()
    Study(options.data).print()


class Study:
    def __init__(self, folder: Path) -> None:
        rows = read(folder, "pairs_dev") + read(folder, "hard_negatives_dev")
        requests = read(folder, "stream_dev")
        known = vectors([r[s] for r in rows for s in "ab"] + [r["query"] for r in requests])
        half = halves(rows, requests)
        self.policies = Book.from_folder().categories
        self.stream = Stream(requests, known)
        self.category_of = labels(requests, 0.0)
        group = {r["query"]: r["group"] for r in requests}
        close = [r for r in rows if r["source"] not in COARSE and known[r["a"]] @ known[r["b"]] >= NEAR]
        self.pairs = Pairs.of(
            [(r["a"], r["b"], r.get("equivalent", False), r["source"]) for r in close], known, half
        )
        seen = [
            (a, b, group[a] == group[b], "stream") for a, found in self.stream.near.items() for _, b in found
        ]
        self.seen = Pairs.of(seen, known, half)
        self.hard = Pairs.of(
            [(r["a"], r["b"], False, r["category"]) for r in rows if "kind" in r], known, half
        )
        self.hard_category = [r["category"] for r in rows if "kind" in r]
        names = evidence(facts("a"), facts("b"), 0.0)
        self.signs = np.array([sign for _, sign in names.values()], np.float64)
        self.cosine = list(names).index("cosine")

    def print(self) -> None:
        table("A verifier that never errs: right / oracle", self.by_floor())
        table(f"Score instead of cosine: right / oracle at {WRONG:.1%} wrong", self.by_score())
        table("Objection of the verifier behind the packaged thresholds and guards", self.by_objection())

    def by_floor(self) -> Iterator[list[str]]:
        yield ["candidates from a cosine of", "behind the packaged guards", "without guards"]
        pairs = zip(self.seen.texts, self.seen.evidence[:, self.cosine].tolist(), self.seen.same, strict=True)
        stream = rescored(self.stream, {texts: cosine for texts, cosine, same in pairs if same})
        for floor in (0.70, 0.75, 0.80, 0.85):
            guarded = {name: replace(each, threshold=floor) for name, each in self.policies.items()}
            bare = uniform(self.policies, floor, ())
            yield [
                f"{floor:.2f}",
                *(figures(total(stream.replay(p, self.category_of)))[0] for p in (guarded, bare)),
            ]

    def lessons(self) -> Iterator[tuple[str, Pairs]]:
        permitted = np.array([source in PERMISSIVE for source in self.pairs.source])
        yield "permissive pairs", self.pairs.chosen(permitted)
        yield "all pairs", self.pairs
        yield "all pairs and the stream's other half", joined(self.pairs, self.seen)

    def by_score(self) -> Iterator[list[str]]:
        cosine = self.seen.evidence[:, self.cosine]
        free = np.array([
            not any(objecting(a, b) & set(self.policies[self.category_of[t]].guards) for t in (a, b))
            for a, b in self.seen.texts
        ])  # fmt: skip
        yield ["taught with", "signs", "AUC among unobjected", "right / oracle", "wrong of hits"]
        yield ["cosine alone", "", f"{auc(cosine[free], self.seen.same[free]):.3f}", *self._at(cosine)]
        for name, lesson in self.lessons():
            for title, signs in (("any", 0 * self.signs), ("reasonable", self.signs)):
                found = odds(lesson, self.seen, signs)
                score = cosine + STEP * (found - float(np.median(found)))
                yield [name, title, f"{auc(found[free], self.seen.same[free]):.3f}", *self._at(score)]

    def _at(self, score: Floats) -> list[str]:
        return best(
            rescored(self.stream, dict(zip(self.seen.texts, score.tolist(), strict=True))),
            self.policies,
            self.category_of,
        )

    def by_objection(self) -> Iterator[list[str]]:
        yield [
            "verifier",
            "right / oracle",
            "wrong of hits",
            "near-identical questions served",
            "same wording refused",
        ]
        nothing = np.zeros(len(self.seen.texts))
        hard = np.zeros(len(self.hard.texts))
        for shift in (0.0, 0.01, 0.02):
            yield [f"none, thresholds {shift:+.2f}", *self._objecting(nothing, hard, -1.0, shift), "0.0%"]
        lesson = next(self.lessons())[1]
        for title, signs in (("any signs", 0 * self.signs), ("reasonable signs", self.signs)):
            found, of_hard = odds(lesson, self.seen, signs), odds(lesson, self.hard, signs)
            plain = self.seen.evidence[:, self.cosine] >= 0.97
            for share in (0.06, 0.15):
                least = float(
                    np.quantile(found[self.seen.same & (self.seen.evidence[:, self.cosine] >= 0.85)], share)
                )
                refused = f"{(found[plain & self.seen.same] < least).mean():.1%}"
                yield [
                    f"{title}, refuses {share:.0%} of the same",
                    *self._objecting(found, of_hard, least, 0.0),
                    refused,
                ]

    def _objecting(self, found: Floats, of_hard: Floats, least: float, shift: float) -> list[str]:
        cosine = self.seen.evidence[:, self.cosine]
        kept = {
            t: c
            for t, c, o in zip(self.seen.texts, cosine.tolist(), found.tolist(), strict=True)
            if o >= least
        }
        policies = moved(self.policies, shift)
        row = total(rescored(self.stream, kept).replay(policies, self.category_of))
        cosines = self.hard.evidence[:, self.cosine].tolist()
        served = [
            serves(policies[category], near, objecting(*texts)) and o >= least
            for category, near, texts, o in zip(
                self.hard_category, cosines, self.hard.texts, of_hard.tolist(), strict=True
            )
        ]
        return [*figures(row)[:2], f"{sum(served) / len(served):.1%}"]


if __name__ == "__main__":
    main()
