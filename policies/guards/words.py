"""Stems of English words, and their synonyms folded into one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from policies.guards import lexicon


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """A crude stem of a lower-case word, then the first of its family of synonyms."""
    root = bare(word)
    return _SYNONYMS.get(root, root)


@lru_cache(maxsize=16_384)
def bare(word: str) -> str:
    """The stem, synonyms kept apart."""
    word = word.removesuffix("'s").removesuffix("'")
    if len(word) <= 3 or not word.isalpha() or word in _WHOLE:
        return word
    for suffix, instead in _SUFFIXES.items():
        if word.endswith(suffix) and len(word) - len(suffix) >= (2 if instead == "y" else 3):
            word = word[: -len(suffix)] + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] == "e" else word


_SUFFIXES = {
    "ies": "y", "ied": "y", "sses": "ss", "ings": "", "ing": "", "edly": "", "ed": "", "ss": "ss", "us": "us",
    "is": "is", "es": "e", "s": "", "ly": "",
}  # fmt: skip
_WHOLE = frozenset(("succeed", "exceed", "proceed", "speed", "bleed", "breed"))
_SYNONYMS: dict[str, str] = {}
for _family in (*lexicon.SYNONYMS, *lexicon.IRREGULAR):
    for _word in _family:
        _SYNONYMS.setdefault(bare(_word), bare(_family[0]))


def stems(words: Iterable[str]) -> frozenset[str]:
    """Of all but the function words."""
    return frozenset(stem(word) for word in words if word not in lexicon.FUNCTION)
