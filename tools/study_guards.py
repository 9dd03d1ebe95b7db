"""Measures what the guards do, on labelled pairs and on a replayed stream.

    python tools/study_guards.py [--data FOLDER] [--noise SHARE]

Vectors come from our own embedder and are kept in data/study-vectors.npz. Standard output is the tables of
docs/guards.md. The stream is replayed without the proxy: one partition for all categories, the nearest stored
questions tried best first, entries stored on misses only, exact repeats served without guards.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.opening import open_embedder
from policies.book import Book
from policies.guards.facts import facts
from policies.guards.objections import GUARDS
from policies.model import Category

ROOT = Path(__file__).parent.parent
CACHE = ROOT / "data" / "study-vectors.npz"
CONTRACT = ("numbers", "negation", "identifiers", "entities")
UNIFORM = (0.70, 0.75, 0.80, 0.85, 0.88, 0.91, 0.94, 0.97)
CANDIDATES = 8
FLOOR = 0.65
"""Questions further apart than this are never candidates here."""
NEAR = 0.80
"""Pairs are judged where a usual threshold would have served them."""

Row = Counter[str]
Policies = Mapping[str, Category]


# --- reading --------------------------------------------------------------------------------------


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def vectors(texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    known = _cached()
    if missing := sorted(set(texts) - known.keys()):
        known |= dict(zip(missing, asyncio.run(_embed(missing)), strict=True))
        CACHE.parent.mkdir(exist_ok=True)
        np.savez(CACHE, texts=np.array(json.dumps(list(known))), vectors=np.stack(list(known.values())))
    return known


def _cached() -> dict[str, NDArray[np.float32]]:
    if not CACHE.exists():
        return {}
    with np.load(CACHE) as found:
        return dict(zip(json.loads(found["texts"].item()), found["vectors"], strict=True))


async def _embed(texts: Sequence[str]) -> NDArray[np.float32]:
    embedder = await asyncio.to_thread(open_embedder)
    try:
        return await embedder.embed_many(texts)
    finally:
        await embedder.close()


# --- pairs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    category: str
    cosine: float
    objects: frozenset[str]
    """Guards that object."""
    same: bool
    kind: str


def judged(rows: Iterable[dict[str, Any]], known: Mapping[str, NDArray[np.float32]]) -> list[Pair]:
    return [
        Pair(
            category=row["category"],
            cosine=float(known[row["a"]] @ known[row["b"]]),
            objects=objecting(row["a"], row["b"]),
            same=row.get("equivalent", False),
            kind=row.get("kind", ""),
        )
        for row in rows
    ]


@cache
def objecting(asked: str, stored: str) -> frozenset[str]:
    return frozenset(name for name, guard in GUARDS.items() if guard(facts(asked), facts(stored)))


def by_guard(pairs: Sequence[Pair]) -> Iterator[list[str]]:
    near = [pair for pair in pairs if pair.cosine >= NEAR]
    yield ["guard", "objects to the same question", "objects to another question"]
    for name in GUARDS:
        yield [name, *(share(name in p.objects for p in near if p.same is same) for same in (True, False))]


def by_kind(pairs: Sequence[Pair], policies: Policies) -> Iterator[list[str]]:
    yield ["kind", "pairs", f"served at {NEAR:.2f}", "with the contract's guards", "packaged categories"]
    kinds = Counter(pair.kind for pair in pairs)
    for kind in [*kinds, ""]:
        of_kind = [pair for pair in pairs if not kind or pair.kind == kind]
        yield [
            kind or "all",
            str(len(of_kind)),
            share(p.cosine >= NEAR for p in of_kind),
            share(p.cosine >= NEAR and p.objects.isdisjoint(CONTRACT) for p in of_kind),
            share(serves(policies[p.category], p.cosine, p.objects) for p in of_kind),
        ]


def serves(category: Category, cosine: float, objects: frozenset[str]) -> bool:
    return cosine >= category.threshold and objects.isdisjoint(category.guards)


# --- the stream -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Stored:
    at: float
    group: str
    policy: Category


class Stream:
    """The requests, and for each text its neighbours among all texts, nearest first."""

    def __init__(self, rows: list[dict[str, Any]], known: Mapping[str, NDArray[np.float32]]) -> None:
        self.rows = rows
        texts = list(dict.fromkeys(row["query"] for row in rows))
        matrix = np.stack([known[text] for text in texts])
        self.near: dict[str, list[tuple[float, str]]] = {}
        for start in range(0, len(texts), 512):
            for text, cosines in zip(texts[start:], matrix[start : start + 512] @ matrix.T, strict=False):
                close = np.flatnonzero(cosines >= FLOOR)
                ranked = close[np.argsort(-cosines[close])]
                self.near[text] = [(float(cosines[i]), texts[i]) for i in ranked if texts[i] != text]

    def replay(self, policies: Policies, category_of: Mapping[str, str]) -> dict[str, Row]:
        """Counts by the label's category. Decisions use `category_of` (by text), as a classifier would."""
        stored: dict[str, Stored] = {}
        answered: dict[str, float] = {}
        counts: defaultdict[str, Row] = defaultdict(Counter)
        for row in self.rows:
            now, group, fresh = row["t"], row["group"], row["fresh_s"] or float("inf")
            policy = policies[category_of[row["query"]]]
            hit = self._find(row["query"], policy, stored, now)
            if group in answered and now - answered[group] <= fresh:
                counts[row["category"]]["oracle"] += 1
            else:
                answered[group] = now
            counts[row["category"]].update(("requests", outcome(hit, group, now, fresh)))
            if hit is None:
                stored[row["query"]] = Stored(now, group, policy)
        return counts

    def _find(self, text: str, asked: Category, stored: Mapping[str, Stored], now: float) -> Stored | None:
        if (entry := stored.get(text)) and alive(entry, asked, now):
            return entry
        tried = 0
        for cosine, other in self.near[text]:
            if cosine < asked.threshold or tried == CANDIDATES:
                return None
            if (entry := stored.get(other)) is None or not alive(entry, asked, now):
                continue
            tried += 1
            objects = objecting(text, other) if asked.guards or entry.policy.guards else frozenset()
            if serves(asked, cosine, objects) and serves(entry.policy, cosine, objects):
                return entry
        return None


