"""Makes policies/classifier.npz out of labelled questions and measures it.

    python -m tools.train_classifier [--data FOLDER] [--measure-only]

Trained on tools/examples/*.txt (written for this project) and on those sources in categories_dev.jsonl.gz
whose licences allow it; measured on all sources. Prints the tables of docs/classifier.md.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policies.classifier import CONFIDENT, OWN_VOICE, PACKAGED
from policies.lessons import Lessons, Solved
from policies.prototypes import Prototypes
from proxy.kept_vectors import open_kept
from proxy.settings import Embedding

ROOT = Path(__file__).parent.parent
OWN = "own"
OWN_WEIGHT = 3.0
"""Own examples were written to cover the category, the other sources each cover a corner of it."""

EXAMPLES, OWN_EXAMPLES = 12, 3
"""To a prototype, of the sources and of the own ones."""

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
Splits = Iterable[tuple[Places, Places]]
Asked = Callable[[Solved, NDArray[np.float32]], NDArray[np.float32]]


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
    embedder = await asyncio.to_thread(open_kept, Embedding())
    try:
        await embedder.prepare(texts, lambda _: None)
    finally:
        await embedder.close()
    # Without those that are too long for the encoder: the proxy has no vector for them either.
    rows = [row for row in zip(texts, labels, sources, strict=True) if embedder.known(row[0]) is not None]
    texts, labels, sources = zip(*rows, strict=True)
    vectors = np.stack([embedder.known(text) for text in texts])
    return Rows(list(texts), np.array(labels), np.array(sources), vectors, embedder.fingerprint)


def cells(rows: Rows, places: Places) -> dict[tuple[str, str], Places]:
    """The places of each source in each category."""
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i in places:
        found[str(rows.labels[i]), str(rows.sources[i])].append(int(i))
    return {cell: np.array(found[cell]) for cell in sorted(found)}


def weights(sizes: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], float]:
    """Of one example in each cell. Every category weighs `WEIGHTS`; its sources share that alike, own ones
    with `OWN_WEIGHT` parts.

    So no source's way of writing becomes a category's mark because it has many rows.
    """
    parts: defaultdict[str, float] = defaultdict(float)
    for label, source in sizes:
        parts[label] += _part(source)
    return {
        (label, source): WEIGHTS.get(label, 1.0) * _part(source) / parts[label] / size
        for (label, source), size in sizes.items()
    }


def _part(source: str) -> float:
    return OWN_WEIGHT if source == OWN else 1.0


class Teacher:
    """Learns from chosen rows; remembers the prototypes of a cell, which most splits have in common."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._made: dict[bytes, Prototypes] = {}

    def learn(self, places: Places, temperature: float = 1.0) -> Lessons:
        lessons = Lessons.none(self.rows.fingerprint, self.rows.vectors.shape[1], temperature)
        mine = cells(self.rows, places)
        weight = weights({cell: len(each) for cell, each in mine.items()})
        for (label, source), each in mine.items():
            vectors = self.rows.vectors[each]
            lessons = lessons.taught(label, vectors, weight[label, source], self._prototypes(each, source))
        return lessons

    def _prototypes(self, places: Places, source: str) -> Prototypes:
        key = places.tobytes()
        if key not in self._made:
            examples, voice = (OWN_EXAMPLES, OWN_VOICE) if source == OWN else (EXAMPLES, 1.0)
            count = -(-len(places) // examples)
            self._made[key] = Prototypes.of(self.rows.vectors[places], count, voice)
        return self._made[key]


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


def held_out(
    teacher: Teacher,
    splits: Iterable[tuple[Places, Places]],
    names: list[str],
    temperature: float,
    says: Asked,
) -> tuple[Places, NDArray[np.float32]]:
    """The places that were left out, and what was said of each, shape (places, names)."""
    places, found = [], []
    for known, asked in splits:
        places.append(asked)
        found.append(says(teacher.learn(known, temperature).solved(names), teacher.rows.vectors[asked]))
    return np.concatenate(places), np.concatenate(found)


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
    title: str,
    teacher: Teacher,
    splits: Iterable[tuple[Places, Places]],
    names: list[str],
    temperature: float,
) -> None:
    places, found = held_out(teacher, splits, names, temperature, Solved.confidences)
    truth = np.array([names.index(label) for label in teacher.rows.labels[places]])
    guess = found.argmax(axis=1)
    confidence = found.max(axis=1)
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
    everything, mine = Teacher(rows), Teacher(allowed(rows))
    for title, teacher, splits in (
        ("As shipped, on sources it has not seen", everything, permissive_to_others(rows)),
        ("As shipped, random fifths of the sources it has seen", mine, folds(mine.rows)),
        ("All sources, each left out in turn", everything, leave_one_source_out(rows)),
        ("All sources, random fifths", everything, folds(rows)),
    ):
        report(title, teacher, splits, names, temperature)


def train(rows: Rows, names: list[str]) -> Lessons:
    """On what may be learned from, with a temperature from leaving its sources out one by one."""
    teacher = Teacher(allowed(rows))
    mine = teacher.rows
    places, found = held_out(teacher, leave_one_source_out(mine), names, 1.0, Solved.scores)
    truth = np.array([names.index(label) for label in mine.labels[places]])
    return teacher.learn(np.arange(len(mine.texts)), fit_temperature(found, truth))


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
