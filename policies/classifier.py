"""Which category a query belongs to: the caller's header decides, then rules, then the trained model."""

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
"""Confidence below which a query goes to `default`, whose threshold is strict."""

_TEMPERATURE = 0.12
"""Temperature when only the examples in category files are known, without the packaged ones."""

_READ = 8000
"""Characters of a text that rules look at. A regular expression over a megabyte would block the event
loop."""

_SEARCH_S = 0.05
"""Processor time of all rules for one text: microseconds, unless an expression backtracks without end."""

_OWN_WEIGHT = 8.0
_SURE_OF_CLASS = 10.0
"""The n examples in a category's file together weigh 8·n / (n + 10); all packaged ones of a category weigh 1.
Chosen on invented categories: ten examples then count among thousands, and take little from the others."""

OWN_VOICE = 2.0
"""Voice of prototypes whose examples were written to cover a category, rather than sampled."""

_MOST_PROTOTYPES = 200
"""Per category file; each prototype costs some tens of nanoseconds per decision."""

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
    """0 to 1. 1 if a header or a rule decided; for `default`, the confidence of the most likely category."""
    by: By


class Classifier:
    """Immutable: a changed book gets a new classifier."""

    def __init__(self, book: Book, packaged: Lessons, own: Mapping[str, Matrix], note: str = "") -> None:
        """`own`: vectors of the examples in the book's files, by category. `note`: why the packaged examples
        cannot be used, for people to read; "" if they can."""
        self.note = note
        self._book = book
        self._rules = _rules(book)
        lessons = packaged
        for name, vectors in own.items():
            prototypes = Prototypes.of(vectors, _MOST_PROTOTYPES, OWN_VOICE)
            lessons = lessons.taught(name, vectors, _share(len(vectors)), prototypes)
        replaced = _replaced(book, packaged, own)
        self._names = [name for name in lessons.sums if name not in replaced]
        # A single category would always win.
        self._solved = lessons.solved(self._names) if len(self._names) > 1 else None

    @classmethod
    async def taught(cls, book: Book, embedder: Embedder, packaged: Path = PACKAGED) -> Classifier:
        """Embeds the examples in the book's files, some milliseconds each, and adds them to the packaged
        ones.

        Raises whatever the embedder raises.
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
        """`vector`: of the text, unit length. None: it could not be embedded, so only header and rules
        decide. `header`: the category that the caller names; an unknown one is ignored.

        Raises `TookTooLong` when a regular expression of a rule does not finish in time.
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
    """The rules in the order in which they are tried: higher priority first, then by name."""
    ruled = [each for each in book.categories.values() if each.match.models or each.match.patterns]
    ordered = sorted(ruled, key=lambda each: (-each.priority, each.name))
    return [_Rule(c.name, c.match.models, tuple(map(re.compile, c.match.patterns))) for c in ordered]


def _known(embedder: Embedder, packaged: Path) -> tuple[Lessons, str]:
    """The packaged lessons, if they were made with the same embedding model; else empty ones and a note."""
    lessons = Lessons.load(packaged)
    if lessons.fingerprint == embedder.fingerprint:
        return lessons, ""
    note = (
        f"the packaged examples belong to the vectors of {lessons.fingerprint}, not {embedder.fingerprint}: "
        "categories are told apart by header, rules and the examples in their files only"
    )
    return Lessons.none(embedder.fingerprint, embedder.dimensions, _TEMPERATURE), note


def _replaced(book: Book, packaged: Lessons, own: Mapping[str, Matrix]) -> set[str]:
    """Packaged categories that the book has under another name: those that win most of the examples of one of
    its own categories.

    The other packaged categories that the book leaves out still compete, so that their queries go to
    `default` and not to the next best category.
    """
    names = list(packaged.sums)
    if not names or not own:
        return set()
    solved = packaged.solved(names)
    # A sample is enough: twenty thousand examples against every prototype would take 300 MiB.
    some = (vectors[:: -(-len(vectors) // _MOST_PROTOTYPES)] for vectors in own.values())
    found = (solved.confidences(vectors).argmax(axis=1) for vectors in some)
    winners = {names[int(np.bincount(each).argmax())] for each in found}
    return winners - set(book.categories)


def _share(examples: int) -> float:
    return _OWN_WEIGHT / (examples + _SURE_OF_CLASS)