def alive(entry: Stored, asked: Category, now: float) -> bool:
    return now - entry.at <= min(entry.policy.ttl, asked.ttl)


def outcome(hit: Stored | None, group: str, now: float, fresh: float) -> str:
    if hit is None:
        return "miss"
    if hit.group != group:
        return "wrong"
    return "right" if now - hit.at <= fresh else "stale"


def uniform(policies: Policies, threshold: float, guards: tuple[str, ...]) -> Policies:
    """The packaged lifetimes with one threshold and one list of guards."""
    return {name: replace(each, threshold=threshold, guards=guards) for name, each in policies.items()}


def labels(rows: Iterable[dict[str, Any]], noise: float) -> dict[str, str]:
    """Category by text; a share of them is replaced by that of a random request, the same at every run."""
    category = {row["query"]: row["category"] for row in rows}
    frequent = [row["category"] for row in rows]
    chance = random.Random(1)
    return {
        text: chance.choice(frequent) if chance.random() < noise else own for text, own in category.items()
    }


def by_policy(stream: Stream, policies: Policies, noises: Sequence[float]) -> Iterator[list[str]]:
    yield ["policy", "right / oracle", "wrong of hits", "wrong or stale of hits"]
    exact = labels(stream.rows, 0.0)
    for threshold in UNIFORM:
        for guards in ((), CONTRACT):
            counts = stream.replay(uniform(policies, threshold, guards), exact)
            yield [f"{threshold:.2f}{' and guards' if guards else ''}", *figures(total(counts))]
    for noise in noises:
        counts = stream.replay(policies, labels(stream.rows, noise))
        yield [f"packaged categories, {noise:.0%} of texts misclassified", *figures(total(counts))]


def by_category(stream: Stream, policies: Policies, noise: float) -> Iterator[list[str]]:
    plain = stream.replay(uniform(policies, NEAR, ()), labels(stream.rows, 0.0))
    counts = stream.replay(policies, labels(stream.rows, noise))
    heads = ("right / oracle", "wrong", "wrong or stale")
    yield [
        "category",
        "oracle",
        *(f"{head} at {NEAR:.2f}" for head in heads),
        *(f"{head} packaged" for head in heads),
    ]
    for name, row in sorted(counts.items()):
        yield [name, str(row["oracle"]), *figures(plain[name]), *figures(row)]


def figures(row: Row) -> list[str]:
    hits = row["right"] + row["wrong"] + row["stale"]
    return [
        f"{row['right'] / max(1, row['oracle']):.3f}",
        f"{row['wrong'] / max(1, hits):.1%}",
        f"{(row['wrong'] + row['stale']) / max(1, hits):.1%}",
    ]


def total(counts: Mapping[str, Row]) -> Row:
    return sum(counts.values(), Counter())


# --- printing -------------------------------------------------------------------------------------


def share(hits: Iterable[bool]) -> str:
    seen = list(hits)
    return f"{sum(seen) / max(1, len(seen)):.1%}"


def table(title: str, rows: Iterator[list[str]]) -> None:
    head, *body = rows
    print(f"\n### {title}\n")
    for line in (head, ["---", *["---:"] * (len(head) - 1)], *body):
        print(f"| {' | '.join(line)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("NEARHIT_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with the labelled questions")
    parser.add_argument("--noise", type=float, default=0.2, help="share of texts that are misclassified")
    options = parser.parse_args()
    pairs, hard, stream = (
        read(options.data, f"{name}_dev") for name in ("pairs", "hard_negatives", "stream")
    )
    known = vectors([row[side] for row in pairs + hard for side in "ab"] + [row["query"] for row in stream])
    policies = Book.from_folder().categories
    table(f"Labelled pairs with cosine ≥ {NEAR:.2f}", by_guard(judged(pairs, known)))
    table("Near-identical questions with other answers: share served", by_kind(judged(hard, known), policies))
    replayed = Stream(stream, known)
    table("Stream", by_policy(replayed, policies, (0.0, options.noise)))
    table(
        f"Stream by category, {options.noise:.0%} misclassified",
        by_category(replayed, policies, options.noise),
    )


if __name__ == "__main__":
    main()
