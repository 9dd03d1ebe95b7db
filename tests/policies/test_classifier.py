"""The order in which a category is decided, and what a few examples of one's own teach."""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embeddings.base import Embedder
from embeddings.opening import open_embedder
from policies.book import Book
from policies.bounded import TookTooLong
from policies.classifier import CONFIDENT, PACKAGED, Classifier
from policies.lessons import Lessons, Solved
from policies.model import Category, Match
from policies.prototypes import RADIUS, Prototypes, nearness

DIMENSIONS = 8


class Axes:
    """An embedder whose vector of a text is the axis that its first letter names."""

    fingerprint = "axes"
    dimensions = DIMENSIONS

    async def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        await asyncio.sleep(0)
        return np.stack([axis(text) for text in texts])


def axis(text: str) -> NDArray[np.float32]:
    vector = np.full(DIMENSIONS, 0.05, np.float32)
    vector["abcdefgh".index(text[0])] = 1.0
    return vector / np.linalg.norm(vector)


def category(
    name: str, *, examples: Sequence[str] = (), priority: int = 1, **match: tuple[str, ...]
) -> Category:
    rules = Match(**match)
    return Category(name, threshold=0.9, ttl=60, examples=tuple(examples), priority=priority, match=rules)


def book(*categories: Category) -> Book:
    return Book.of([category("default"), *categories])


async def taught(*categories: Category, packaged: Path = PACKAGED) -> Classifier:
    return await Classifier.taught(book(*categories), Axes(), packaged)


ANIMALS = category("animals", examples=["ant", "ape", "asp"])
BIRDS = category("birds", examples=["budgie", "bustard", "bittern"])


async def test_a_header_goes_before_rules_and_rules_before_examples() -> None:
    classifier = await taught(ANIMALS, BIRDS, category("code", patterns=("```",), models=("*-coder",)))

    def by(text: str, model: str = "any", header: str | None = None) -> tuple[str, str]:
        found = classifier.classify(text=text, model=model, vector=axis("a"), header=header)
        return found.by, found.category

    assert by("``` x", header="birds") == ("header", "birds")
    assert by("``` x", header="unheard-of") == ("rule", "code")
    assert by("x", model="big-coder") == ("rule", "code")
    assert by("x") == ("examples", "animals")


async def test_among_rules_the_higher_priority_is_asked_first_then_the_name() -> None:
    low, high = category("a", patterns=("x",)), category("z", patterns=("x",), priority=2)
    assert (await taught(low, high)).classify(text="x").category == "z"
    assert (await taught(low, category("b", patterns=("x",)))).classify(text="x").category == "a"


async def test_rules_read_the_beginning_of_a_long_text() -> None:
    classifier = await taught(category("code", patterns=("```",)))
    assert classifier.classify(text="x" * 5000 + "```").category == "code"
    assert classifier.classify(text="x" * 50_000 + "```").category == "default"


async def test_a_rule_that_backtracks_without_end_is_ended_and_named() -> None:
    classifier = await taught(category("code", patterns=("^(a+)+$",)), category("fine", models=("m",)))
    with pytest.raises(TookTooLong, match="patterns of code"):
        classifier.classify(text="a" * 60 + "b")
    for _ in range(3):
        assert classifier.classify(text="b", model="m").category == "fine"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("```\nx = 1\n```\nwhat is wrong here?", "code"),
        ("TypeError: unsupported operand", "code"),
        ("def total(rows):", "code"),
        ("SELECT * FROM users gives nothing", "data_query"),
        ("the function f(x) is continuous", "default"),
        ("what is in $PATH", "default"),
        ("a class action (with many plaintiffs)", "default"),
    ],
)
def test_the_packaged_rules(text: str, name: str) -> None:
    classifier = Classifier(Book.from_folder(), Lessons.none("any", DIMENSIONS, 0.1), {})
    assert classifier.classify(text=text).category == name


async def test_without_a_vector_or_sure_enough_of_none_it_is_the_default() -> None:
    classifier = await taught(ANIMALS, BIRDS, category("cats", examples=["cat", "civet", "cougar"]))
    blind = classifier.classify(text="ant", vector=None)
    assert (blind.category, blind.by, blind.confidence) == ("default", "default", 0.0)
    between = (axis("a") + axis("b")) / np.float32(np.sqrt(2))
    unsure = classifier.classify(text="?", vector=between)
    assert (unsure.category, unsure.by) == ("default", "default")
    assert 0.3 < unsure.confidence < CONFIDENT


async def test_a_book_without_examples_still_classifies() -> None:
    found = (await taught(category("code", patterns=("```",)))).classify(text="hello", vector=axis("a"))
    assert (found.category, found.by) == ("default", "default")


