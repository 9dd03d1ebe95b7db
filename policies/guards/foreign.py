"""What neither a model of English nor the rules of the guards can read: other languages, scripts and signs.

The packaged encoder finds "¿Cómo activo el modo oscuro?" and "¿Cómo desactivo el modo oscuro?" alike (0.98),
and has one and the same token for all that its vocabulary lacks, such as emoji and many Chinese characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain

from policies.guards import lexicon
from policies.guards.opposites import KINDS, OPPOSITES
from policies.guards.words import stem

_LONGEST_WORD = 100
"""Letters. WordPiece, the tokenizer of BERT, gives longer ones the token of unknown words."""
_WORDS = 3
"""So many without a common word of English may be another language."""
_COMMON = lexicon.FUNCTION | lexicon.FRAME
_FOREIGN = lexicon.FOREIGN - _COMMON
_ENGLISH = _COMMON.union(
    *lexicon.SYNONYMS, *lexicon.QUALIFIERS, *chain(*OPPOSITES), *chain(*KINDS), lexicon.UNITS, lexicon.DAYS,
    lexicon.MONTHS, lexicon.NUMBER_WORDS, lexicon.TOOLS,
)  # fmt: skip
_LATIN = re.compile(r"[\u00aa-\u024f\u1e00-\u1eff]")
_SIGNS = frozenset(("So", "Sm", "Sc", "Sk"))
"""Unicode's categories of symbols: emoji, of mathematics, of currencies."""


def unread(text: str, words: Sequence[str]) -> tuple[str, ...]:
    """Letters and digits of each word that nobody here can read, in order: of all of them where the text is
    in another language. `words` are the text's, in lower case."""
    if _foreign(words):
        return tuple(filter(None, map(_letters, text.split())))
    if text.isascii() and not any(len(word) > _LONGEST_WORD for word in words):
        return ()
    return tuple(
        _letters(word) for word in text.split() if len(word) > _LONGEST_WORD or _in_other_script(word)
    )


def keywords(words: Sequence[str]) -> frozenset[str]:
    """Stems of all words where none is known, of English or of another language."""
    bag = frozenset(words)
    several = sum(map(str.isalpha, bag)) >= (_WORDS if "".join(bag).isascii() else 2)
    return frozenset(map(stem, bag)) if several and bag.isdisjoint(_ENGLISH) else frozenset()


def symbols(text: str) -> frozenset[str]:
    """Signs and emoji other than those of ASCII."""
    if text.isascii():
        return frozenset()
    return frozenset(sign for sign in text if not sign.isascii() and unicodedata.category(sign) in _SIGNS)


def _foreign(words: Sequence[str]) -> bool:
    bag = set(words)
    known = len(bag & _FOREIGN)
    strange = known + sum(not word.isascii() for word in bag)
    return known > 0 and strange > max(1, len(bag & _COMMON))


def _in_other_script(word: str) -> bool:
    return not word.isascii() and any(
        sign.isalpha() and not sign.isascii() and not _LATIN.match(sign) for sign in word
    )


def _letters(word: str) -> str:
    """Marks are kept: in many scripts they are the vowels."""
    folded = unicodedata.normalize("NFKC", word).casefold()
    return "".join(sign for sign in folded if sign.isalnum() or unicodedata.category(sign)[0] == "M")
