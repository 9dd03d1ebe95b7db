"""The guard of what is turned into its opposite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache

from policies.guards.facts import Facts
from policies.guards.opposites import ENDINGS, EXCHANGED, NEGATING, OPPOSITES

_LEAST_ROOT = 3
"""Letters of what remains without an affix."""


def negation(a: Facts, b: Facts) -> str | None:
    """A "not" without a counterpart in the other text, or opposite terms (before/after, visible/invisible);
    both cancel out, unless the "not" is itself one of the terms (with/without, always/never). Terms of one
    kind (file/folder, gold/silver/bronze) are never cancelled by a "not"."""
    opposites = _opposites(a, b)
    if of_a_kind := [words for family, words in opposites if family >= len(OPPOSITES)]:
        return of_a_kind[0]
    terms = opposites[0][1] if opposites else _affixed(a, b)
    if terms and bool(_further(a)) != bool(_further(b)):
        return None
    one_side = any(x.negators and not (y.negators or y.doubtful - x.doubtful) for x, y in ((a, b), (b, a)))
    return terms or ("one side only" if one_side else _halted(a, b) or _halted(b, a) or _absent(a, b))


def _halted(a: Facts, b: Facts) -> str | None:
    """To stop what the other text does; not what has stopped by itself."""
    ends = a.halted & b.roots - b.halted if not (b.negators or b.doubtful) else frozenset()
    return f"stop {min(ends)}" if ends else None


def _present(a: Facts, b: Facts) -> Set[str]:
    """What `a` has none of and `b` has."""
    return (a.absent.keys() & b.roots) - frozenset().union(*b.absent.values())


_ABSENCE = frozenset(("no", "without", "nor", "neither"))


def _absent(a: Facts, b: Facts) -> str | None:
    """Neither rash nor fever, a rash and no fever: of what both name, another thing is missing."""
    if not (a.negators and b.negators and (a.negators | b.negators) <= _ABSENCE):
        return None
    gone = _present(a, b) | _present(b, a)
    return f"no {min(gone)}" if gone else None


def _further(a: Facts) -> Set[str]:
    """Negators that have no opposite of their own."""
    return a.negators - {word for *_, word in a.poles}


def _opposites(a: Facts, b: Facts) -> list[tuple[int, str]]:
    """Family and words. Those that both texts have say nothing: the "on" of "enable it on my phone" opposes
    no "disable"."""
    mine, theirs = _by_pole(a.poles - b.poles), _by_pole(b.poles - a.poles)
    left, right = mine.keys() - theirs.keys(), theirs.keys() - mine.keys()
    common = {family for family, _ in left} & {family for family, _ in right}
    return [
        (family, f"{_least(family, left, mine)} / {_least(family, right, theirs)}")
        for family in sorted(common)
    ]


def _least(family: int, poles: Set[tuple[int, int]], words: Mapping[tuple[int, int], str]) -> str:
    return min(words[pole] for pole in poles if pole[0] == family)


def _affixed(a: Facts, b: Facts) -> str:
    """Opposites by their prefix or ending, each on one side only."""
    mine, theirs = a.roots - b.roots, b.roots - a.roots
    pairs = {(x, y) for x in mine for y in opposed(x) & theirs}
    pairs |= {(x, y) for y in theirs for x in opposed(y) & mine}
    return " / ".join(min(pairs, default=()))


@lru_cache(maxsize=16_384)
def opposed(root: str) -> frozenset[str]:
    """The root with the opposite prefix or ending, and without a negating prefix; most are no words."""
    bare = {root[len(prefix) :] for prefix in NEGATING if root.startswith(prefix)}
    found = {rest for rest in bare if len(rest) >= _LEAST_ROOT + 1}
    for one, other in _both_ways(EXCHANGED):
        rest = root.removeprefix(one)
        found |= {other + rest} if rest != root and len(rest) >= _LEAST_ROOT else set()
    for one, other in _both_ways(ENDINGS):
        rest = root.removesuffix(one)
        found |= {rest + other} if rest != root and len(rest) >= _LEAST_ROOT else set()
    return frozenset(found)


def _both_ways(pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    return (*pairs, *((other, one) for one, other in pairs))


def _by_pole(terms: Iterable[tuple[int, int, str]]) -> dict[tuple[int, int], str]:
    return {(family, pole): word for family, pole, word in sorted(terms, reverse=True)}
