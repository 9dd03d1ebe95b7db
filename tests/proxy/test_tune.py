"""`nearhit tune`: pairs worked out by hand, and files that people wrote."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles import WordEmbedder

from policies.book import PACKAGED
from policies.loader import load_category
from proxy import kept_vectors
from proxy.category_files import with_threshold
from proxy.charts import Chart, Line
from proxy.cli.main import run

BAKING = (
    "# Ours; ask the bakers first.\r\n"
    "name: baking\r\n"
    "threshold:   0.97   # too strict?\r\n"
    "ttl: 1d\r\n"
    "examples_file: baking.txt\n"
    "guards: [numbers]"
)
"""Mixed line ends, odd spaces, and no end of the last line: a person wrote it."""
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LETTERS = str.maketrans("0123456789", "abcdefghij")

Row = dict[str, Any]
Tune = Callable[..., tuple[int, str, str]]


def near(start: int, rows: int, equivalent: bool, share: int = 9) -> list[Row]:
    """Pairs of ten words each, `share` of them the same: a cosine of about share / 10."""
    return [_row(str(number).translate(LETTERS), equivalent, share) for number in range(start, start + rows)]


def _row(mark: str, equivalent: bool, share: int) -> Row:
    a, b = (
        " ".join(f"{word}{mark if at < share else side}" for at, word in enumerate(WORDS))
        for side in ("left", "right")
    )
    return {"a": a, "b": b, "equivalent": equivalent, "category": "baking"}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    folder = tmp_path / "book"
    folder.mkdir()
    (folder / "baking.yaml").write_bytes(BAKING.encode())
    (folder / "baking.txt").write_text("how do I bake bread\n")
    (folder / "default.yaml").write_text("{name: default, threshold: 0.95, ttl: 1h}")
    return folder


@pytest.fixture
def tune(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    book: Path,
    capsys: pytest.CaptureFixture[str],
) -> Tune:
    """Exit status, standard output and standard error of the command on pairs, given as rows or bytes."""
    monkeypatch.chdir(tmp_path)
    embedder = WordEmbedder()
    monkeypatch.setattr(kept_vectors, "open_embedder", lambda *_, **__: embedder)

    def tuned(pairs: list[Row] | bytes, *options: str, folder: Path | None = book) -> tuple[int, str, str]:
        lines = pairs if isinstance(pairs, bytes) else "\n".join(map(json.dumps, pairs)).encode()
        (tmp_path / "pairs.jsonl").write_bytes(lines)
        where = ["--categories", str(folder)] if folder else []
        status = run(["tune", "--pairs", "pairs.jsonl", *where, *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return tuned


def categories(outcome: tuple[int, str, str]) -> Any:
    status, out, err = outcome
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out)["categories"]


GOOD = near(0, 300, True) + near(1000, 60, False, share=5)
"""A cosine of 0.9 means the same, one of 0.5 does not."""


def test_a_threshold_is_proposed_with_what_to_expect_there(tune: Tune) -> None:
    found = categories(tune(GOOD, "--json"))["baking"]
    assert found["pairs"] == 360
    assert found["now"]["threshold"] == 0.97
    assert found["now"]["wrong"]["whole"] < 10
    proposed = found["proposed"]
    assert 0.55 < proposed["threshold"] < 0.9
    assert proposed["wrong"]["value"] <= proposed["wrong"]["high"] <= 0.01
    assert (proposed["recall"]["value"], proposed["recall"]["whole"]) == (1.0, 300)
    assert (found["curve"][0]["threshold"], found["curve"][-1]["threshold"]) == (0.5, 1.0)


def test_guards_refuse_as_they_do_in_a_call(tune: Tune) -> None:
    numbers = [
        {"a": f"{row['a']} {n}", "b": f"{row['b']} {n + 1}", "equivalent": False, "category": "baking"}
        for n, row in enumerate(near(5000, 40, False))
    ]
    assert categories(tune(GOOD + numbers, "--json"))["baking"]["proposed"]["wrong"]["part"] <= 1
    unguarded = [row | {"category": "default"} for row in GOOD + near(5000, 40, False)]
    assert categories(tune(unguarded, "--json"))["default"]["proposed"] is None


def test_pairs_without_a_category_are_classified_and_unknown_ones_too(tune: Tune) -> None:
    unknown = [row | {"category": "fishing"} for row in GOOD[:3]]
    none = [{key: row[key] for key in ("a", "b", "equivalent")} for row in GOOD[3:5]]
    found = categories(tune(unknown + none + GOOD[5:7], "--json"))
    assert {name: each["pairs"] for name, each in found.items()} == {"baking": 2, "default": 5}


def test_a_stricter_category_of_the_stored_question_keeps_its_say(tune: Tune, book: Path) -> None:
    (book / "bread.yaml").write_text(
        "{name: bread, threshold: 0.6, ttl: 1h, guards: [], match: {patterns: ['^one']}}"
    )
    (book / "strict.yaml").write_text(
        "{name: strict, threshold: 0.99, ttl: 1h, guards: [], match: {patterns: ['^ww']}}"
    )
    pairs = [
        {"a": row["a"], "b": f"{prefix}{row['b']}", "equivalent": True}
        for prefix, row in zip(["ww "] * 10 + [""] * 10, near(0, 20, True), strict=True)
    ]
    found = categories(tune(pairs, "--json", "--category", "bread"))["bread"]
    assert found["curve"][0]["recall"]["whole"] == 20
    assert found["curve"][0]["recall"]["part"] == 10


def test_the_same_text_is_not_up_to_a_threshold(tune: Tune) -> None:
    same = [row | {"b": row["a"]} for row in GOOD[:50]]
    too_long = [{"a": "long " * 900, "b": "long", "equivalent": False, "category": "baking"}]
    assert categories(tune(GOOD + same + too_long, "--json"))["baking"]["pairs"] == len(GOOD)


def test_too_little_data_is_refused_with_what_is_missing(tune: Tune, book: Path) -> None:
    status, out, _ = tune(near(0, 40, True))
    assert status == 0
    assert "too few pairs" in out
    assert "about 259 more like these" in out
    status, _, err = tune(near(0, 40, True), "--write")
    assert (status, err.count("\n")) == (1, 1)
    assert (book / "baking.yaml").read_bytes() == BAKING.encode()


def test_more_pairs_do_not_help_where_half_are_wrong(tune: Tune) -> None:
    _, out, _ = tune(near(0, 50, True) + near(100, 50, False))
    assert "more pairs will not help" in out


def test_write_changes_the_threshold_and_no_other_byte(tune: Tune, book: Path) -> None:
    status, _, err = tune(GOOD, "--write")
    assert status == 0
    found = load_category(book / "baking.yaml").threshold
    assert found < 0.9
    assert (book / "baking.yaml").read_bytes() == BAKING.replace("0.97", f"{found:g}").encode()
    assert f"threshold 0.97 is now {found:g}" in err
    assert sorted(path.name for path in book.iterdir()) == ["baking.txt", "baking.yaml", "default.yaml"]


def test_the_floor_of_a_file_is_kept(tune: Tune, book: Path) -> None:
    (book / "baking.yaml").write_text(
        "{name: baking, threshold: 0.97, ttl: 1d, guards: [], load: {threshold_floor: 0.8}}"
    )
    status, out, _ = tune(GOOD, "--write")
    assert status == 0
    assert "load.threshold_floor, 0.8" in out
    assert load_category(book / "baking.yaml").threshold == 0.8


def test_packaged_files_are_copied_where_there_are_none(tune: Tune, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    english = {"a": "what is the %s", "b": "so what is the %s"}  # else guards object to all
    pairs = [
        row | {"category": "default"} | {side: text % row[side] for side, text in english.items()}
        for row in GOOD
    ]
    assert tune(pairs, folder=mine)[0] == 0
    assert not mine.exists()
    before = {path.name: path.read_bytes() for path in PACKAGED.iterdir()}
    status, _, err = tune(pairs, "--write", folder=mine)
    assert status == 0, err
    assert f"copied from the packaged categories to {mine}: code" in err
    assert {path.name for path in mine.iterdir()} == before.keys()
    changed = [name for name in before if (mine / name).read_bytes() != before[name]]
    assert changed == ["default.yaml"]
    assert {path.name: path.read_bytes() for path in PACKAGED.iterdir()} == before


def test_the_picture_needs_nothing_from_elsewhere(tune: Tune, tmp_path: Path) -> None:
    assert tune(GOOD, "--plot", "tune.html")[0] == 0
    page = (tmp_path / "tune.html").read_text()
    assert page.count("<svg") == 2
    assert "prefers-color-scheme:dark" in page
    addresses = re.findall(r"https?://[^\"' ]+", page)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(script|link|img)|@import|url\(", page)


def test_the_terminal_has_a_table_and_curves(tune: Tune) -> None:
    _, out, _ = tune(GOOD)
    assert re.search(r"\| baking +\| +360 \| +0\.97 \|", out)
    assert re.search(r"baking +█+", out)


def test_gzip_and_blank_lines_are_read(tune: Tune) -> None:
    lines = "\n\n".join(map(json.dumps, GOOD)).encode()
    assert categories(tune(gzip.compress(lines), "--json"))["baking"]["pairs"] == len(GOOD)


def test_a_mark_of_utf_8_before_the_first_line_is_no_part_of_it(tune: Tune) -> None:
    marked = b"\xef\xbb\xbf" + b"\n".join(json.dumps(row).encode() for row in GOOD)
    assert categories(tune(marked, "--json"))["baking"]["pairs"] == len(GOOD)


@pytest.mark.parametrize(
    ("pairs", "options", "status", "message"),
    [
        (b"", (), 2, "has no rows"),
        (b'{"a": "x", "b": "y"}', (), 2, "pairs.jsonl:1: equivalent: Field required"),
        (b'{"a": "x", "b": "y", "equivalent": "yes"}', (), 2, "equivalent: "),
        (b"nonsense", (), 2, "pairs.jsonl:1"),
        (b"\x1f\x8bnonsense", (), 2, "cannot be read"),
        (GOOD[:1], ("--category", "bakin"), 2, "did you mean 'baking'?"),
        (GOOD[:1], ("--wrong-rate", "0"), 2, "--wrong-rate"),
        (GOOD[:1], ("--plot", "no/such/folder.html"), 1, "no/such/folder.html"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tune: Tune, pairs: list[Row] | bytes, options: tuple[str, ...], status: int, message: str
) -> None:
    found, out, err = tune(pairs, *options)
    assert (found, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


def test_nothing_is_written_without_a_folder(tune: Tune) -> None:
    status, _, err = tune(GOOD, "--write", folder=None)
    assert status == 2
    assert "--write needs --categories FOLDER" in err


def test_a_broken_category_file_is_named(tune: Tune, book: Path) -> None:
    (book / "baking.yaml").write_text("{name: baking, threshold: 2, ttl: 1d}")
    status, _, err = tune(GOOD)
    assert status == 2
    assert "baking.yaml:1" in err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: x\nthreshold: 0.9\nttl: 1d\n", "name: x\nthreshold: 0.875\nttl: 1d\n"),
        ("{load: {threshold_drop: 0.1}, threshold: 0.9}", "{load: {threshold_drop: 0.1}, threshold: 0.875}"),
        ("# threshold: 0.5\n'threshold' :  0.9 # ü 0.9", "# threshold: 0.5\n'threshold' :  0.875 # ü 0.9"),
        ("\ufeffthreshold: 9.0e-1", "\ufeffthreshold: 0.875"),
        ("threshold: .9\r\nmatch: {patterns: ['threshold: .9']}\r\n",
         "threshold: 0.875\r\nmatch: {patterns: ['threshold: .9']}\r\n"),
    ],
)  # fmt: skip
def test_only_the_value_is_replaced(before: str, after: str) -> None:
    assert with_threshold(before, 0.875) == after


def test_names_in_a_chart_are_text() -> None:
    drawn = Chart("<b>", "x", (0, 1), (0, 1), [Line("<script>", [(0, 0), (2, 3)])]).svg()
    assert "<b>" not in drawn
    assert "<script>" not in drawn
