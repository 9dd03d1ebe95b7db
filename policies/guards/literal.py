"""What counts to the letter: capitals of flags, quotations, code and units, operators, indentation.

The packaged encoder knows neither capitals nor white space: "git branch -d" and "git branch -D" have a cosine
of 1. Where people write the same word with and without a capital, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FLAG = re.compile(r"(?<!\S)-[A-Za-z]+\b|\\[A-Za-z]")
_UNIT = re.compile(r"(?<![^\W\d])(?:[mkgtp]b|[kmg]bps|m[wva]|mhz|mpa)\b", re.IGNORECASE)
"""Symbols of units that mean another one with other capitals."""
_PROSE = re.compile(r"[^\W\d_]+(?: +[^\W\d_]+)*")

_OPERATOR = re.compile(
    r"""
      [-<>=!+*/%&|^:]=+ | && | \|\| | -> | => | << | >> | <> | \*\*
    | (?<![\w+-]) (?:\+\+|--) (?=[a-z]\b) | (?<=\b[abd-fh-z]) (?:\+\+|--)   # ++i, i++; not C++, g++
    | (?<=[ ]) (?:[<>] | \?[?.:]) (?=[ ]) | (?<=\d) \.\.\.
    | (?<=\b[a-z]) [-+*/^×÷<>%] (?=[a-z]\b) | (?<=\b[a-z][ ]) [-+*/^×÷<>&|%=] (?=[ ][a-z(])
    | [-+*/^=×÷<>] (?=[ ]?\d) | (?<=\d) [-+*/^=×÷<>] | (?<=\d[ ]) [-+*/^=×÷<>]
    | (?<=[)\]]) [-+*/^×÷<>] | (?<=[)\]][ ]) [-+*/^=×÷<>]
    """,
    re.VERBOSE,
)
_SIGN = re.compile(r"[-+*/^=×÷<>&|%!:–−…]|\d\.\.\.| \?[?.:] ")
"""Without one of these there is no operator."""


def literals(text: str, spans: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Whatever counts to the letter, each as a key without capitals and as it is written. `spans`: quotations
    and code."""
    units = () if text.isupper() else (unit for unit in _UNIT.findall(text) if not unit.islower())
    written = [*(_as_meant(span.strip()) for span in spans), *_FLAG.findall(text), *units]
    return [(" ".join(each.lower().split()), each) for each in written]


def _as_meant(span: str) -> str:
    """Words begin with a capital or not, as people like it."""
    return re.sub(r"\b\w", lambda first: first[0].lower(), span) if _PROSE.fullmatch(span) else span


_IN_ASCII = str.maketrans({"–": "-", "−": "-", "…": "..."})
_SHAPE = re.compile(r"[-+*/^()\[\]]|(?<=\d)\.\.\.")


def shape(text: str) -> str:
    """Signs of arithmetic and brackets, as they come."""
    return "".join(_SHAPE.findall(text.translate(_IN_ASCII)))


def operators(lower: str) -> tuple[str, ...]:
    """Signs of arithmetic and of programming languages, sorted; "++x" and "x++" where these differ."""
    if not _SIGN.search(lower):
        return ()
    found, text = [], lower.strip().translate(_IN_ASCII)
    for match in _OPERATOR.finditer(text):
        sign = match[0]
        if sign in ("++", "--"):
            sign = f"{sign}x" if text[match.end() : match.end() + 1].isalnum() else f"x{sign}"
        found.append(sign)
    return tuple(sorted(found))


def indents(text: str) -> tuple[int, ...]:
    """Of each line that is not empty, where there are several."""
    lines = [line.expandtabs() for line in text.splitlines() if line.strip()]
    return tuple(len(line) - len(line.lstrip()) for line in lines) if len(lines) > 1 else ()
