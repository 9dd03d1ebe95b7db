"""What a question asks for, and who does what to whom in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from policies.guards import lexicon
from policies.guards.words import stem

_ASKED = r"(?:^|[.?!,;:] ?|\b(?:me|know|and|find|find out|explain|understand|wondering|say|about|see|so) )"
_HOW = r"\bhow "
_WHAT = r"|\bwhat(?:'?s| 's| is) the "
_COUNT = (
    r"(?:\bhow (?:many|much)(?! \w+ (?:until|till)\b)|^(?:the )?(?:count|number) of|^(?:count|number)"
    r"|\bwhat (?:number|amount|quantity) of"
    r"|\bwhat(?:'?s| 's| is| are)? the (?:total )?(?:number|amount|count|quantity) of"
    r"|\b(?:return|give|show|find|list|tell|get|display|report|calculate|determine)(?: me)? the (?:total )?"
    r"(?:number|count|quantity) of)"
)
_TIME = (
    r"time\b(?! zone)|(?:seconds|minutes|hours|days|weeks|months|years)\b"
    r"(?! (?:are (?:there )?)?(?:an?|per|each|every|in an? (?:day|week|month|year))\b)"
)
_KINDS = {
    "how-many": _COUNT + r"\b|\bwhat(?:'?s| is) [\d(]",
    "how-percent": r"\bwhat (?:percent(?:age)?|proportion|share|fraction)\b|^(?:the )?percent(?:age)? of\b",
    "how-long": r"\bhow long\b(?! (?:until|till)\b)|\bduration of\b"
    rf"|(?:{_COUNT}) (?:\w+ )?(?:{_TIME})(?! (?:until|till)\b)",
    "how-often": r"\bhow (?:often|frequently)\b",
    "how-old": r"\bhow old\b|\bwhat (?:is the )?(?:right |best )?age\b|\bages? of\b",
    "how-high": _HOW + r"(?:high|tall)\b" + _WHAT + r"(?:height|elevation|altitude) of\b",
    "how-big": _HOW + r"(?:big(?! of)|large)\b" + _WHAT + r"(?:size|area) of\b",
    "how-deep": _HOW + r"deep\b" + _WHAT + r"depth of\b",
    "how-heavy": _HOW + r"heavy\b" + _WHAT + r"(?:weight|mass) of\b",
    "how-fast": _HOW + r"fast\b" + _WHAT + r"(?:speed|velocity) of\b",
    "how-far": r"\bhow far\b|\bdistance (?:from|between|to)\b",
    "why": r"\bwhy\b|\bhow come\b|\breasons? (?:for|behind|why)\b"
    r"|\bwhat(?:'?s| (?:is|are|was|were|(?:could|can|might|may) be)) the (?:\w+ )?(?:reason|cause)"
    r"|\bwhat (?:made|makes|led to|cause[sd]?)\b",
    "when": _ASKED + r"when(?:'?s| (?:is|was|are|were|do|does|did|will|should|can|could|would|to))\b"
    r"|\b(?:what|which) (?:time|date|year|day|month)s?\b|\bat what point\b"
    r"|\bhow (?:long|many \w+) (?:until|till)\b"
    r"|\bwhat(?:'?s| is| was) the (?:(?:\w+ ){0,2}(?:date|year)\b"
    r"|(?:arrival|departure|opening|closing|start|end) time\b"
    r"|best (?:time|month|season)s? (?:of (?:the )?year )?to\b)",
    "somewhere": _ASKED + r"where(?:(?:'s| is| are) (?:an? |the |some )?(?:good|best|great|nice|cheap)"
    r"| (?:can|could|do|should|would|to) (?:(?:i|we|you|one) )?(?:find|get|see|check|learn|buy))\b"
    r"|\b(?:what|which) (?:place|city|town|country|nation|state|directory|folder)\b|\bis there somewhere\b",
    "where": _ASKED + r"where\b|^(?:the )?location of\b"
    r"|\bwhat(?:'?s| is) (?:the (?:current |exact )?location of|(?:[\w']+ ){1,3}location)\b",
    "which": r"(?:^|[.?!] ?|\b(?:me|know|find|out) )which [a-z]+\b",
    "who": _ASKED
    + r"(?:whom?|who'?s)\b|(?:^|[.?!] ?|\b(?:me|know|out) )whose\b|\bwho(?:'s| is) (?:the|teaching)\b"
    r"|\b(?:by|has) whom?\b"
    r"|\b(?:what|which) (?:person|people|teacher|professor|instructor|author|player|actor)s?\b",
}


_BEGINS = (
    r"[.?!,;:]|how|wh|reason|duration|distance|percentage|count|number|the |location|ages? of|by |has |"
    r"is there|(?:return|give|show|find|list|tell|get|display|report|calculate|determine)\b|"
    r"(?:me|know|and|explain|understand|wondering|say|about|see|so) "
)
"""Whatever asks for a kind begins so. To try each kind at every word takes five times as long."""
_KIND = re.compile(
    rf"(?:\b(?=[a-z])|(?=[.?!,;:]))(?={_BEGINS})(?:"
    # Of two that begin at one place, the first in the alphabet.
    + "|".join(f"(?P<{kind.replace('-', '_')}>{_KINDS[kind]})" for kind in sorted(_KINDS))
    + ")"
)
_MEASURE = re.compile(
    r"\b(?:(?P<measure>convert|number|total|amount|quantity|sum|bill|remaining|no\. of)"
    r"|(?P<extent>distance|length|size|height)|(?P<price>population|cost|price|fare|salary|profit|revenue"
    r"|death toll))\b"
)
"""Where no other kind is asked for, these ask for an amount, with or without "how"."""
_AMOUNTS = {
    "measure": frozenset(kind for kind in _KINDS if kind.startswith("how-")) | {"extent", "price"},
    "extent": frozenset(("how-many", "how-long", "how-far", "how-high", "how-big", "how-deep")),
    "price": frozenset(("how-many",)),
    "somewhere": frozenset(("where", "which")),
    "which": frozenset(("who", "where", "measure", "extent", "price")),
}
"""What each of them may be. "Where can I find a good hotel" is answered as "what are good hotels" is."""


def kind(lower: str) -> str:
    """What the last question in the text asks for, a bare "and why?" apart."""
    body, mark, _ = _AND_WHY.sub("", _QUOTATION.sub("", lower)).rpartition("?")
    lower = _SENTENCE_END.split(body)[-1].strip() if mark else lower
    measure = _MEASURE.search(lower)
    return kind_asked(lower) or (measure and measure.lastgroup) or ""


def story_and_question(lower: str) -> tuple[str, str]:
    """The sentences before the last question, and that question; "" and the text where there are none."""
    body, mark, _ = lower.rpartition("?")
    ends = [end.end() for end in _SENTENCE_END.finditer(body)] if mark else []
    return (body[: ends[-1]], body[ends[-1] :]) if ends else ("", lower)


def kind_asked(question: str) -> str:
    """That which begins first, as one of `_KINDS`, or ""."""
    found = _KIND.search(question)
    return (found.lastgroup or "").replace("_", "-") if found else ""


def same_kind(one: str, other: str) -> bool:
    return one == other or any(
        x in _AMOUNTS and (y in _AMOUNTS[x] or not y) for x, y in ((one, other), (other, one))
    )


_SENTENCE_END = re.compile(r"(?<!\b[a-z])(?<!\b[dms]r)(?<!\bmrs)(?<!\bst)(?<!\bvs)[.?!](?!\d)")
"""Not the point of "Dr. King", "J.K. Rowling" or "version 3.8"."""
_QUOTATION = re.compile(r"[\"“][^\"“”]+[\"”]")
_AND_WHY = re.compile(r"(?:(?<=[?.!]) ?| and )(?:why|how)(?: so)?\W*$")
_MANY = re.compile(r"\b(?:how many|in) ([a-z]+)")


def wanted(lower: str) -> str:
    """The unit of the answer: "how many minutes", "in euros"."""
    units = [word for word in _MANY.findall(lower) if word in lexicon.UNITS and len(word) > 2]
    return units[-1].removesuffix("s") if units else ""


_ROLES = {
    "from": "from",
    "to": "to",
    "into": "to",
    "than": "than",
    "onto": "to",
    "through": "via",
    "via": "via",
}


def roles(words: Sequence[str]) -> frozenset[tuple[str, str]]:
    """What follows a directional preposition, and what stands right before it."""
    found: set[tuple[str, str]] = set()
    for at, word in enumerate(words):
        if role := _ROLES.get(word):
            after = next((each for each in words[at + 1 : at + 4] if each not in lexicon.DETERMINERS), None)
            before = next((each for each in words[max(0, at - 1) : at] if each not in lexicon.FUNCTION), None)
            found |= {(role, stem(after))} if after else set()
            found |= {("from", stem(before))} if before and after and role != "from" else set()
    return frozenset(found)


def spans(words: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Stems of the first words of both ends: "between San Remo and Nice" is (san, nice)."""
    found: set[tuple[str, str]] = set()
    for at, word in enumerate(words):
        if word == "between" and "and" in (near := words[at + 1 : at + 6]):
            middle = near.index("and")
            ends = (_first(near[:middle]), _first(near[middle + 1 :]))
            found |= {ends} if all(ends) else set()
    return frozenset(found)


