"""What counts to the letter: capitals of flags, quotations, units and short names, operators, indentation.

The packaged encoder knows neither capitals nor white space: "git branch -d" and "git branch -D" have a cosine
of 1. Where people write the same word with and without a capital, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from policies import guards_lexicon as lexicon

_FLAG = re.compile(r"(?<!\S)-[A-Za-z]+\b|\\[A-Za-z]")
_SHORT = re.compile(r"(?<![^\W\d])(?<!['’&-])(?:[A-Za-z]{2,4}|(?<!\d)[A-Za-z])(?![\w'’&+#-])")
_UNCAPPED = frozenset("aic")
"""Single letters that are words, or the name of a language that many write as they like."""

_OPERATOR = re.compile(
    r"""
      [-<>=!+*/%&|^:]=+ | && | \|\| | -> | => | << | >> | <> | \*\*
    | (?<![\w+-]) (?:\+\+|--) (?=[a-z]\b) | (?<=\b[abd-fh-z]) (?:\+\+|--)   # ++i, i++; not C++, g++
    | (?<=[ ]) [<>] (?=[ ])
    | (?<=\b[a-z]) [-+*/^×÷<>%] (?=[a-z]\b) | (?<=\b[a-z][ ]) [-+*/^×÷<>&|%=] (?=[ ][a-z(])
    | [-+*/^=×÷<>] (?=[ ]?\d) | (?<=\d) [-+*/^=×÷<>] | (?<=\d[ ]) [-+*/^=×÷<>]
    | (?<=[)\]]) [-+*/^×÷<>] | (?<=[)\]][ ]) [-+*/^=×÷<>]
    """,
    re.VERBOSE,
)


_SIGN = re.compile(r"[-+*/^=×÷<>&|%!:–−]")
"""Without one of these there is no operator."""


def literals(text: str, spans: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Whatever counts to the letter, each as a key without capitals and as it is written. `spans`: quotations
    and code."""
    written = [*spans, *_FLAG.findall(text)]
    if not text.isupper() and not text.islower():
        written += filter(_telling, _SHORT.findall(text))
    return [(" ".join(each.lower().split()), each.strip()) for each in written]


def _telling(word: str) -> bool:
    """Not what is written this way and that: "usa" and "USA", "Pin" and "PIN"."""
    lower = word.lower()
    if len(word) == 1:
        return lower not in _UNCAPPED
    if word == lower or lower in lexicon.FUNCTION:
        return False
    return word[1:] != lower[1:] or lower in lexicon.UNITS


def operators(lower: str) -> tuple[str, ...]:
    """Signs of arithmetic and of programming languages, sorted; "++x" and "x++" where these differ."""
    if not _SIGN.search(lower):
        return ()
    found, text = [], re.sub("[–−]", "-", lower.strip())
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
