"""Objections to serving the answer stored for one question to another.

Cosine hardly sees a changed number, an added "not", another file name or city. Each guard looks at one such
thing in both texts and names what it found. They compare `Facts`, extracted once per text and remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from functools import lru_cache
from itertools import takewhile

from policies.guards_asked import same_kind
from policies.guards_direction import direction
from policies.guards_facts import Facts, facts, flat
from policies.guards_opposites import ENDINGS, EXCHANGED, NEGATING, OPPOSITES
from policies.guards_wording import additions, alike, exchange, wording
from policies.guards_words import stem, stems, swapped, versus

_LEAST_ROOT = 3
"""Letters of what remains without an affix."""
_HARMLESS = frozenset("-/")
"""Signs that are hyphens and slashes as well."""

Guard = Callable[[Facts, Facts], str | None]


def objection(names: Sequence[str], asked: str, stored: str) -> str | None:
    """Why the answer stored for `stored` should not be served to `asked`, as "guard: detail", or None.

    `names` are tried in order. A guard that raises, or a name that is not in `GUARDS`, objects.
    """
    if asked == stored:
        return None
    try:
        return objection_between(names, facts(asked), facts(stored))
    except Exception as error:  # noqa: BLE001  a text that cannot be read is no reason to serve a doubtful answer
        return f"facts: {type(error).__name__}"


def read_ahead(text: str) -> None:
    """Whoever asks for an objection to the text later finds it read."""
    with suppress(Exception):  # `objection` meets the same, and objects
        facts(text)


def objection_between(names: Sequence[str], asked: Facts, stored: Facts) -> str | None:
    """`objection` for facts at hand."""
    for name in names:
        if detail := _ask(name, asked, stored):
            return f"{name}: {detail}"
    return None


def _ask(name: str, asked: Facts, stored: Facts) -> str | None:
    try:
        return GUARDS[name](asked, stored)
    except Exception as error:  # noqa: BLE001  no hit rather than a wrong one
        return type(error).__name__


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


def numbers(a: Facts, b: Facts) -> str | None:
    """Another value, a value in one text only, or the same value in another unit ($800, £800) or as another
    limit (in 2002, before 2002).

    1,000 is 1000, "two" is 2, 24 hours are a day.
    """
    return (
        _differ(*_numbers(a, b), a.soft | b.soft)
        or _units(a, b)
        or _clash(a.bounds, b.bounds)
        or _limited(a, b)
        or _clash(_joined_numbers(a), _joined_numbers(b))
        or _signs(a, b)
    )


def _joined_numbers(a: Facts) -> dict[str, frozenset[str]]:
    """Divisible by "3 and 5", by "3 or 5"."""
    return {pair: between for pair, between in a.joined.items() if pair[0].isdigit()}


def _units(a: Facts, b: Facts) -> str | None:
    if other := _clash(a.numbers, b.numbers):
        return other
    both = a.numbers.keys() & b.numbers.keys()
    gone = {unit: value for value in both for unit in a.numbers[value] - b.numbers[value]}
    come = {unit: value for value in both for unit in b.numbers[value] - a.numbers[value]}
    if moved := min(gone.keys() & come.keys(), default=None):
        return f"{gone[moved]} {moved} / {come[moved]} {moved}"
    return None


def _clash(a: Mapping[str, Set[str]], b: Mapping[str, Set[str]]) -> str | None:
    """What both have stands with other things in one than in the other."""
    for key in a.keys() & b.keys():
        mine, theirs = a[key], b[key]
        if mine and theirs and mine.isdisjoint(theirs):
            return versus(mine, theirs)
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
    return _differ(*_dates(a, b), a.soft | b.soft)


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
    return terms or ("one side only" if one_side else _halted(a, b) or _halted(b, a))


def _halted(a: Facts, b: Facts) -> str | None:
    """To stop what the other text does; not what has stopped by itself."""
    ends = a.halted & b.roots - b.halted if not (b.negators or b.doubtful) else frozenset()
    return f"stop {min(ends)}" if ends else None


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


def identifiers(a: Facts, b: Facts) -> str | None:
    """A quoted string, path, file name, flag, identifier or named tool that the other text does not have; a
    letter or a mark such as "dir1" in the place of another; code, a quotation or a unit with other capitals;
    the same words with other indentation."""
    return (
        _differ(*_identifiers(a, b))
        or swapped(*_marks(a, b))
        or _clash(a.literals, b.literals)
        or _layout(a, b)
        or _punctuated(a, b)
    )


def _layout(a: Facts, b: Facts) -> str | None:
    other = a.indents and b.indents and a.flat == b.flat and a.indents != b.indents
    return "indentation" if other else None


def _punctuated(a: Facts, b: Facts) -> str | None:
    """Code of the same words with other signs: "src/" and "src", "./tmp" and "/tmp"."""
    if a.flat != b.flat or a.code == b.code:
        return None
    return versus(a.code - b.code, b.code - a.code)


def entities(a: Facts, b: Facts) -> str | None:
    """A name or a place that the other text does not have."""
    return _differ(*_names(a, b), a.soft | b.soft)


def question(a: Facts, b: Facts) -> str | None:
    """Another kind of answer is asked for: why / when, how many courses / which courses, minutes / hours; or
    something else about the same story, word for word."""
    if not same_kind(a.kind, b.kind) or _place_or_leave(a, b) or _place_or_leave(b, a):
        return f"{a.kind or '-'} / {b.kind or '-'}"
    if a.wanted and b.wanted and a.wanted != b.wanted:
        return f"{a.wanted} / {b.wanted}"
    if a.order == b.order and a.tense != b.tense and "past" in (a.tense, b.tense) and a.tense and b.tense:
        return f"{a.tense} / {b.tense}"
    return swapped(a.asked - b.asked, b.asked - a.asked) if a.story == b.story else None


_WHETHER = re.compile(
    r"^ (?:is|are|was|were|am) "
    r"|(?<! what)(?<! which)(?<! how) (?:can|could|should|may|must|do|does|did|will|would)"
    r" (?:i|we|you|one|my|it|they|the) "
)


def _place_or_leave(a: Facts, b: Facts) -> bool:
    """Whether one may is not answered by where one may."""
    return a.kind == "somewhere" and b.kind == "" and _WHETHER.search(b.flat) is not None


def conditions(a: Facts, b: Facts) -> str | None:
    """A term that narrows the question (cheapest, only, without, sorted) on one side only, another thing to
    sort by, or the same two things joined by "and" in one text and by "or" in the other."""
    by_a, by_b = a.implied - b.implied, b.implied - a.implied
    narrowed = _differ(a.qualifiers - b.qualifiers - by_b, b.qualifiers - a.qualifiers - by_a)
    return narrowed or _clash(a.joined, b.joined) or _resorted(a, b)


_SORTED_BY = re.compile(
    r" (?:sorted (?:by )?|(?:sort|order|rank|arrange) (?!of )(?:\S+ ){1,6}?by )((?:\S+ ){1,8})"
)
_ORDERS = frozenset(("ascending", "descending", "order", "alphabetical", "alphabetically", "sorted"))
_NO_KEY = frozenset(("and", "then", "for", "with"))


def _resorted(a: Facts, b: Facts) -> str | None:
    """Sorted by something else altogether."""
    mine, theirs = _sort_key(a), _sort_key(b)
    return swapped(mine, theirs) if mine.isdisjoint(theirs) else None


def _sort_key(a: Facts) -> Set[str]:
    found = _SORTED_BY.search(a.flat)
    words = takewhile(lambda word: word not in _NO_KEY, found[1].split() if found else ())
    return stems(word for word in words if word not in _ORDERS)


# Each look gives what only the first text has and what only the second has.
Sides = tuple[Set[str], Set[str]]


def _numbers(a: Facts, b: Facts) -> Sides:
    return a.numbers.keys() - b.numbers.keys(), b.numbers.keys() - a.numbers.keys()


def _dates(a: Facts, b: Facts) -> Sides:
    return a.dates - b.dates, b.dates - a.dates


def _identifiers(a: Facts, b: Facts) -> Sides:
    mine, theirs = a.identifiers - b.identifiers, b.identifiers - a.identifiers
    return {i for i in mine if i not in b.flat}, {i for i in theirs if i not in a.flat}


def _marks(a: Facts, b: Facts) -> Sides:
    return a.marks - b.marks, b.marks - a.marks


def _names(a: Facts, b: Facts) -> Sides:
    mine, theirs = a.names - b.names, b.names - a.names
    return {name for name in mine if not _named(name, b)}, {name for name in theirs if not _named(name, a)}


_LOOKS = (_numbers, _dates, _identifiers, _names)


def _differ(mine: Set[str], theirs: Set[str], soft: Set[str] = frozenset()) -> str | None:
    """What only one side has. Soft items count only where both sides have something of their own."""
    hard = (mine and theirs) or (mine | theirs) - soft
    return versus(mine, theirs) if hard else None


def _named(name: str, other: Facts) -> bool:
    if f" {name} " in other.flat or stem(name) in other.stems or flat(name) in other.flat:
        return True
    if name.isalpha() and 2 <= len(name) <= 5 and name in other.initials:
        return True
    return any(word[0] == name[0] and alike(name, word) for word in other.flat.split())


GUARDS: dict[str, Guard] = {
    guard.__name__: guard
    for guard in (
        language,
        swaps,
        numbers,
        quantities,
        dates,
        negation,
        identifiers,
        entities,
        direction,
        conditions,
        question,
        additions,
        exchange,
        wording,
    )
}
"""Every guard by the name that a category's file uses for it."""
