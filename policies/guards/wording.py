"""The guards of content words: what one text says that the other does not say in any form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from policies.guards import lexicon
from policies.guards.facts import Facts
from policies.guards.sides import SHOWN, versus
from policies.guards.words import stem


def wording(a: Facts, b: Facts) -> str | None:
    """Content words on both sides that have no counterpart (stem, synonym, spelling) on the other."""
    mine = list(islice(unmatched(a, b), SHOWN))
    theirs = list(islice(unmatched(b, a), SHOWN)) if mine else []
    return versus(mine, theirs) if theirs else None


_LONG = 40
"""Words among which two are no more than one in a short text."""


def exchange(a: Facts, b: Facts) -> str | None:
    """One content word in the place of another, all else word for word the same; in a long text several.

    Whoever says the same in other words rarely exchanges just one of them.
    """
    words, others = _plain(a), _plain(b)
    if len(words) != len(others):
        return None
    apart = [(stem(x), stem(y)) for x, y in zip(words, others, strict=True) if x != y]
    if not 1 <= len(apart) <= 1 + len(words) // _LONG:
        return None
    mine, theirs = set(unmatched(a, b)), set(unmatched(b, a))
    return next((f"{x} / {y}" for x, y in apart if x in mine and y in theirs), None)


def _plain(a: Facts) -> list[str]:
    return [word for word in a.flat.split() if word not in lexicon.DETERMINERS]


def _common(mine: Sequence[str], theirs: Sequence[str]) -> int:
    """Words or letters that both begin with."""
    return next(
        (i for i, (x, y) in enumerate(zip(mine, theirs, strict=False)) if x != y), min(len(mine), len(theirs))
    )


def additions(a: Facts, b: Facts) -> str | None:
    """One more thing, joined to the others by "and": "flight times", "flight times and fares"."""
    return _added(a, b) or _added(b, a)


_JOINING = frozenset(("and", "but"))


def _added(a: Facts, b: Facts) -> str | None:
    words = _plain(a)
    mine, theirs = (sum(word in _JOINING for word in each) for each in (words, b.flat.split()))
    if mine <= theirs:
        return None
    threes = zip(("", *words), words, (*words[1:], ""), strict=False)
    joined = {stem(each) for before, word, after in threes if word in _JOINING for each in (before, after)}
    return next((f"and {word}" for word in unmatched(a, b) if word in joined), None)


def unmatched(a: Facts, b: Facts) -> Iterator[str]:
    """Stems of the content words of `a` that have no counterpart in `b`, in order."""
    return (word for word in a.words if word not in b.stems and not _counterpart(word, b))


def _counterpart(word: str, other: Facts) -> bool:
    if word in other.flat.replace(" ", "") and len(word) >= 4:
        return True
    return any(each[0] == word[0] and _related(word, each) for each in other.stems)


@lru_cache(maxsize=16_384)
def _related(word: str, other: str) -> bool:
    """Same root by a long common beginning, or one slip of the pen apart."""
    short, long = sorted((word, other), key=len)
    if len(short) >= 4 and len(long) >= 6:
        common = _common(short, long)
        if common >= 4 and common >= 0.7 * len(long):
            return True
    return alike(word, other)


@lru_cache(maxsize=16_384)
def alike(word: str, other: str) -> bool:
    """One letter added, dropped or replaced, or two neighbours swapped, in words of six letters or more."""
    short, long = sorted((word, other), key=len)
    if len(short) < 5 or len(long) < 6 or len(long) - len(short) > 1 or short[0] != long[0]:
        return False
    at = _common(short, long)
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    return short[at + 1 :] == long[at + 1 :] or (
        short[at : at + 2] == long[at : at + 2][::-1] and short[at + 2 :] == long[at + 2 :]
    )