async def test_vectors_of_another_space_leave_the_packaged_examples_out_and_say_so() -> None:
    classifier = await taught(ANIMALS, BIRDS)
    assert "axes" in classifier.note
    assert "the examples in their files only" in classifier.note
    assert classifier.classify(text="?", vector=axis("b")).category == "birds"


def taught_four(lessons: Lessons, name: str, letter: str) -> Lessons:
    vectors = np.stack([axis(letter)] * 4)
    return lessons.taught(name, vectors, 1.0, Prototypes.of(vectors, 2))


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    """A packaged file that knows animals, birds and cats."""
    lessons = Lessons.none("axes", DIMENSIONS, 0.1)
    for name, letter in (("animals", "a"), ("birds", "b"), ("cats", "c")):
        lessons = taught_four(lessons, name, letter)
    lessons.save(tmp_path / "lessons.npz")
    return tmp_path / "lessons.npz"


async def test_what_belongs_to_a_category_that_the_book_left_out_goes_to_the_default(packaged: Path) -> None:
    classifier = await taught(category("animals"), category("birds"), packaged=packaged)
    assert classifier.note == ""
    assert classifier.classify(text="?", vector=axis("b")).category == "birds"
    assert classifier.classify(text="?", vector=axis("c")).category == "default"


async def test_a_packaged_category_under_a_new_name_is_replaced(packaged: Path) -> None:
    felines = category("felines", examples=["cat", "civet", "cougar"])
    classifier = await taught(category("animals"), felines, packaged=packaged)
    assert classifier.classify(text="?", vector=axis("c")).category == "felines"
    assert classifier.classify(text="?", vector=axis("b")).category == "default"