def _first(words: Sequence[str]) -> str:
    return next((stem(word) for word in words if word not in lexicon.DETERMINERS), "")


_PERSONS = {
    **dict.fromkeys(("i", "me", "mine", "myself", "i'm", "i've", "i'd", "i'll"), "i"),
    **dict.fromkeys(("we", "us"), "we"),
    **dict.fromkeys(("who", "whom", "who's"), "who"),
    "my": "i's",
    "our": "we's",
    "whose": "who's",
}


def order(words: Sequence[str]) -> tuple[str, ...]:
    """Stems of all but the function words and adverbs, in order; "b and a" is "a and b"."""
    found: list[str] = []
    for at, word in enumerate(words):
        if person := _PERSONS.get(word):
            found.append(person)
        elif _counts(word):
            found.append(stem(word.removesuffix("'s")))
            if (
                at > 1
                and words[at - 1] in ("and", "or")
                and _counts(words[at - 2])
                and (word.isdigit() or not _goes_on(words, at))
            ):
                found[-2:] = sorted(found[-2:])
    return tuple(found)


def _counts(word: str) -> bool:
    return word not in lexicon.FUNCTION and not (word.endswith("ly") and len(word) > 5)


def _goes_on(words: Sequence[str], at: int) -> bool:
    """More words of its own follow: of "Lyon and San Remo" the first word of each is not the whole."""
    return at + 1 < len(words) and _counts(words[at + 1])


_PREPOSITIONS = frozenset(
    ("of", "in", "on", "for", "by", "at", "with", "as", "under", "about", "within", "during")
)


_BEFORE_NOUNS = lexicon.DETERMINERS | {"each", "every", "all"}


def phrases(words: Sequence[str]) -> frozenset[tuple[str, str]]:
    """(preposition, stem) of what stands behind prepositions of place, time and purpose, each up to the next
    function word."""
    found: set[tuple[str, str]] = set()
    preposition = ""
    for word in words:
        if word in _PREPOSITIONS:
            preposition = word
        elif word in lexicon.FUNCTION and word not in _BEFORE_NOUNS:
            preposition = ""
        elif preposition and word not in _BEFORE_NOUNS:
            found.add((preposition, stem(word.removesuffix("'s"))))
    return frozenset(found)
