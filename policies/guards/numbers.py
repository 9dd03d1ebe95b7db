"""The guards of numbers, word problems and dates."""

from __future__ import annotations

from policies.guards.facts import Facts
from policies.guards.sides import Sides, clash, differ, versus

_HARMLESS = frozenset("-/")
"""Signs that are hyphens and slashes as well."""


def numbers(a: Facts, b: Facts) -> str | None:
    """Another value, a value in one text only, or the same value in another unit ($800, £800) or as another
    limit (in 2002, before 2002).

    1,000 is 1000, "two" is 2, 24 hours are a day.
    """
    return (
        differ(*numbers_of_each(a, b), a.soft | b.soft)
        or _units(a, b)
        or clash(a.bounds, b.bounds)
        or _limited(a, b)
        or clash(_joined_numbers(a), _joined_numbers(b))
        or _signs(a, b)
    )


def numbers_of_each(a: Facts, b: Facts) -> Sides:
    return a.numbers.keys() - b.numbers.keys(), b.numbers.keys() - a.numbers.keys()


def _joined_numbers(a: Facts) -> dict[str, frozenset[str]]:
    """Divisible by "3 and 5", by "3 or 5"."""
    return {pair: between for pair, between in a.joined.items() if pair[0].isdigit()}


def _units(a: Facts, b: Facts) -> str | None:
    if other := clash(a.numbers, b.numbers):
        return other
    both = a.numbers.keys() & b.numbers.keys()
    gone = {unit: value for value in both for unit in a.numbers[value] - b.numbers[value]}
    come = {unit: value for value in both for unit in b.numbers[value] - a.numbers[value]}
    if moved := min(gone.keys() & come.keys(), default=None):
        return f"{gone[moved]} {moved} / {come[moved]} {moved}"
    return None


def _limited(a: Facts, b: Facts) -> str | None:
    """More than 3, where the other text says 3 and has no word at all that may limit it."""
    for one, other in ((a, b), (b, a)):
        for value, bound in one.bounds.items():
            free = value not in other.soft and other.bounds.get(value) == frozenset()
            if bound - {"at"} and free and one.limiting and not other.limiting:
                return f"{min(bound)} {value}"
    return None


def _signs(a: Facts, b: Facts) -> str | None:
    """Another operation. Where one text spells it out, or has but hyphens and slashes, nothing is said."""
    both = a.signs and b.signs and not _HARMLESS.issuperset((*a.signs, *b.signs))
    return f"{' '.join(a.signs)} / {' '.join(b.signs)}" if both and a.signs != b.signs else None


def quantities(a: Facts, b: Facts) -> str | None:
    """A number that one text says more often: in a word problem another item was added or left out."""
    mine, theirs = (
        [f"{count} x {value}" for value, count in side] for side in (a.tally - b.tally, b.tally - a.tally)
    )
    return versus(mine, theirs) if mine or theirs else None


def dates(a: Facts, b: Facts) -> str | None:
    """Another month, weekday, part of the day or relative day, or one in one text only."""
    return differ(*dates_of_each(a, b), a.soft | b.soft)


def dates_of_each(a: Facts, b: Facts) -> Sides:
    return a.dates - b.dates, b.dates - a.dates
