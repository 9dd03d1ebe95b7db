"""Which category a query belongs to: what the caller says, then rules, then what examples taught."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.book import Book
from policies.bounded import TookTooLong, cpu_time
from policies.lessons import Lessons
from policies.prototypes import Prototypes

PACKAGED = Path(__file__).with_name("classifier.npz")

CONFIDENT = 0.5
"""Below it the query goes to `default`, whose threshold is strict."""

_TEMPERATURE = 0.12
"""Of confidences where nothing but a person's own examples is known."""

_READ = 8000
"""Rules read so many characters of a text: a regular expression over a megabyte would hold the event loop."""

_SEARCH_S = 0.05
"""Processor time of all rules for one text: microseconds, unless an expression backtracks without end."""

_OWN_WEIGHT = 8.0
_SURE_OF_CLASS = 10.0
"""n examples in a category's file together weigh 8·n / (n + 10), all packaged ones of a category 1. Chosen on
invented categories: ten examples are then heard among thousands, and take little from the others."""

OWN_VOICE = 2.0
"""Of a prototype of examples that were written to cover a category, here or in its file."""

_MOST_PROTOTYPES = 200
"""Of a category's file: each costs some tens of nanoseconds a decision."""

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]
By = Literal["header", "rule", "examples", "default"]


class Embedder(Protocol):
    @property
    def fingerprint(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    async def embed_many(self, texts: Sequence[str]) -> Matrix: ...


@dataclass(frozen=True, slots=True)
class Classification:
    category: str
    confidence: float
    """0 to 1; 1 where a header or a rule decided; where `default` was taken, that of the likeliest."""
    by: By


class Classifier:
    """Immutable; a changed book gets a new one."""

    def __init__(self, book: Book, packaged: Lessons, own: Mapping[str, Matrix], note: str = "") -> None:
        """`own`: vectors of the examples in the book's files, by category.
        `note`: what keeps the packaged examples from being used, for people to read; or empty.
        """
        self.note = note
        self._book = book
        self._rules = _rules(book)
        lessons = packaged
        for name, vectors in own.items():
            prototypes = Prototypes.of(vectors, _MOST_PROTOTYPES, OWN_VOICE)
            lessons = lessons.taught(name, vectors, _share(len(vectors)), prototypes)
        replaced = _replaced(book, packaged, own)
        self._names = [name for name in lessons.sums if name not in replaced]
        # One alone would win always: nothing can be told from nothing.
        self._solved = lessons.solved(self._names) if len(self._names) > 1 else None

    @classmethod
    async def taught(cls, book: Book, embedder: Embedder, packaged: Path = PACKAGED) -> Classifier:
        """Embeds the examples in the book's files, some milliseconds each; adds them to the packaged ones.

        Raises what the embedder raises.
        """
        own = {
            name: await embedder.embed_many(category.examples)
            for name, category in book.categories.items()
            if category.examples
        }
        return await asyncio.to_thread(cls._of, book, embedder, own, packaged)

    @classmethod
    def _of(cls, book: Book, embedder: Embedder, own: Mapping[str, Matrix], packaged: Path) -> Classifier:
        lessons, note = _known(embedder, packaged)
        return cls(book, lessons, own, note)

    def classify(
        self, *, text: str, model: str = "", vector: Vector | None = None, header: str | None = None
    ) -> Classification:
        """`vector`: of the text, unit length; None if it could not be embedded: header and rules decide.
        `header`: the category that the caller names; an unknown one is ignored.

        Raises `TookTooLong` when a regular expression of a rule does not come to an end.
        """
        if header is not None and header in self._book.categories:
            return Classification(header, 1.0, "header")
        if (ruled := self._by_rule(text[:_READ], model)) is not None:
            return Classification(ruled, 1.0, "rule")
        if vector is None or self._solved is None:
            return Classification("default", 0.0, "default")
        confidences = self._solved.confidences(vector[None])[0]
        best = int(confidences.argmax())
        name, confidence = self._names[best], float(confidences[best])
        if confidence < CONFIDENT or name not in self._book.categories:
            return Classification("default", confidence, "default")
        return Classification(name, confidence, "examples")

    def _by_rule(self, text: str, model: str) -> str | None:
        asked = ""
        try:
            with cpu_time(_SEARCH_S):
                for rule in self._rules:
                    asked = rule.category
                    if rule.applies(text, model):
                        return asked
        except TookTooLong:
            raise TookTooLong(f"match.patterns of {asked} took longer than {_SEARCH_S:g} s") from None
        return None


@dataclass(frozen=True, slots=True)
class _Rule:
    category: str
    models: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]

    def applies(self, text: str, model: str) -> bool:
        named = any(fnmatchcase(model, shape) for shape in self.models)
        return named or any(pattern.search(text) for pattern in self.patterns)


def _rules(book: Book) -> list[_Rule]:
    """The rules in the order in which they are asked: higher priority first, then by name."""
    ruled = [each for each in book.categories.values() if each.match.models or each.match.patterns]
    ordered = sorted(ruled, key=lambda each: (-each.priority, each.name))
    return [_Rule(c.name, c.match.models, tuple(map(re.compile, c.match.patterns))) for c in ordered]


def _known(embedder: Embedder, packaged: Path) -> tuple[Lessons, str]:
    """The packaged lessons where they are of the embedder's vector space."""
    lessons = Lessons.load(packaged)
    if lessons.fingerprint == embedder.fingerprint:
        return lessons, ""
    note = (
        f"the packaged examples belong to the vectors of {lessons.fingerprint}, not {embedder.fingerprint}: "
        "categories are told apart by header, rules and the examples in their files only"
    )
    return Lessons.none(embedder.fingerprint, embedder.dimensions, _TEMPERATURE), note


def _replaced(book: Book, packaged: Lessons, own: Mapping[str, Matrix]) -> set[str]:
    """Packaged categories that the book has under another name: they win most examples of one of its own.

    Other packaged ones that the book left out stay in the contest, so that what is theirs goes to `default`
    and not to whatever comes next.
    """
    names = list(packaged.sums)
    if not names or not own:
        return set()
    solved = packaged.solved(names)
    # Some of very many: all of twenty thousand against every prototype take 300 MiB.
    some = (vectors[:: -(-len(vectors) // _MOST_PROTOTYPES)] for vectors in own.values())
    found = (solved.confidences(vectors).argmax(axis=1) for vectors in some)
    winners = {names[int(np.bincount(each).argmax())] for each in found}
    return winners - set(book.categories)


def _share(examples: int) -> float:
    return _OWN_WEIGHT / (examples + _SURE_OF_CLASS)
