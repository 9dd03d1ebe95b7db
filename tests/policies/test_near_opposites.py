"""Pairs of everyday questions, written for this, that differ in next to nothing and want other answers.

`near_opposites.tsv`: category, one question, another. At the packaged thresholds and guards none may be
served for the other but those known.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embeddings.base import Encoder
from embeddings.opening import open_encoder
from policies.book import Book
from policies.guards import objection

KNOWN = {
    "Who wrote Pride and Prejudice?",
    "Who is the prime minister of the UK?",
    "Tom buys 5 apples and eats 2. How many are left?",
}
"""Served, and wrongly: the first of each pair. Nothing but the sense of a verb tells these apart."""

Pair = tuple[str, str, str]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    lines = Path(__file__).with_name("near_opposites.tsv").read_text().splitlines()
    return [(category, one, other) for category, one, other in (line.split("\t") for line in lines)]


@pytest.fixture(scope="module")
def similarity(pairs: list[Pair]) -> dict[Pair, float]:
    encoder = open_encoder("onnx", threads=1)
    return {pair: float(np.dot(*_vectors(encoder, pair[1:]))) for pair in pairs}


def _vectors(encoder: Encoder, texts: tuple[str, ...]) -> list[np.ndarray]:
    return [encoder.encode([encoder.tokenize(text)])[0] for text in texts]


def test_none_is_served_for_the_other_but_those_known(
    pairs: list[Pair], similarity: dict[Pair, float]
) -> None:
    book = Book.from_folder()
    served = set()
    for pair in pairs:
        category, one, other = pair
        policy = book.categories[category]
        if similarity[pair] >= policy.threshold and not objection(policy.guards, other, one):
            served.add(one)
    assert served <= KNOWN


def test_without_guards_many_would_be(pairs: list[Pair], similarity: dict[Pair, float]) -> None:
    """So the pairs are near enough to say something."""
    book = Book.from_folder()
    near = [pair for pair in pairs if similarity[pair] >= book.categories[pair[0]].threshold]
    assert len(near) > len(pairs) / 3
