"""Everyday questions, written for this: pairs that differ in next to nothing and want other answers
(`near_opposites.tsv`), and rewordings of one question (`rewordings.tsv`).

A line is category, one question, another; "served" behind it: at the packaged threshold and guards the one
gets the other's answer all the same, which is wrong and known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from embeddings.base import Vector
from embeddings.opening import open_encoder
from policies.book import Book
from policies.guards.objections import objection

Embed = Callable[[str], Vector]

BOOK = Book.from_folder()


def lines(name: str) -> list[list[str]]:
    return [line.split("\t") for line in Path(__file__).with_name(name).read_text().splitlines()]


@pytest.fixture(scope="module")
def embed() -> Embed:
    encoder = open_encoder("onnx", threads=1)
    return lambda text: encoder.encode([encoder.tokenize(text)])[0]


def near(embed: Embed, pair: Sequence[str]) -> bool:
    category, one, other, *_ = pair
    return float(embed(one) @ embed(other)) >= BOOK.categories[category].threshold


def passes(pair: Sequence[str]) -> bool:
    category, one, other, *_ = pair
    return objection(BOOK.categories[category].guards, other, one) is None


def test_no_near_opposite_is_served_but_those_known(embed: Embed) -> None:
    known = {(pair[1], pair[2]) for pair in lines("near_opposites.tsv") if pair[3:] == ["served"]}
    unobjected = [pair for pair in lines("near_opposites.tsv") if passes(pair)]
    served = {(pair[1], pair[2]) for pair in unobjected if near(embed, pair)}
    assert len(served) > 100, "so near that they say something"
    assert served <= known


def test_guards_let_three_of_four_rewordings_pass(embed: Embed) -> None:
    close = [pair for pair in lines("rewordings.tsv")[::3] if near(embed, pair)]
    assert len(close) > 150
    assert sum(map(passes, close)) > 0.75 * len(close)
