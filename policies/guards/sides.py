"""Two texts side by side: what one has and the other has not, and how an objection says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

SHOWN = 3
"""Words of each side in an objection's detail, at most."""

Sides = tuple[Set[str], Set[str]]
"""What only the first text has, and what only the second has."""


def differ(mine: Set[str], theirs: Set[str], soft: Set[str] = frozenset()) -> str | None:
    """What only one side has. Soft items count only where both sides have something of their own."""
    hard = (mine and theirs) or (mine | theirs) - soft
    return versus(mine, theirs) if hard else None


def clash(a: Mapping[str, Set[str]], b: Mapping[str, Set[str]]) -> str | None:
    """What both have stands with other things in one than in the other."""
    for key in a.keys() & b.keys():
        mine, theirs = a[key], b[key]
        if mine and theirs and mine.isdisjoint(theirs):
            return versus(mine, theirs)
    return None


def swapped(mine: Set[str], theirs: Set[str]) -> str | None:
    """What an objection says of two sides that both have something."""
    return versus(mine, theirs) if mine and theirs else None


def versus(mine: Iterable[str], theirs: Iterable[str]) -> str:
    """What an objection says of two sides."""
    left, right = (", ".join(sorted(side)[:SHOWN]).strip() for side in (mine, theirs))
    return f"{left or '-'} / {right or '-'}"