async def test_of_very_many_examples_some_are_asked_whose_they_were(
    packaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, confidences = [], Solved.confidences

    def counted(solved: Solved, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(len(vectors))
        return confidences(solved, vectors)

    monkeypatch.setattr(Solved, "confidences", counted)
    felines = category("felines", examples=["cat"] * 1500 + ["bat"] * 500)
    classifier = await taught(category("animals"), felines, packaged=packaged)
    assert max(asked) <= 200
    assert classifier.classify(text="?", vector=axis("c")).category == "felines"


async def test_a_single_category_with_examples_does_not_win_everything() -> None:
    classifier = await taught(ANIMALS)
    assert classifier.classify(text="?", vector=axis("b")).category == "default"


async def test_own_examples_join_the_packaged_ones(packaged: Path) -> None:
    more = category("birds", examples=["heron", "hawk", "hen"])
    classifier = await taught(category("animals"), more, category("cats"), packaged=packaged)
    for letter, name in (("b", "birds"), ("h", "birds"), ("a", "animals")):
        assert classifier.classify(text="?", vector=axis(letter)).category == name


def test_saved_lessons_are_the_same_when_read(packaged: Path) -> None:
    read = Lessons.load(packaged)
    expected = Lessons.none("axes", DIMENSIONS, 0.1)
    for name, letter in (("animals", "a"), ("birds", "b"), ("cats", "c")):
        expected = taught_four(expected, name, letter)
    assert (read.fingerprint, read.temperature, list(read.sums)) == (
        "axes",
        0.1,
        ["animals", "birds", "cats"],
    )
    asked = np.stack([axis(letter) for letter in "abcdefgh"])
    np.testing.assert_allclose(
        read.solved(list(read.sums)).confidences(asked),
        expected.solved(list(expected.sums)).confidences(asked),
        atol=0.01,
    )


def test_the_line_does_not_depend_on_the_order_or_the_portions() -> None:
    rng = np.random.default_rng(3)
    rows, names = rng.normal(size=(12, DIMENSIONS)).astype(np.float32), ["x", "y"] * 6
    at_once = Lessons.none("f", DIMENSIONS, 1.0)
    for name in ("x", "y"):
        mine = rows[[each == name for each in names]]
        at_once = at_once.taught(name, mine, 1.0, Prototypes.of(mine, 2))
    one_by_one = Lessons.none("f", DIMENSIONS, 1.0)
    for row, name in reversed(list(zip(rows, names, strict=True))):
        one_by_one = one_by_one.taught(name, row[None], 1.0, Prototypes.of(row[None], 1))
    np.testing.assert_allclose(
        at_once.solved(["x", "y"]).scores(rows),
        one_by_one.solved(["x", "y"]).scores(rows),
        rtol=1e-4,
        atol=1e-5,
    )


def test_where_no_prototype_is_near_the_line_decides_and_where_one_is_that_does() -> None:
    near, far = axis("a"), axis("b")
    lessons = Lessons.none("f", DIMENSIONS, 0.1)
    # The line of x goes through both places; the only prototype at the first is of y.
    for name, place in (("x", far), ("y", near)):
        both = np.stack([near, far])
        weight = 5.0 if name == "x" else 1.0
        lessons = lessons.taught(name, both, weight, Prototypes.of(place[None], 1))
    solved = lessons.solved(["x", "y"])
    asked = np.stack([near, far, axis("h")])
    assert list(solved.scores(asked).argmax(axis=1)) == [0, 0, 0]
    assert list(solved.confidences(asked).argmax(axis=1)) == [1, 0, 0]


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))
def test_clusters_cover_every_example(examples: int, count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(examples, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = Prototypes.of(vectors, count, voice=2.0)
    assert 1 <= len(found) <= min(count, examples)
    assert np.square(found.voices / 2.0).sum() == pytest.approx(examples, rel=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.centres, axis=1), 1.0, rtol=1e-5)
    again = Prototypes.unpacked(found.packed(), found.voices)
    assert np.sum(again.centres * found.centres, axis=1).min() > 0.99


def test_a_prototype_says_nothing_beyond_its_radius() -> None:
    voices = nearness(np.array([1.0, 0.9, RADIUS, 0.0, -1.0], np.float32))
    assert voices[0] == 1.0
    assert 0.0 < voices[1] < 1.0
    assert list(voices[2:]) == [0.0, 0.0, 0.0]


def test_the_shipped_file_knows_every_packaged_category_and_is_small() -> None:
    assert set(Lessons.load(PACKAGED).sums) == set(Book.from_folder().categories) - {"default"}
    assert PACKAGED.stat().st_size < 1_000_000


GARDEN = """
when should I prune roses
my tomato leaves turn yellow
how often do I water a cactus
which plants grow in the shade
how to get rid of slugs
best soil for blueberries
can I plant garlic in spring
why does my lawn have moss
how deep do tulip bulbs go
repotting an orchid
"""
GARDEN_LATER = """
how do I make compost
when to sow carrots
aphids on my peppers
how to prune an apple tree
what fertiliser for hydrangeas
grow basil indoors
why are the leaves of my monstera brown
distance between potato plants
how to grow grass from seed
when do strawberries need to be covered
"""
OTHERS = {
    "code": "how do I iterate over a dictionary in python",
    "weather": "will it be windy in Glasgow tomorrow",
    "medical": "what helps against a migraine",
    "travel": "cheap hotels close to the airport in Denver",
    "customer_support": "I have not received my refund for the returned jacket",
    "math": "A farmer has 36 sheep and sells 9. How many are left?",
}


@pytest.fixture
async def real() -> AsyncIterator[Embedder]:
    opened = await asyncio.to_thread(open_embedder, "onnx")
    yield opened
    await opened.close()


async def test_ten_examples_teach_a_new_category_beside_the_packaged_ones(real: Embedder) -> None:
    packaged = await asyncio.to_thread(Book.from_folder)
    garden = category("garden", examples=GARDEN.strip().splitlines())
    classifier = await Classifier.taught(Book.of([*packaged.categories.values(), garden]), real)
    later = GARDEN_LATER.strip().splitlines()
    vectors = await real.embed_many(later)
    found = [classifier.classify(text=t, vector=v).category for t, v in zip(later, vectors, strict=True)]
    assert found.count("garden") >= 7
    vectors = await real.embed_many(list(OTHERS.values()))
    others = [classifier.classify(text="", vector=v).category for v in vectors]
    assert "garden" not in others
    assert sum(guess == truth for guess, truth in zip(others, OTHERS, strict=True)) >= 5


async def test_labelled_questions_are_classified_as_measured(real: Embedder) -> None:
    data = Path(os.environ.get("NEARHIT_DATA", "../shared/data")) / "categories_dev.jsonl.gz"
    if not data.exists():
        pytest.skip(f"no labelled data at {data}: set NEARHIT_DATA")
    rows = [json.loads(line) for line in gzip.decompress(data.read_bytes()).splitlines()][::40]
    classifier = await Classifier.taught(await asyncio.to_thread(Book.from_folder), real)
    vectors = await real.embed_many([row["query"] for row in rows])
    found = [classifier.classify(text="", vector=v) for v in vectors]
    pairs = zip(found, (row["category"] for row in rows), strict=True)
    sure = [(each.category, truth) for each, truth in pairs if each.by == "examples"]
    assert len(sure) > 0.7 * len(rows)
    assert sum(guess == truth for guess, truth in sure) > 0.84 * len(sure)
