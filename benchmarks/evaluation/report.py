"""The parts of the report, each from the questions to text and pictures."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluation.scorers import (
    FOLDS,
    SCORERS,
    Floats,
    Pairs,
    group_folds,
    objecting,
    out_of_fold,
    recall_at,
    risk_coverage,
    source_folds,
    threshold_at,
)
from embeddings.base import Vector
from policies.book import Book
from policies.guards.facts import facts
from policies.guards.objections import GUARDS
from policies.tuning import Share
from proxy.charts import HEIGHT, WIDTH, Chart, Line
from proxy.kept_vectors import KeptVectors, open_kept
from proxy.settings import Embedding, Settings
from proxy.simulation.command import Plan, simulated
from proxy.simulation.rows import Row, Table
from proxy.simulation.trace import Request, read_trace

RATES = (0.005, 0.01, 0.02)
NEAR = 0.80
"""The threshold that is usual elsewhere."""
STRICT = 0.90
FEW = 50
"""Hits; a share of fewer says nothing."""
CONFIDENCE = 0.95

_HEAD = """# Evaluation

How many questions are answered from memory, and how many of these answers are wrong, measured on labelled
questions with the packaged encoder, categories, guards and classifier. Written by `make eval`
(`python -m benchmarks.evaluation`), which reads `pairs_dev`, `hard_negatives_dev`, `categories_dev`
and `stream_dev` from `NEARHIT_DATA`, else `../shared/data`; each part says how to get it alone. Intervals are
Clopper-Pearson with 95 % confidence on either side.

