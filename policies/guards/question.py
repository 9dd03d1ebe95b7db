"""The guards of what is asked for, and under which conditions."""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import takewhile

from policies.guards.asked import same_kind
from policies.guards.facts import Facts
from policies.guards.sides import clash, differ, swapped
from policies.guards.words import stems


def question(a: Facts, b: Facts) -> str | None:
    """Another kind of answer is asked for: why / when, how many courses / which courses, minutes / hours; or
    something else about the same story, word for word."""
    told = _told_whom(a, b) or _told_whom(b, a)
    if not (told or same_kind(a.kind, b.kind)) or _place_or_leave(a, b) or _place_or_leave(b, a):
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
    sort by, one instead of all, or the same two things joined by "and" in one text and "or" in the other."""
    by_a, by_b = a.implied - b.implied, b.implied - a.implied
    narrowed = differ(a.qualifiers - b.qualifiers - by_b, b.qualifiers - a.qualifiers - by_a)
    return narrowed or clash(a.joined, b.joined) or _resorted(a, b) or _one_or_all(a, b) or _one_or_all(b, a)


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


_ALL = re.compile(r" all (?:of )?(?:the |my |your )?([a-z]+s) ")
_ONE = re.compile(r"(?<! find) (?:an?|one|single|this) ([a-z]+(?<!s)) ")
"""Whoever looks for one finds all."""


def _one_or_all(a: Facts, b: Facts) -> str | None:
    """To delete an email, to delete all emails."""
    one, all_ = stems(_ONE.findall(a.flat)), stems(_ALL.findall(b.flat))
    found = one & all_ - stems(_ONE.findall(b.flat)) if " all " not in a.flat else frozenset()
    return f"one {min(found)} / all" if found else None


_FIND = re.compile(r"^ (?:find|show|list|give|return|name|get|tell) ")


def _told_whom(a: Facts, b: Facts) -> bool:
    """Who is the oldest, find the oldest."""
    return a.kind == "who" and b.kind == "" and _FIND.search(b.flat) is not None
