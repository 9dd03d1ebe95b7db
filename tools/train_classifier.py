"""Makes policies/classifier.npz out of labelled questions and measures it.

    python -m tools.train_classifier [--data FOLDER] [--measure-only]

Trained on tools/examples/*.txt (written for this project) and on those sources in categories_dev.jsonl.gz
whose licences allow it; measured on all sources. Prints the tables of docs/classifier.md.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.base import Embedder
from embeddings.opening import open_embedder
from policies.classifier import CONFIDENT, PACKAGED
from policies.lessons import Lessons

ROOT = Path(__file__).parent.parent
CACHE = ROOT / "data" / "classifier-vectors.npz"
OWN = "own"
OWN_WEIGHT = 3.0
"""Own examples were written to cover the category, the other sources each cover a corner of it."""

WEIGHTS = {"creative": 0.5}
"""No labelled question says how far it reaches, so it claims less than the others, which weigh 1."""

PERMISSIVE = {
    *(
        "aqua",
        "banking77",
        "boolq_contrast",
        "chatterbot",
        "clinc150",
        "conditionalqa",
        "covid_sim",
        "disflqa",
    ),
    *(
        "gorilla",
        "gsm8k",
        "hwu64",
        "nl2bash",
        "nlueval",
        "nqopen",
        "personality",
        "privacyqa",
        "sgd",
        "snips",
    ),
    *("spider", "svamp", "text2sql", "webquestions"),
}
"""Sources under permissive or CC-BY(-SA) licences. Others are measured on, never learned from."""

Places = NDArray[np.intp]
Fitted = Callable[[Places], NDArray[np.float32]]


@dataclass(frozen=True)
class Rows:
    texts: list[str]
    labels: NDArray[np.str_]
    sources: NDArray[np.str_]
    vectors: NDArray[np.float32]
    fingerprint: str

    def where(self, chosen: NDArray[np.bool_]) -> Places:
        return np.flatnonzero(chosen)


def read_rows(data: Path) -> Iterator[tuple[str, str, str]]:
    """(text, category, source) of every labelled question and of every own example."""
    with gzip.open(data / "categories_dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield row["query"], row["category"], row["source"].partition(":")[0]
    for path in sorted((ROOT / "tools" / "examples").glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield line.strip(), path.stem, OWN


async def gather(data: Path) -> Rows:
    texts, labels, sources = zip(*read_rows(data), strict=True)
    embedder = await asyncio.to_thread(open_embedder)
    try:
        vectors = await embedded(list(texts), embedder)
    finally:
        await embedder.close()
    return Rows(list(texts), np.array(labels), np.array(sources), vectors, embedder.fingerprint)


async def embedded(texts: list[str], embedder: Embedder) -> NDArray[np.float32]:
    """Vectors of the texts, remembered in `CACHE`: the first time takes minutes."""
    digest = hashlib.sha256("\0".join([embedder.fingerprint, *texts]).encode()).hexdigest()
    if CACHE.exists():
        with np.load(CACHE) as file:
            if str(file["digest"]) == digest:
                return np.asarray(file["vectors"])
    vectors = await embedder.embed_many(texts)
    CACHE.parent.mkdir(exist_ok=True)
    np.savez(CACHE, digest=digest, vectors=vectors)
    return vectors


def weights(rows: Rows, places: Places) -> NDArray[np.float64]:
    """Every category weighs `WEIGHTS`; its sources share that alike, own examples with `OWN_WEIGHT` parts.

    So no source's way of writing becomes a category's mark because it has many rows.
    """
    cells = [(str(rows.labels[i]), str(rows.sources[i])) for i in places]
    sizes = Counter(cells)
    parts: dict[str, float] = defaultdict(float)
    for label, source in sizes:
        parts[label] += OWN_WEIGHT if source == OWN else 1.0
    share = {cell: (OWN_WEIGHT if cell[1] == OWN else 1.0) / parts[cell[0]] / sizes[cell] for cell in sizes}
    return np.array([share[cell] * WEIGHTS.get(cell[0], 1.0) for cell in cells])


def learn(rows: Rows, places: Places, temperature: float = 1.0) -> Lessons:
    lessons = Lessons.none(rows.fingerprint, rows.vectors.shape[1], temperature)
    share = weights(rows, places)
    for label in sorted(set(rows.labels[places])):
        of_label = rows.labels[places] == label
        lessons = lessons.taught(str(label), rows.vectors[places[of_label]], share[of_label])
    return lessons


def scores(rows: Rows, train: Places, test: Places, names: list[str]) -> NDArray[np.float32]:
    solved = learn(rows, train).solved(names)
    return rows.vectors[test] @ solved[:, :-1].T + solved[:, -1]


def folds(rows: Rows, count: int = 5) -> Iterator[tuple[Places, Places]]:
    """Random folds of the labelled data. Own examples are always learned from and never measured on."""
    own = rows.sources == OWN
    fold = np.random.default_rng(0).integers(0, count, len(own))
    for number in range(count):
        yield rows.where(own | (fold != number)), rows.where(~own & (fold == number))


def leave_one_source_out(rows: Rows) -> Iterator[tuple[Places, Places]]:
    for source in sorted(set(rows.sources) - {OWN}):
        yield rows.where(rows.sources != source), rows.where(rows.sources == source)


def permissive_to_others(rows: Rows) -> Iterator[tuple[Places, Places]]:
    """What is shipped, on sources it has never seen."""
    learned = np.isin(rows.sources, [*PERMISSIVE, OWN])
    yield rows.where(learned), rows.where(~learned)


def held_out(rows: Rows, splits: Iterator[tuple[Places, Places]], names: list[str]) -> tuple[Places, Any]:
    parts = [(test, scores(rows, train, test, names)) for train, test in splits]
    return np.concatenate([test for test, _ in parts]), np.concatenate([part for _, part in parts])


def fit_temperature(found: NDArray[np.float32], truth: Places) -> float:
    """The temperature of least negative log likelihood (Guo et al. 2017, arXiv 1706.04599)."""
    candidates = np.geomspace(0.02, 1.0, 60)
    return float(min(candidates, key=lambda t: -log_softmax(found / t)[np.arange(len(truth)), truth].mean()))


def log_softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    x = x - x.max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))


def macro_f1(guess: Places, truth: Places) -> float:
    each = [
        2 * np.sum((guess == k) & (truth == k)) / np.sum((guess == k) * 1 + (truth == k)) for k in set(truth)
    ]
    return float(np.mean(each))


def report(
    title: str, rows: Rows, splits: Iterator[tuple[Places, Places]], names: list[str], temperature: float
) -> None:
    places, found = held_out(rows, splits, names)
    truth = np.array([names.index(label) for label in rows.labels[places]])
    guess = found.argmax(axis=1)
    confidence = np.exp(log_softmax(found / temperature)).max(axis=1)
    sure = confidence >= CONFIDENT
    right = guess == truth
    print(f"\n### {title}\n")
    print(f"{len(truth)} questions: accuracy {right.mean():.3f}, macro-F1 {macro_f1(guess, truth):.3f};")
    print(f"{sure.mean():.0%} at confidence {CONFIDENT} or above; of these {right[sure].mean():.3f} right.\n")
    print_categories(guess, truth, sure, names)
    print("\n" + reliability(right, confidence))
    print_confusion(guess, truth, names)


def print_categories(guess: Places, truth: Places, sure: NDArray[np.bool_], names: list[str]) -> None:
    print("| category | questions | right | sure | right when sure | taken for |")
    print("|---|---|---|---|---|---|")
    for k in sorted(set(truth)):
        mine = truth == k
        right = guess[mine] == k
        others = Counter(names[g] for g in guess[mine & (guess != k)]).most_common(3)
        taken = ", ".join(f"{name} {count / mine.sum():.0%}" for name, count in others)
        when_sure = right[sure[mine]].mean() if sure[mine].any() else 0.0
        figures = f"{right.mean():.2f} | {sure[mine].mean():.2f} | {when_sure:.2f}"
        print(f"| {names[k]} | {mine.sum()} | {figures} | {taken} |")


def reliability(right: NDArray[np.bool_], confidence: NDArray[np.float32]) -> str:
    """How often a confidence is right, by tenths."""
    tenth = np.minimum((confidence * 10).astype(int), 9)
    parts = [
        f"{t / 10:.1f}: {right[tenth == t].mean():.2f} of {np.sum(tenth == t)}" for t in sorted(set(tenth))
    ]
    return "Right by confidence, " + ", ".join(parts)


def print_confusion(guess: Places, truth: Places, names: list[str]) -> None:
    """A row for each true category, a column for each that was taken, in per cent of the row."""
    short = [name[:4] + name.partition("_")[2][:1] for name in names]
    print(f"\n| | {' | '.join(short)} |\n|---|{'---|' * len(names)}")
    for k in sorted(set(truth)):
        taken = np.bincount(guess[truth == k], minlength=len(names)) / np.sum(truth == k)
        print(f"| {names[k]} | {' | '.join(f'{share:.0%}'.rstrip('%') for share in taken)} |")


def allowed(rows: Rows) -> Rows:
    """What may be learned from."""
    places = rows.where(np.isin(rows.sources, [*PERMISSIVE, OWN]))
    texts = [rows.texts[i] for i in places]
    return Rows(texts, rows.labels[places], rows.sources[places], rows.vectors[places], rows.fingerprint)


def measure(rows: Rows, names: list[str], temperature: float) -> None:
    mine = allowed(rows)
    report("As shipped, on sources it has not seen", rows, permissive_to_others(rows), names, temperature)
    report("As shipped, random fifths of the sources it has seen", mine, folds(mine), names, temperature)
    report("All sources, each left out in turn", rows, leave_one_source_out(rows), names, temperature)
    report("All sources, random fifths", rows, folds(rows), names, temperature)


def train(rows: Rows, names: list[str]) -> Lessons:
    """On what may be learned from, with a temperature from leaving its sources out one by one."""
    mine = allowed(rows)
    places, found = held_out(mine, leave_one_source_out(mine), names)
    truth = np.array([names.index(label) for label in mine.labels[places]])
    return learn(mine, np.arange(len(mine.texts)), fit_temperature(found, truth))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NEARHIT_DATA", "../shared/data")))
    parser.add_argument("--measure-only", action="store_true", help="leave the shipped file as it is")
    options = parser.parse_args()
    rows = asyncio.run(gather(options.data))
    names = sorted(set(map(str, rows.labels)))
    lessons = train(rows, names)
    if not options.measure_only:
        lessons.save(PACKAGED)
        print(f"{PACKAGED.name}: {PACKAGED.stat().st_size} bytes, temperature {lessons.temperature:.3f}")
    measure(rows, names, lessons.temperature)


if __name__ == "__main__":
    main()