What was tuned on these questions: the packaged thresholds and lists of guards, on the stream. What was
learned from a part of them: the packaged classifier. The word lists of the guards were written after a look
at some. So figures that depend on these want to be confirmed on questions that nobody looked at.
"""


@dataclass(frozen=True, slots=True)
class Part:
    text: str
    pictures: Mapping[str, str] = field(default_factory=dict)
    """SVG by file name."""


@dataclass
class Bench:
    """The questions; each file is read when it is first asked for."""

    data: Path
    vector: Callable[[str], Vector | None]
    """Of a text of the pairs; None where it is too long."""
    book: Book = field(default_factory=Book.from_folder)

    @cached_property
    def pairs(self) -> Pairs:
        return self._pairs("pairs_dev")

    @cached_property
    def hard(self) -> Pairs:
        return self._pairs("hard_negatives_dev")

    @cached_property
    def scores(self) -> dict[str, Floats]:
        """By scorer; out of folds of groups."""
        return {name: out_of_fold(scorer, self.pairs, group_folds) for name, scorer in SCORERS.items()}

    def _pairs(self, name: str) -> Pairs:
        return Pairs.of(read(self.data, name), self.vector, self.book.categories)


def read(data: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def opened(data: Path) -> Bench:
    """Embeds the pairs, which takes some minutes the first time."""
    rows = [*read(data, "pairs_dev"), *read(data, "hard_negatives_dev")]
    embedder = asyncio.run(_embedded({row[side] for row in rows for side in "ab"}))
    return Bench(data, embedder.known)


async def _embedded(texts: Iterable[str]) -> KeptVectors:
    embedder = await asyncio.to_thread(open_kept, Embedding())
    try:
        await embedder.prepare(texts, lambda _: None)
    finally:
        await embedder.close()
    return embedder


def write(bench: Bench, docs: Path) -> None:
    """`docs`/evaluation.md and `docs`/images/*.svg."""
    parts = [make(bench) for make in PARTS.values()]
    (docs / "images").mkdir(parents=True, exist_ok=True)
    for name, picture in ((name, svg) for part in parts for name, svg in part.pictures.items()):
        (docs / "images" / name).write_text(f"{picture}\n", encoding="utf-8")
    (docs / "evaluation.md").write_text("\n".join((_HEAD, *(part.text for part in parts))), encoding="utf-8")


# Pairs


def on_pairs(bench: Bench) -> Part:
    pairs, scores = bench.pairs, bench.scores
    head = ["category", "same", "other", *(f"{name}, {rate:.1%}" for name in scores for rate in RATES)]
    rows = [
        [name, *counts(pairs, chosen), *(_recalls(pairs, scores, chosen))]
        for name, chosen in by_category(pairs)
    ]
    text = f"""## Labelled pairs

    python -m benchmarks.evaluation --only pairs

Recall: share of the pairs that ask the same which are served, at the threshold of that category at which
0.5, 1 and 2 % of the pairs that do not ask the same are served ("overall": one threshold for all). Most of
these were chosen to be near neighbours, and half of all pairs are equivalent, so this compares scorers; it
says nothing of the share of wrong hits in traffic. Scorers that learn are scored out of {FOLDS} folds of
groups: no question, and no chain of pairs that share questions, is on both sides. The thresholds are those
of the sample itself.

{table(head, rows)}

{_gain(pairs, scores)}
### Thresholds carried over

Thresholds per category for 1 % chosen on the other pairs and counted on those left out (a category that is
missing among the others gets one threshold of all of them).

{table(["scorer", "left out", "recall", "false hits"], list(_carried(pairs)))}
"""
    return Part(text)


def by_category(pairs: Pairs) -> Iterator[tuple[str, Any]]:
    """Names and which pairs are theirs; "overall" last."""
    names = pairs.field("category")
    for name in sorted(set(names)):
        yield str(name), names == name
    yield "overall", np.ones(len(pairs), bool)


def counts(pairs: Pairs, chosen: Any) -> list[str]:
    same = int(np.sum(pairs.equivalent[chosen]))
    return [f"{same:,}", f"{int(np.sum(chosen)) - same:,}"]


def _recalls(pairs: Pairs, scores: Mapping[str, Floats], chosen: Any) -> list[str]:
    same = pairs.equivalent[chosen]
    return [percent(recall_at(each[chosen], same, rate)) for each in scores.values() for rate in RATES]


def _gain(pairs: Pairs, scores: Mapping[str, Floats]) -> str:
    """How often each scorer's recall at 1 % is twice that of cosine alone."""
    first, *others = scores
    lines = []
    for name in others:
        gains = {
            category: recall_at(scores[name][chosen], pairs.equivalent[chosen], 0.01)
            / max(1e-9, recall_at(scores[first][chosen], pairs.equivalent[chosen], 0.01))
            for category, chosen in by_category(pairs)
        }
        overall = gains.pop("overall")
        twice = sum(gain >= 2 for gain in gains.values())
        lines.append(
            f"At 1 %, {name}: {overall:.1f} times the recall of {first} alone overall; "
            f"at least twice in {twice} of {len(gains)} categories.\n"
        )
    return "".join(lines)


def _carried(pairs: Pairs) -> Iterator[list[str]]:
    for title, folds in (("groups, a fifth each", group_folds), ("sources, each in turn", source_folds)):
        for name, scorer in SCORERS.items():
            served = np.zeros(len(pairs), bool)
            for learn, test in folds(pairs):
                known, asked = pairs.at(learn), pairs.at(test)
                # A scorer that learns has to be asked about what it has not learned from, here as well.
                threshold = _thresholds(known, out_of_fold(scorer, known, group_folds))
                limits = np.array([threshold[str(each)] for each in asked.field("category")])
                served[test] = scorer(known)(asked) > limits
            same = pairs.equivalent
            yield [name, title, percent(served[same].mean()), percent(served[~same].mean())]


def _thresholds(pairs: Pairs, scores: Floats) -> defaultdict[str, float]:
    found = {
        name: threshold_at(scores[chosen], pairs.equivalent[chosen], 0.01)
        for name, chosen in by_category(pairs)
    }
    return defaultdict(lambda: found["overall"], found)


# Risk and coverage


def on_risk(bench: Bench) -> Part:
    pictures = {"risk-coverage.svg": _risk_chart(bench.pairs, bench.scores, "all pairs", 1.0).svg()}
    small = [
        _risk_chart(bench.pairs.at(np.flatnonzero(chosen)), _of(bench.scores, chosen), name, 1.0)
        for name, chosen in by_category(bench.pairs)
        if name != "overall"
    ]
    pictures["risk-coverage-categories.svg"] = grid(small, 3)
    text = """## Risk and coverage

    python -m benchmarks.evaluation --only risk

As the threshold falls, more pairs are served (coverage) and more of those served are wrong (risk). A curve
further down is better; where it ends, all that is left was refused. In the pairs, about half are
equivalent; in traffic the base rate is another one, so read the distance of the curves and not their
height.

![Risk against coverage, all pairs](images/risk-coverage.svg)

![Risk against coverage by category](images/risk-coverage-categories.svg)
"""
    return Part(text, pictures)


def _of(scores: Mapping[str, Floats], chosen: Any) -> dict[str, Floats]:
    return {name: each[chosen] for name, each in scores.items()}


def _risk_chart(pairs: Pairs, scores: Mapping[str, Floats], title: str, height: float) -> Chart:
    lines = [Line(name, risk_coverage(each, pairs.equivalent)) for name, each in scores.items()]
    return Chart(f"wrong of served, {title}", "share of pairs served", (0.0, 1.0), (0.0, height), lines)


def grid(charts: Sequence[Chart], columns: int) -> str:
    """Charts side by side as one picture."""
    rows = -(-len(charts) // columns)
    inside = "".join(
        f'<svg x="{at % columns * WIDTH}" y="{at // columns * HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f"{chart.svg()}</svg>"
        for at, chart in enumerate(charts)
    )
    size = f'viewBox="0 0 {columns * WIDTH} {rows * HEIGHT}" width="{columns * WIDTH}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{inside}</svg>'


# Guards


def on_guards(bench: Bench) -> Part:
    near = {name: _above_threshold(bench, pairs) for name, pairs in _both(bench).items()}
    rows = [_without(name, bench, near) for name in GUARDS]
    text = f"""## What each guard adds

    python -m benchmarks.evaluation --only guards

At the packaged thresholds and guards. "Alone": no other guard of the category objects, so without this one
the pair would be served: that many wrong hits it saves, and that many right ones it costs.

{table(["guard", "categories", "wrong pairs, alone", "right pairs, alone", "hard negatives, alone"], rows)}

| | right of same | false hits of other | hard negatives served |
|---|---:|---:|---:|
{_ladder(bench, near)}
"""
    return Part(text)


Near = Sequence[tuple[frozenset[str], str, bool]]
"""Guards of the category that object, category, equivalent: of pairs over the category's threshold."""


def _both(bench: Bench) -> dict[str, Pairs]:
    return {"pairs": bench.pairs, "hard": bench.hard}


def _above_threshold(bench: Bench, pairs: Pairs) -> Near:
    found = []
    for row, cosine in zip(pairs.rows, pairs.cosine, strict=True):
        category = bench.book.categories[row["category"]]
        if cosine >= category.threshold:
            objects = objecting(row["a"], row["b"]) & frozenset(category.guards)
            found.append((objects, category.name, bool(row.get("equivalent", False))))
    return found


def _without(name: str, bench: Bench, near: Mapping[str, Near]) -> list[str]:
    users = sum(name in each.guards for each in bench.book.categories.values())
    alone = [[same for objects, _, same in rows if objects == {name}] for rows in near.values()]
    pairs, hard = alone
    return [name, str(users), f"{len(pairs) - sum(pairs):,}", f"{sum(pairs):,}", f"{len(hard):,}"]


def _ladder(bench: Bench, near: Mapping[str, Near]) -> str:
    """Without any guard, and with all."""
    same, other = int(bench.pairs.equivalent.sum()), int((~bench.pairs.equivalent).sum())
    lines = []
    for title, allows in (("thresholds alone", lambda _: True), ("with guards", lambda objects: not objects)):
        served = [equivalent for objects, _, equivalent in near["pairs"] if allows(objects)]
        hard = sum(allows(objects) for objects, _, _ in near["hard"])
        shares = (sum(served) / same, (len(served) - sum(served)) / other, hard / max(1, len(bench.hard)))
        lines.append(f"| {title} | {' | '.join(map(percent, shares))} |")
    return "\n".join(lines)


# Hard negatives


def on_hard(bench: Bench) -> Part:
    hard = bench.hard
    limits = np.array([bench.book.categories[row["category"]].threshold for row in hard.rows])
    stages = {
        f"cosine ≥ {NEAR:.2f}": hard.cosine >= NEAR,
        "packaged thresholds": hard.cosine >= limits,
        "shipped": (hard.cosine >= limits) & ~hard.refused,
    }
    kinds = hard.field("kind")
    rows = [[str(kind), *_served(kinds == kind, stages)] for kind in sorted(set(kinds))]
    rows.append(["all", *_served(np.ones(len(hard), bool), stages)])
    text = f"""## Near-identical questions with other answers

    python -m benchmarks.evaluation --only hard

The share that is served, by what makes them different. "Shipped" is thresholds and guards of the packaged
categories, with the category of the label.

{table(["kind", "pairs", *stages, "shipped, up to"], rows)}
"""
    return Part(text)


def _served(chosen: Any, stages: Mapping[str, Any]) -> list[str]:
    shares = [
        Share.of(int(np.sum(stage[chosen])), int(np.sum(chosen)), CONFIDENCE) for stage in stages.values()
    ]
    return [f"{shares[0].whole:,}", *(percent(share.value) for share in shares), percent(shares[-1].high)]


# Categories


def on_categories(bench: Bench) -> Part:
    from tools import train_classifier as trainer

    rows = asyncio.run(trainer.gather(bench.data))
    names = sorted(set(map(str, rows.labels)))
    printed = io.StringIO()
    with redirect_stdout(printed):
        trainer.measure(rows, names, trainer.train(rows, names).temperature)
    text = f"""## The classifier

    python -m benchmarks.evaluation --only categories

Trained anew for every split; [classifier.md](classifier.md) has each category's figures, the confusion
table and what was learned from.

{summaries(printed.getvalue())}
"""
    return Part(text)


def summaries(printed: str) -> str:
    """Of each section its title and first paragraph, as a list."""
    sections = printed.split("### ")[1:]
    parts = (section.strip().split("\n\n") for section in sections)
    return "\n".join(f"- **{title}**: {' '.join(paragraph.split())}" for title, paragraph, *_ in parts)


# Stream


def on_stream(bench: Bench) -> Part:
    trace = read_trace(bench.data / "stream_dev.jsonl.gz")
    tables = replayed(trace)
    head = ["hits", "right / oracle", "wrong / hits", "between"]
    policies = [[name, *_figures(each.overall)] for name, each in tables.items()]
    shipped = sorted(tables["category-aware"].categories.items())
    categories = [[_named(name, row), *_figures(row)] for name, row in shipped]
    text = f"""## A stream of requests

    python -m benchmarks.evaluation --only stream

`stream_dev`, {len(trace):,} requests of one hour, replayed by `nearhit simulate` with its own classifier.
Right: of the oracle's hits. Wrong: of the hits, stale ones included. Hits are not independent of each other
(one wrong entry is hit again and again), so the intervals are narrower than they ought to be.

{table(["policy", *head], policies)}

By category, category-aware; those with fewer than {FEW} hits are in brackets.

{table(["category", *head], categories)}
"""
    return Part(text)


def replayed(trace: Sequence[Request]) -> dict[str, Table]:
    settings = Settings()
    strict = asyncio.run(simulated(trace, Plan(("uniform",), STRICT, settings)))
    usual = asyncio.run(simulated(trace, Plan(("exact", "uniform", "category-aware"), NEAR, settings)))
    played = {
        "exact": usual["exact"],
        f"uniform {NEAR:.2f}": usual["uniform"],
        f"uniform {STRICT:.2f}": strict["uniform"],
        "category-aware": usual["category-aware"],
    }
    return {name: each.table for name, each in played.items()}


def _named(name: str, row: Row) -> str:
    return name if row.hits >= FEW else f"({name})"


def _figures(row: Row) -> list[str]:
    wrong = Share.of(row.wrong, row.hits, CONFIDENCE)
    right = row.right / row.oracle if row.oracle else float("nan")
    return [f"{row.hits:,}", percent(right), percent(wrong.value), f"{wrong.low:.1%} – {wrong.high:.1%}"]


# Labels


def on_labels(bench: Bench) -> Part:
    wrong = [
        row
        for row, cosine, refused in zip(
            bench.pairs.rows, bench.pairs.cosine, bench.pairs.refused, strict=True
        )
        if not row["equivalent"]
        and not refused
        and cosine >= bench.book.categories[row["category"]].threshold
    ]
    other = [row for row in bench.pairs.rows if not row["equivalent"]]
    by_source = Counter(row["source"] for row in other if same_words(row["a"], row["b"]))
    served = sum(same_words(row["a"], row["b"]) for row in wrong)
    rows = [[source, f"{count:,}"] for source, count in by_source.most_common()]
    text = f"""## Noise of the labels

    python -m benchmarks.evaluation --only labels

Labels are taken as they are in every figure above. Some are wrong: these counts are of questions that the
labels tell apart although they have the same content words, numbers, names, dates, negation and kind of
question, and differ in spelling, order or filler words alone. Order can change the sense, so not each of
them is a mistake; and duplicates in other words are not counted.

- Pairs labelled as different: {sum(by_source.values()):,} of {len(other):,}.
- Of the {len(wrong):,} false hits at the shipped settings: {served:,}.
- The stream: {_stream_noise(bench)}

{table(["source of the pair", "same content words, labelled as different"], rows)}

About a third of the questions of different groups in the stream whose cosine is 0.90 or more are one
question under two labels (over half of them in conversation and tech_docs), so wrong shares below about 1 %
there cannot be told from this noise.
"""
    return Part(text)


def same_words(a: str, b: str) -> bool:
    return content(a) == content(b)


def content(text: str) -> tuple[object, ...]:
    found = facts(text)
    return (
        frozenset(found.words), found.tally, found.dates, bool(found.negators), found.identifiers,
        found.names, found.qualifiers, found.kind,
    )  # fmt: skip


def _stream_noise(bench: Bench) -> str:
    groups: defaultdict[tuple[object, ...], dict[str, str]] = defaultdict(dict)
    for row in read(bench.data, "stream_dev"):
        groups[(row["category"], *content(row["query"]))].setdefault(row["group"], row["query"])
    doubled = [each for each in groups.values() if len(each) > 1]
    exact = sum(a == b for each in doubled for a, b in combinations(each.values(), 2))
    number = sum(map(len, doubled))
    return (
        f"{number:,} groups share their content words with another group of the category; "
        f"{exact:,} pairs of groups even a whole text."
    )


# Tables


def percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.1%}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PARTS: dict[str, Callable[[Bench], Part]] = {
    "pairs": on_pairs,
    "risk": on_risk,
    "guards": on_guards,
    "hard": on_hard,
    "categories": on_categories,
    "stream": on_stream,
    "labels": on_labels,
}
