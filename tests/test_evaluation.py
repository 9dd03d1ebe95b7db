"""The evaluation: measures against hand-made scores, splits, and a whole report on small data."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from doubles import WordEmbedder
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evaluation import __main__ as command
from benchmarks.evaluation import report, scorers
from benchmarks.evaluation.report import same_words, summaries
from benchmarks.evaluation.scorers import (
    REFUSED,
    Pairs,
    Scores,
    clusters,
    group_folds,
    objecting,
    out_of_fold,
    recall_at,
    risk_coverage,
    source_folds,
    threshold_at,
)
from policies.model import Category
from proxy import kept_vectors

BOOK = {
    "math": Category("math", 0.8, 60.0, guards=("numbers",)),
    "news": Category("news", 0.8, 60.0, guards=()),
}
labelled = st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=1, max_size=80)


def row(a: str, b: str, equivalent: bool, category: str = "news", source: str = "one") -> dict[str, Any]:
    return {"a": a, "b": b, "equivalent": equivalent, "category": category, "source": source}


def unit(text: str) -> np.ndarray | None:
    if text == "too long":
        return None
    vector = np.random.default_rng(len(text)).standard_normal(8).astype(np.float32)
    return vector / np.linalg.norm(vector)


def pairs_of(rows: list[dict[str, Any]]) -> Pairs:
    return Pairs.of(rows, unit, BOOK)


CHAINS = [row(f"q{n} a", f"q{n} b", True, source=f"s{n % 3}") for n in range(40)] + [
    row(f"q{n} b", f"q{n} c", False, source="s9") for n in range(40)
]
"""40 chains of two pairs that share a question."""


# Measures


def test_recall_at_a_rate_of_false_hits() -> None:
    others = [0.9, 0.8, 0.3, 0.2]
    same = [0.95, 0.85, 0.8, 0.1]
    scores, equivalent = np.array(others + same), np.array([False] * 4 + [True] * 4)
    assert threshold_at(scores, equivalent, 0.0) == 0.9
    assert recall_at(scores, equivalent, 0.0) == 0.25
    assert recall_at(scores, equivalent, 0.25) == 0.5  # at a tie with what is not allowed: not served
    assert recall_at(scores, equivalent, 0.5) == 0.75
    assert recall_at(scores, equivalent, 1.0) == 1.0


@given(labelled, st.floats(0, 1))
def test_no_more_false_hits_than_allowed(rows: list[tuple[float, bool]], rate: float) -> None:
    scores, equivalent = (np.array(side) for side in zip(*rows, strict=True))
    others = scores[~equivalent]
    assert np.sum(others > threshold_at(scores, equivalent, rate)) <= rate * len(others)


def test_what_is_refused_is_never_served() -> None:
    scores, equivalent = np.array([REFUSED, 0.5, REFUSED]), np.array([True, True, False])
    assert recall_at(scores, equivalent, 1.0) == 0.5
    assert risk_coverage(scores, equivalent)[-1] == (1 / 3, 0.0)


def test_risk_and_coverage_by_hand() -> None:
    scores, equivalent = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert risk_coverage(scores, equivalent) == [(0.25, 0.0), (0.5, 0.5), (0.75, 1 / 3), (1.0, 0.5)]


@given(labelled)
def test_coverage_rises_and_ends_at_the_base_rate(rows: list[tuple[float, bool]]) -> None:
    scores, equivalent = (np.array(side) for side in zip(*rows, strict=True))
    curve = risk_coverage(scores + 1.0, equivalent)
    assert all(one[0] < other[0] for one, other in pairwise(curve))
    if curve and curve[-1][0] == 1.0:
        assert curve[-1][1] == pytest.approx(np.mean(~equivalent))


# Splits and scorers


@pytest.mark.parametrize("folds", [group_folds, source_folds])
def test_every_pair_is_left_out_once(folds: Any) -> None:
    pairs = pairs_of(CHAINS)
    tested = np.concatenate([test for _, test in folds(pairs)])
    assert sorted(tested) == list(range(len(pairs)))
    assert all(not set(learn) & set(test) for learn, test in folds(pairs))


def test_no_question_is_on_both_sides_of_a_fold() -> None:
    pairs = pairs_of(CHAINS)
    assert len(set(clusters(pairs))) == 40
    for learn, test in group_folds(pairs):
        known, asked = ({r[side] for r in pairs.at(at).rows for side in "ab"} for at in (learn, test))
        assert len(asked)
        assert not known & asked


def test_no_source_is_on_both_sides_of_a_fold() -> None:
    pairs = pairs_of(CHAINS)
    for learn, test in source_folds(pairs):
        assert not set(pairs.at(learn).field("source")) & set(pairs.at(test).field("source"))


def test_a_scorer_is_asked_about_what_it_has_not_learned_from() -> None:
    def remembers(learned: Pairs) -> Scores:
        known = {each["a"] for each in learned.rows}
        return lambda asked: np.array([float(each["a"] in known) for each in asked.rows])

    assert out_of_fold(remembers, pairs_of(CHAINS), group_folds).sum() == 0


def test_guards_refuse_and_long_texts_are_left_out() -> None:
    rows = [
        row("add 2 apples", "add 3 apples", False, "math"),
        row("add 2 apples", "add 3 apples", False, "news"),
        row("too long", "short", True),
    ]
    pairs = pairs_of(rows)
    assert list(scorers.cosine_alone(pairs)(pairs)) == pytest.approx([1.0, 1.0], abs=1e-6)
    assert list(scorers.with_guards(pairs)(pairs)) == pytest.approx([REFUSED, 1.0], abs=1e-6)
    assert "numbers" in objecting("add 2 apples", "add 3 apples")


# The report


def questions() -> dict[str, list[dict[str, Any]]]:
    """90 rewordings and 90 changed numbers in three categories and four sources; a stream that asks twice."""
    words = ("red", "blue", "green", "small", "large", "round", "flat", "old", "new", "cold")
    names = [f"{one} {other}" for one in words for other in words if one != other]
    places = [(name, ("code", "math", "news")[n % 3], f"s{n % 4}") for n, name in enumerate(names)]
    same = [row(f"how do I paint a {n} door", f"how can I paint a {n} door", True, *at) for n, *at in places]
    other = [
        row(
            f"is 3 {n} tables fine for all the other old guests",
            f"is 4 {n} tables fine for all the other old guests",
            False,
            *at,
        )
        for n, *at in places
    ]
    stream = [
        {"t": t, "category": "news", "query": f"what is new in {name}", "group": name}
        for t, name in enumerate(names * 2)
    ]
    hard = [{**each, "kind": "number"} for each in other]
    return {"pairs_dev": same + other, "hard_negatives_dev": hard, "categories_dev": [], "stream_dev": stream}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kept_vectors, "open_embedder", lambda *_, **__: WordEmbedder())
    folder = tmp_path / "questions"
    folder.mkdir()
    for name, rows in questions().items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as lines:
            lines.writelines(f"{json.dumps(each)}\n" for each in rows)
    return folder


def cells(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def printed(data: Path, capsys: pytest.CaptureFixture[str], *parts: str) -> str:
    only = [option for part in parts for option in ("--only", part)]
    assert command.main(["--data", str(data), *only]) == 0
    return capsys.readouterr().out


def test_parts_are_printed_with_their_figures(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(data, capsys, "pairs", "guards", "hard", "labels")
    # Changed numbers are nearer than rewordings: cosine alone has no chance, the guard takes them all away.
    assert cells(text, "overall") == ["90", "90", "0.0%", "0.0%", "0.0%", "100.0%", "100.0%", "100.0%"]
    assert "at least twice in 3 of 3 categories" in text
    assert cells(text, "number")[0] == "90"
    assert cells(text, "number")[3] == "0.0%"
    assert cells(text, "with guards") == ["groups, a fifth each", "100.0%", "0.0%"]
    assert "different: 0 of 90" in text


def test_the_stream_is_replayed_under_each_policy(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(data, capsys, "stream")
    assert cells(text, "exact") == ["90", "100.0%", "0.0%", "0.0% – 3.3%"]
    assert [int(cells(text, f"uniform {t}")[0]) for t in ("0.80", "0.90")] > [90, 90]


def test_one_more_scorer_is_one_more_line(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    perfect = lambda _: lambda pairs: pairs.equivalent.astype(float)  # noqa: E731
    monkeypatch.setitem(scorers.SCORERS, "perfect", perfect)
    text = printed(data, capsys, "pairs")
    assert cells(text, "overall")[-3:] == ["100.0%"] * 3
    assert cells(text, "perfect") == ["groups, a fifth each", "100.0%", "0.0%"]
    assert "At 1 %, perfect: " in text


def test_a_whole_run_writes_a_report_and_pictures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(report.PARTS, "categories")  # trains on the real questions
    docs = tmp_path / "docs"
    assert command.main(["--data", str(data), "--docs", str(docs)]) == 0
    text = (docs / "evaluation.md").read_text()
    assert text.startswith("# Evaluation")
    for name in ("risk-coverage.svg", "risk-coverage-categories.svg"):
        assert f"(images/{name})" in text
        ElementTree.parse(docs / "images" / name)
    assert "how do I paint" not in text


def test_without_the_questions_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "NEARHIT_DATA" in error
    assert error.count("\n") == 1


def test_what_the_classifier_prints_is_put_in_a_list() -> None:
    shown = (
        "\n### One\n\n2 questions: accuracy 1;\nall sure.\n\n| a |\n|---|\n\n### Two\n\n3 questions.\n\nMore"
    )
    assert summaries(shown) == "- **One**: 2 questions: accuracy 1; all sure.\n- **Two**: 3 questions."


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("How do I bake bread?", "how do i bake the bread", True),
        ("bake 2 loaves", "bake 3 loaves", False),
        ("bake bread", "never bake bread", False),
        ("bake bread", "bake cake", False),
    ],
)
def test_the_same_content_words(a: str, b: str, same: bool) -> None:
    assert same_words(a, b) is same
