"""Quantities: what a number in a text amounts to, in which unit, and how it limits what is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from math import prod
from typing import NamedTuple

from policies.guards import lexicon

Token = tuple[str, str, str]
"""A number, the letters glued to it, "" or "", "", a word."""

_ORDINAL = frozenset(("st", "nd", "rd", "th"))
_TIMES = frozenset(("s", "month"))
"""Base units before which no number counts them: "week 12", "year 2023"."""
_OF_A_BOUND = lexicon.DETERMINERS | {"age", "of", "than"}
_VERSIONED = lexicon.TOOLS | {"version", "versions", "release", "v"}
"""What stands before a version: Python 3.10 is not 3.1, $3.10 is $3.1."""
_RECENT = frozenset(("last", "past"))
_AGO = frozenset(("ago", "back", "earlier"))
_ONE = frozenset(("a", "an", "per", "each", "every", "last", "past", "previous", "one", "1"))


class Quantity(NamedTuple):
    value: str
    unit: str
    soft: bool
    bound: str


def quantities(tokens: Sequence[Token]) -> Iterator[Quantity]:
    """The quantities of a text, in order."""
    words = [*(number or word for number, _, word in tokens), "", "", ""]
    at = 0
    while at < len(tokens):
        number, suffix, word = tokens[at]
        unit_of_one = words[at] in _ONE and lexicon.UNITS.get(words[at + 1], ("", 1))[0] == "s"
        before, counted = (words[at - 1], at > 1 and tokens[at - 2][0]) if at else ("", "")
        at += 1
        if not (number or word in lexicon.NUMBER_WORDS or unit_of_one):
            continue
        limiting = next((words[i] for i in range(at - 2, -1, -1) if words[i] not in _OF_A_BOUND), "")
        bound = lexicon.BOUNDS.get(limiting, "")
        if limiting in _RECENT and words[at - 3 : at - 2] == ["the"]:
            bound = "below"
        version = before in _VERSIONED and number.replace(".", "").isdigit()
        value, unit = (number, "") if version and "." in number else _value(number, suffix, word)
        scales = list(takewhile(lexicon.SCALES.__contains__, words[at:])) if isinstance(value, float) else []
        at += len(scales)
        ahead = words[at]
        if ahead in ("atleast", "atmost"):
            ahead, bound = words[at + 1], lexicon.BOUNDS[ahead]
        if bound in ("", "at") and words[at + 1] in _AGO and ahead in lexicon.UNITS:
            bound = "ago"
        label = not counted and lexicon.UNITS.get(before, ("", 1))[0] in _TIMES
        unit = unit or next((u for u in (ahead, "" if label else before) if u in lexicon.UNITS), "")
        soft = not scales and (unit_of_one or word in ("one", "once"))
        measured, unit = _measured(value, prod(map(lexicon.SCALES.__getitem__, scales)), unit)
        yield Quantity(measured, unit, soft, bound)


def _value(number: str, suffix: str, word: str) -> tuple[float | str, str]:
    """The value, or the token itself where it is a version or model number, and the unit glued to it."""
    if not number:
        return float(lexicon.NUMBER_WORDS.get(word, 1)), ""
    digits = number[: len(number) - len(suffix)]
    currency = digits[0] if digits[0] in "$€£₹¥" else ""
    digits = digits.lstrip("$€£₹¥").replace(",", "")
    known = suffix in lexicon.UNITS or suffix in lexicon.SCALES or suffix in _ORDINAL
    if digits.count(".") > 1 or (suffix and not known):
        return number, ""
    scale = 1 if suffix in lexicon.UNITS else lexicon.SCALES.get(suffix, 1)
    return float(digits) * scale, currency or (suffix if suffix in lexicon.UNITS else "")


def _measured(value: float | str, scale: int, unit: str) -> tuple[str, str]:
    if isinstance(value, str):
        return value, ""
    name, factor = lexicon.UNITS.get(unit, ("", 1))
    return f"{value * scale * factor:.12g}", name
