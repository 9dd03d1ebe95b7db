"""The guards of what is named: names, places, identifiers and code; and of what no rule can read."""

from __future__ import annotations

from policies.guards.facts import Facts, flat
from policies.guards.numbers import dates_of_each, numbers_of_each
from policies.guards.sides import Sides, clash, differ, swapped, versus
from policies.guards.wording import alike
from policies.guards.words import stem


def language(a: Facts, b: Facts) -> str | None:
    """Other words, or the same in another order, where a text is not in English or may not be; a sign or an
    emoji in the place of another."""
    if "".join(a.unread) != "".join(b.unread):
        mine, theirs = set(a.unread), set(b.unread)
        return versus(mine - theirs, theirs - mine)
    if a.keywords and b.keywords and a.keywords != b.keywords:
        return versus(a.keywords - b.keywords, b.keywords - a.keywords)
    return swapped(a.symbols - b.symbols, b.symbols - a.symbols)


def swaps(a: Facts, b: Facts) -> str | None:
    """A number, date, name or identifier in the place of another; what only one text adds does not count.

    For categories where people add harmless detail: the guards of these four things count additions too.
    """
    return next((found for look in _LOOKS if (found := swapped(*look(a, b)))), None)


def identifiers(a: Facts, b: Facts) -> str | None:
    """A quoted string, path, file name, flag, identifier or named tool that the other text does not have; a
    letter or a mark such as "dir1" in the place of another; code, a quotation or a unit with other capitals;
    the same words with other indentation."""
    return (
        differ(*_identifiers(a, b))
        or swapped(*_marks(a, b))
        or clash(a.literals, b.literals)
        or _layout(a, b)
        or _punctuated(a, b)
        or _compounds(a, b)
    )


def _compounds(a: Facts, b: Facts) -> str | None:
    """One part of a word with a hyphen in the place of another: "no-cache", "no-store"."""
    for mine in a.compounds - b.compounds:
        for theirs in b.compounds - a.compounds:
            parts, others = mine.split("-"), theirs.split("-")
            apart = [(x, y) for x, y in zip(parts, others, strict=False) if stem(x) != stem(y)]
            if len(parts) == len(others) and len(apart) == 1:
                x, y = apart[0]
                if f" {x} " not in b.flat and f" {y} " not in a.flat:
                    return f"{mine} / {theirs}"
    return None


def _layout(a: Facts, b: Facts) -> str | None:
    other = a.indents and b.indents and a.flat == b.flat and a.indents != b.indents
    return "indentation" if other else None


def _punctuated(a: Facts, b: Facts) -> str | None:
    """Code of the same words with other signs: "src/" and "src", "./tmp" and "/tmp", (8 - 3) x 2 and 8 - 3
    x 2."""
    if a.flat != b.flat:
        return None
    if (a.signs or b.signs) and _other_sum(a.shape, b.shape):
        return "signs and brackets"
    return None if a.code == b.code else versus(a.code - b.code, b.code - a.code)


def _other_sum(mine: str, theirs: str) -> bool:
    """Hyphens and slashes may be left out, but not change places."""
    if sorted(mine) == sorted(theirs):
        return mine != theirs
    return mine.translate(_HYPHENS) != theirs.translate(_HYPHENS)


_HYPHENS = str.maketrans("", "", "-/")


def entities(a: Facts, b: Facts) -> str | None:
    """A name or a place that the other text does not have."""
    return differ(*_names(a, b), a.soft | b.soft)


def _identifiers(a: Facts, b: Facts) -> Sides:
    mine, theirs = (
        {i for i in x.identifiers - y.identifiers if i.strip() not in y.written_in}
        for x, y in ((a, b), (b, a))
    )
    return {i for i in mine if i not in b.flat}, {i for i in theirs if i not in a.flat}


def _marks(a: Facts, b: Facts) -> Sides:
    return a.marks - b.marks, b.marks - a.marks


def _names(a: Facts, b: Facts) -> Sides:
    mine, theirs = a.names - b.names, b.names - a.names
    return {name for name in mine if not _named(name, b)}, {name for name in theirs if not _named(name, a)}


def _named(name: str, other: Facts) -> bool:
    if f" {name} " in other.flat or stem(name) in other.stems or flat(name) in other.flat:
        return True
    if name in other.written_in:
        return True
    if name.isalpha() and 2 <= len(name) <= 5 and name in other.initials:
        return True
    return any(word[0] == name[0] and alike(name, word) for word in other.flat.split())


_LOOKS = (numbers_of_each, dates_of_each, _identifiers, _names)
