"""What the guards know of a text: numbers, dates, names, identifiers, negations, content words.

Extracted once per text by rules of English, and remembered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

from policies.guards import lexicon
from policies.guards.asked import kind, order, phrases, roles, spans, story_and_question, wanted
from policies.guards.foreign import keywords, symbols, unread
from policies.guards.literal import indents, literals, operators, shape
from policies.guards.opposites import KINDS, OPPOSITES
from policies.guards.quantities import quantities
from policies.guards.words import bare, stem


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guards know of one text."""

    flat: str
    """All words and numbers in lower case between single spaces, with one at each end."""
    words: tuple[str, ...]
    """Stems of the content words, in order; digits are not among them."""
    stems: frozenset[str]
    """Stems of all words."""
    initials: str
    signs: tuple[str, ...]
    """Operators, sorted."""
    numbers: dict[str, frozenset[str]]
    """Value to the units it stands with; times and byte counts are in their base unit."""
    bounds: dict[str, frozenset[str]]
    """Value to how it limits: "at", "below", "above", "least" or "most"."""
    limiting: bool
    """Has a word that may limit a number."""
    tally: frozenset[tuple[str, int]]
    """How often each value is said, those left out that may be."""
    soft: frozenset[str]
    """What may be left out without changing the sense: one day ago, today, Sydney, Australia."""
    dates: frozenset[str]
    negators: frozenset[str]
    """Words that negate: "not" for every "n't", "never", "without"."""
    absent: dict[str, frozenset[str]]
    """Stem of what there is none of ("no fever", "without a receipt") to those of all words near "no"."""
    roots: frozenset[str]
    """Stems of all words, synonyms kept apart."""
    doubtful: frozenset[str]
    """Stems of words that may stand for a negation ("unable", "without", "stop")."""
    halted: frozenset[str]
    """Stems of what is to stop or to be kept from: "stop my plan from renewing"."""
    poles: frozenset[tuple[int, int, str]]
    """Terms that have opposites, as (family, pole, word); those of `KINDS` behind `OPPOSITES`."""
    qualifiers: frozenset[str]
    """Terms that narrow what is asked for, each by the first of its family."""
    implied: frozenset[str]
    """Those among them that a vaguer word may stand for: the last flight is the latest."""
    joined: dict[str, frozenset[str]]
    """Two neighbours, in either order, to what stands between them: "and", "or"."""
    identifiers: frozenset[str]
    """Quoted strings, paths, file names, flags, code, named tools: their words between spaces."""
    literals: dict[str, frozenset[str]]
    """Whatever counts to the letter, without capitals, to how it is written."""
    code: frozenset[str]
    """Words with signs of paths, variables and brackets in them, as they are written."""
    shape: str
    """Signs and brackets in order."""
    written_in: frozenset[str]
    """Languages of the libraries that it names."""
    compounds: frozenset[str]
    """Words with hyphens."""
    indents: tuple[int, ...]
    """Of each line, where there are several."""
    marks: frozenset[str]
    """Letters that stand alone, and words with digits in them: "fare code Q", "dir1"."""
    names: frozenset[str]
    unread: tuple[str, ...]
    """Words in another language or script, in order."""
    keywords: frozenset[str]
    """All words, where none of them tells the language."""
    symbols: frozenset[str]
    """Signs and emoji beyond ASCII."""
    tense: str
    """By the first auxiliary: "past", "future", "present" of a question that begins with it, or ""."""
    kind: str
    """What is asked for: "why", "when", "how-many" ..., "measure" where that may be any amount, or ""."""
    wanted: str
    """Unit in which the answer is asked for, or ""."""
    story: str
    """What stands before the last question, as `flat`."""
    asked: frozenset[str]
    """Stems of that question's words, the function words apart; empty where no story goes before."""
    order: tuple[str, ...]
    """Stems of all but the function words, in order; persons count: who does what to whom."""
    phrases: frozenset[tuple[str, str]]
    """(preposition, stem) of what stands behind "in", "for", "of" ..."""
    roles: frozenset[tuple[str, str]]
    """(role, stem): what stands behind "from", "to", "than", "into" or before them."""
    spans: frozenset[tuple[str, str]]
    """Stems of what something is between."""


_ALIASES = "|".join(re.escape(a) for a in sorted(lexicon.ALIASES, key=len, reverse=True))
_ALIAS = re.compile(rf"(?<![\w.])(?:{_ALIASES})(?!\w)", re.IGNORECASE)
_ALIAS_IN_LOWER = re.compile(rf"(?<![\w.])(?:{_ALIASES})(?!\w)")
"""Whether there is one at all, in a seventh of the time."""
_TOKEN = re.compile(
    r"""
    (?P<number> [$€£₹¥]? (?<!\w) (?<!\d\.) \d+ (?:,\d{2,3})* (?:\.\d+)* (?P<suffix> [a-z%°]* ) (?!\w) )
    | (?P<word> [^\W_] (?: [^\W_] | ['’] (?=[a-z]) )* (?: \+\+ | \# (?!\w) )? )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLAIN = str.maketrans(
    dict.fromkeys(
        (*range(9), *range(0x200B, 0x2010), *range(0x202A, 0x202F), 0x2060, 0xFEFF, *range(0xE0000, 0xE0080))
    )
    | {"’": "'", "½": " 1/2", "¼": " 1/4", "¾": " 3/4"}
    | {sign: f"^{n}" for n, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
)
_UNSPACED = re.compile(r"(?<=[\u3040-\u9fff\uac00-\ud7af])(?=\d)|(?<=\d)(?=[\u3040-\u9fff\uac00-\ud7af])")
"""Between a digit and a letter of a script without spaces."""
_NEGATIVE = re.compile(r"(?<![^\s(=,])[-−](?=\d)")
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_DIGITS = (
    "one|two|three|four|five|six|seven|eight|nine|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth"
)
_SPELLED = re.compile(rf"\b({_TENS})[- ]({_DIGITS})\b", re.IGNORECASE)
_AND_A_HALF = re.compile(r"\b(\d{1,6}) and (?:a|one) half\b", re.IGNORECASE)
_BY_TOOL = re.compile(r" (?:using|via|with) (find|grep) ")
"""Elsewhere they are verbs."""
_GREETING = re.compile(r"^\W*good (?:morning|afternoon|evening|day)\b[\s,!.]*", re.IGNORECASE)
_COMPOUND = re.compile(r"(?<![\w-])[a-z]+(?:-[a-z]+)+(?![\w-])")
_METRES = re.compile(r"(?<![$€£₹¥\d.,])(\d+(?:\.\d+)?) m\b")
_PRODUCT = re.compile(r"(?<![\w.])(\d{1,6}) ?\* ?(\d{1,6})(?![\w.])")
_ROMAN_VALUES = {
    tens + unit: value
    for value, (tens, unit) in enumerate(
        product(("", "x"), ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix"))
    )
}
_ROMAN = re.compile(
    r"\b(war|ww|type|phase|part|chapter|volume|act|article|title|section|class|grade|stage|level|super bowl) "
    r"((?<=war )i|(?<=ww )i|(?<=type )i|(?<=phase )i|(?<=volume )i|x?i[xv]|x?v?i{2,3}|x?v|x)\b",
    re.IGNORECASE,
)
"""Only behind words that are counted: "can I" and "Malcolm X" are no numbers, nor is "the class I take"."""
_QUOTED = re.compile(
    r"""“([^”]{1,80})” | "([^"]{1,80})" | `([^`]{1,80})` | (?<![\w'])'([^']{1,80})'(?!\w)""", re.VERBOSE
)
_CODE = re.compile(
    r"""
    (?<![^\s(]) (?:
        (?<!\d\s) --? [a-z][\w-]*                    # -r, -name, --all; not "a 3 -credit class"
      | [~.]?/ [^\s"'`]*                            # /usr/bin, ~/x, ./x
      | [a-zA-Z]+:// [^\s"'`]+                      # https://example.com
      | \$ [a-z_({]+ [^\s"'`]*                      # $HOME
      | [^\s"'`]* [*_\\<>|=@] [^\s"'`]*             # *.py, snake_case, a=b, user@host
      | (?![A-Z]\.) [\w-]+ (?: \. [a-z][\w-]* )+ (?: [/(] \S* )?  # a.txt, example.com, os.path
      | \. [a-z][a-z0-9]{0,5}                       # .zip
      | \# [0-9a-fA-F]{6}                           # a colour
      | [a-z]+ [A-Z] \w*                            # camelCase
      | \w+ (?: :: [\w\[\]()]+ )+                    # std::vector
      | \w+ \( \w* \)                               # call()
    ) (?= [\s.,;:?!)"'`] | $ )
    """,
    re.VERBOSE,
)
_CODE_SIGN = re.compile(r"-[-a-z]|::|[/$*_\\<>|=@(]|\.[a-z]|[a-z][A-Z]|#[0-9a-fA-F]")
"""Without one of these there is no code."""
_SIGNED = re.compile(r"[\\$@=|<>{}]|^[.~]*/|/$")
"""Signs of code; a slash between two words is prose ("TCP/IP", "and/or")."""
_MARK = re.compile(r"[bcefghjlopqvwxyz]|[a-z]+\d[a-z\d]*|\d+[a-z]+\d[a-z\d]*")
"""Not the letters that stand for a word or its end: "I", "u", "r", "'s", "n't"."""
_LABEL = re.compile(r" (?:class|grade|group|hepatitis|influenza|option|part|plan|team|type|vitamin) (a) ")
"""The letter that is an article elsewhere."""
_HOME = re.compile(r"\b(home) (?:director|folder|dir\b)")
_NAME = re.compile(r"(?<![\w.*/\\_-])[A-Z][\w&'’-]*(?:\.[A-Z])*")


LONGEST = 4000
"""Characters. More than the encoder reads of any text; it keeps the patterns' cost within milliseconds."""

_SHORT = 400
"""Characters. Facts take some thirty times the memory of their text: of longer ones fewer are remembered."""


def facts(text: str) -> Facts:
    """The facts of `text`. Remembered for the texts seen last. Raises ValueError for more than `LONGEST`."""
    if len(text) > LONGEST:
        raise ValueError(f"the guards read texts of up to {LONGEST} characters")
    return _of_short(text) if len(text) <= _SHORT else _of_long(text)


def _read(given: str) -> Facts:
    text = _NEGATIVE.sub("negative ", _UNSPACED.sub(" ", _GREETING.sub("", given.translate(_PLAIN))))
    if _ALIAS_IN_LOWER.search(text.lower()):
        text = _ALIAS.sub(lambda match: lexicon.ALIASES[match[0].lower()], text)
    text = _ROMAN.sub(lambda match: f"{match[1]} {_ROMAN_VALUES[match[2].lower()]}", text)
    text = _PRODUCT.sub(lambda match: str(int(match[1]) * int(match[2])), text)
    text = _SPELLED.sub(_spelled, text)
    text = _METRES.sub(r"\1 metres", _AND_A_HALF.sub(r"\1.5", text))
    lower = text.lower()
    tokens = [(m["number"] or "", m["suffix"] or "", m["word"] or "") for m in _TOKEN.finditer(lower)]
    words = [word or number for number, _, word in tokens]
    stems = [stem(word) for word in words]
    code = _code(text)
    amounts = tuple(quantities(tokens))
    names, soft_names = _names(text)
    story, asked = _story(lower)
    joined = f" {' '.join(words)} "
    qualifiers = _qualifiers(joined, words)
    bag = frozenset(words) | {word.removesuffix("'s") for word in words}
    return Facts(
        flat=joined,
        words=tuple(dict.fromkeys(_content(words))),
        stems=frozenset(stems),
        initials="".join(word[0] for word in words),
        signs=operators(lower),
        numbers=_gathered((each.value, each.unit) for each in amounts),
        bounds=_gathered((each.value, each.bound) for each in amounts),
        limiting=not bag.isdisjoint(lexicon.LIMITING),
        tally=frozenset(Counter(each.value for each in amounts if not each.soft).items()),
        soft=frozenset(each.value for each in amounts if each.soft)
        | soft_names
        | _regions(words, names)
        | {"today", "lastnight", "0", *_WHICH.values()},
        dates=_dates(words),
        negators=_negators(lower, words),
        absent=_absent(words),
        roots=frozenset(map(bare, words)),
        doubtful=frozenset(
            bare(word) for word in bag if word in lexicon.SOFT_NEGATORS or _UNDONE.match(word)
        ),
        qualifiers=qualifiers,
        implied=_implied(joined, bag) - (qualifiers & _WHOLE),
        joined=_joined(words),
        halted=frozenset(bare(word) for word in _HALTED.findall(joined)),
        poles=frozenset((*pole, word) for word in bag for pole in _POLES.get(bare(word), ())),
        identifiers=_identifiers(text, code)
        | {f" {tool} " for tool in bag & lexicon.TOOLS | {*_BY_TOOL.findall(joined)}},
        written_in=frozenset(lexicon.WRITTEN_IN[word] for word in bag & lexicon.WRITTEN_IN.keys()),
        literals=_gathered(literals(given, code)),
        code=frozenset(filter(_SIGNED.search, (word.rstrip(".,;:?!)") for word in given.split()))),
        indents=indents(given),
        shape=shape(given),
        compounds=frozenset(_COMPOUND.findall(lower)),
        marks=frozenset((*filter(_MARK.fullmatch, words), *_LABEL.findall(joined))),
        names=names | bag & lexicon.PLACES,
        unread=unread(given, words),
        keywords=keywords(words),
        symbols=symbols(given),
        tense=_tense(words),
        kind=kind(lower),
        wanted=wanted(lower),
        story=story,
        asked=asked,
        order=order(words),
        phrases=phrases(words),
        roles=roles(words),
        spans=spans(words),
    )


def _spelled(match: re.Match[str]) -> str:
    tens, digit = (_NUMBERS[word.lower()] for word in match.groups())
    return str(tens + digit)


_of_short = lru_cache(maxsize=4096)(_read)
_of_long = lru_cache(maxsize=512)(_read)

_POLES: dict[str, list[tuple[int, int]]] = {}
for _number, _line in enumerate((*OPPOSITES, *KINDS)):
    for _side, _pole in enumerate(_line):
        for _root in set(map(bare, _pole)):
            _POLES.setdefault(_root, []).append((_number, _side))
_NUMBERS = {**lexicon.NUMBER_WORDS, "first": 1, "second": 2}
_QUALIFIERS = {word: family[0] for family in lexicon.QUALIFIERS for word in family}
_TIMES = frozenset(word for word, (unit, _) in lexicon.UNITS.items() if unit in ("s", "month", "am", "pm"))
_NO_CONTENT = lexicon.FUNCTION | lexicon.FRAME | lexicon.NUMBER_WORDS.keys() | lexicon.SCALES.keys() | _TIMES
_EMPTY = _NO_CONTENT | {stem(word) for word in _NO_CONTENT}


def _content(words: Iterable[str]) -> Iterable[str]:
    for word in words:
        root = stem(word)
        if word not in _EMPTY and root not in _EMPTY and not word[0].isdigit() and len(word) > 1:
            yield root


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """What stands with each key; "" is nothing."""
    found: dict[str, set[str]] = {}
    for key, what in pairs:
        found.setdefault(key, set()).update(filter(None, (what,)))
    return {key: frozenset(what) for key, what in found.items()}


def _joined(words: Sequence[str]) -> dict[str, frozenset[str]]:
    """A choice between two things has them joined by "and" as well as by "or"."""
    plain = [word for word in words if word not in lexicon.DETERMINERS and word != "whose"]
    return _gathered(
        (" ".join(sorted((stem(a), stem(b)))), joint)
        for at, (a, joint, b) in enumerate(zip(plain, plain[1:], plain[2:], strict=False))
        if joint in ("and", "or") and "between" not in plain[max(0, at - 3) : at]
    )


_EACH = "each"
"""Stands for groups, one answer for each: "the average age", "the average age for each class"."""
_PATTERNS = {
    "nonstop": re.compile(
        r" direct (?:flight|train|bus|route|service|connection)s? | (?:fly|flying|flights?) direct "
    ),
    "broken": re.compile(r"^(?=.* (?:sym)?links? ).* (?:broken|dangling) "),
    "whether": re.compile(
        r" how (?:to|(?:do|can|could|would|should) (?:i|you|we|one|they)) "
        r"(?:(?:tell|know) (?:if|whether|when|that)"
        r"|(?:\S+ )?(?:check|see|verify|determine|find out) (?:if|whether)) "
    ),
    "case": re.compile(r" (?:ignor\w+ (?:the )?case|case insensitiv\w+|insensitiv\w+) "),
    "sorted": re.compile(r" (?:sort|order|ordered|rank|ranked) (?!of )(?:(?!in |by )\S+ ){1,6}?by "),
    "keeping": re.compile(
        r" (?:(?:and|but|while) keep(?:ing)?|preserving|without (?:changing|losing|deleting)"
        r"|keeping (?:the|my|relative|original)) "
    ),
    "video": re.compile(r" video (?:calls?|calling|chats?|messages?|conferences?) "),
    "group": re.compile(r" group (?:calls?|calling|chats?|messages?) "),
    "types": re.compile(
        r" (?:how many|number of|which|(?:list|show)(?: me)?(?: all)?) (?:\S+ ){0,2}?"
        r"(?:types?|kinds?|categor\w+|varieties) "
    ),
    "backwards": re.compile(r" (?:in reverse|backwards?|(?:reverse|reversed|opposite) order) "),
    "instead": re.compile(r" instead of "),
    "else": re.compile(r" (?:some|any)(?:one|body) else(?: s|'s)? "),
    "to date": re.compile(r" (?:(?:week|month|quarter|year) to date|[wmqy]td) "),
    "rounded down": re.compile(r" round\w* (?:\S+ ){0,4}?down "),
    "rounded up": re.compile(r" round\w* (?:\S+ ){0,4}?up "),
    "discount": re.compile(r" (?:\d\S*|percent) off "),
    "position": re.compile(r" (?:index(?:es)?|indices|keys?|positions?) (?:of|with|for|where) "),
    "single": re.compile(r" in (?:a|one) single "),
    "except": re.compile(r" (?:all|everything|everyone|everybody|anything) but "),
    "descending": re.compile(
        r" desc(?:ending)? | (?:in|by) decreasing "
        r"| from (?:high(?:est)?|most|largest|biggest|greatest|newest|latest|longest|z) to "
    ),
    "arriving": re.compile(
        r" arriv\w+ (?:in the|by|before|after|around|at) (?:morning|afternoon|evening|night|noon|midnight|\d)"
    ),
    "per head": re.compile(
        r" per (?:capita|head|person|inhabitant|resident|employee|worker|square|thousand|million) "
    ),
    "attempt": re.compile(r" (?:tried|attempted|applied|planned|threatened|failed) to "),
    _EACH: re.compile(r" (?:for|in|at|by|of) each | for every "),
    "cheapest": re.compile(
        r" budget (?:friendly|hotel|hostel|motel|stay|accommodation|flight|airline|trip|travel|phone|car)"
    ),
    "second": re.compile(
        r" (?:second|third|fourth|2nd|3rd|4th|next) (?:most|least|last|best|worst|\w+(?<!for|int)est) "
    ),
}


def _qualifiers(text: str, words: Sequence[str]) -> frozenset[str]:
    """`text`: the words between single spaces, as `Facts.flat`."""
    found = {_QUALIFIERS[word] for word in words if word in _QUALIFIERS}
    return frozenset(found | {name for name, pattern in _PATTERNS.items() if pattern.search(text)})


_WHOLE = frozenset((_EACH, "whether", "backwards", "types", "descending", "arriving", "per head"))
"""Who has these needs no vaguer word for them."""
_IMPLIED = {
    # Of a mass, not of things that can be counted, and not "the most beautiful".
    "largest": re.compile(r" most (?!\S+(?:s|ful|ous|ive|al|ant|ent|ed|ing|ble|ic|ar|ary|se|mon) )\S{5,} "),
    "average": re.compile(r" (?:the|their|its) mean (?!of )"),
    "sorted": re.compile(r" sort (?!of )| order (?:by|them) | in (?:\S+ )?order "),
    "whether": re.compile(r" find out "),
    "descending": re.compile(
        r" (?:largest|biggest|highest|greatest|most|top|best|longest|oldest|newest|latest|last|reversed?"
        r"|backwards) "
    ),
    "arriving": re.compile(r" (?:arriv|get|land|reach)\w* | be (?:there|in) "),
    "per head": re.compile(r" (?:each|every|an?|average|mean|rate|density) "),
}
"""Phrases that may stand for a term that narrows, as the words of `IMPLYING` may."""


def _implied(text: str, bag: Set[str]) -> frozenset[str]:
    found = {lexicon.IMPLYING[word] for word in bag & lexicon.IMPLYING.keys()}
    return frozenset(found | {name for name, pattern in _IMPLIED.items() if pattern.search(text)})


_TENSES = {"was": "past", "were": "past", "did": "past", "will": "future"}


def _tense(words: Sequence[str]) -> str:
    """The present says little: "who is the best" and "who was" ask the same, "is it" and "was it" do not."""
    if words and words[0] in ("is", "are"):
        return "present"
    return next((_TENSES[word] for word in words if word in _TENSES), "")


def _story(lower: str) -> tuple[str, frozenset[str]]:
    story, question = story_and_question(lower)
    words = flat(question).split() if story else []
    return flat(story), frozenset(stem(word) for word in words if word not in lexicon.FUNCTION)


_SEASON_BEFORE = frozenset(
    ("this", "next", "last", "the", "during", "coming", "summer", "winter", "spring", "or", "and")
)
_WHICH = {
    **dict.fromkeys(("this", "coming"), "this"),
    **dict.fromkeys(("next", "following"), "next"),
    **dict.fromkeys(("last", "previous"), "last"),
}
"""Which weekend, which winter. Where only one text says so, the other means the same."""
_SEASON_AFTER = frozenset(("semester", "semesters", "term", "season", "break", "or", "and", "2"))

_CALENDAR = lexicon.DAYS.keys() | lexicon.MONTHS.keys()


def _dates(words: Sequence[str]) -> frozenset[str]:
    words = [word.removesuffix("'s") for word in words]
    if _CALENDAR.isdisjoint(words):
        return frozenset()
    found = {lexicon.DAYS[word] for word in words if word in lexicon.DAYS and word not in ("fall", "spring")}
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word in ("fall", "spring") and (before in _SEASON_BEFORE or after in _SEASON_AFTER):
            found.add(lexicon.DAYS[word])
    for before, word in pairwise(words):
        if before in _WHICH and (word in lexicon.DAYS or word in lexicon.MONTHS):
            found.add(_WHICH[before])
    for at, word in enumerate(words):
        near = (*words[max(0, at - 2) : at], *words[at + 1 : at + 2])
        if word in lexicon.MONTHS and (
            word not in lexicon.AMBIGUOUS_MONTHS
            or any(w[0].isdigit() or w in ("of", "in", "this", "next", "last") for w in near)
        ):
            found.add(str(lexicon.MONTHS[word]))
    return frozenset(found)


_AUXILIARY = r"(?:don't|do not|isn't|is not|aren't|can't|doesn't|shouldn't|wouldn't|won't)"
_RHETORICAL = re.compile(
    rf"^{_AUXILIARY} (?:you think|you|it|we|i|they|he|she)\b"
    r"|\b(?:or )?no,? (?:no|sorry|wait(?=,? \w)|actually|rather|make that|let me|i mean)\b(?! times?\b)"
    r"|\b(?:um|uh|er),? no\b"
    r"|(?:^|[.?!,] )(?:i|we) (?:really |just |still )?(?:can't|can ?not|couldn't|could not) figure out\b"
    r"|(?:^|[.?!,] )(?:i|we) (?:really |just |still )?(?:don't|do not|didn't|did not) (?:know|understand)"
    r"(?= (?:how|what|where|which|why|when|if)\b)|\bi (?:have|had) no (?:clue|idea)\b"
    r"|\bor not\b|\bnot only\b|\bwhy not\b(?! \w)|\bno matter\b|\bno\."
    r"|\b(?:mobile|phone|account|order|card|contact|id|serial|tracking) no\b"
    r"(?! (?!(?:is|of|for|to|on|in|and|or|from)\b)[a-z])"
)


_UNDONE = re.compile(r"un(?!der|til|less|cle|to$|it|iv|io|iq|if|ic|$)|non")
"""The beginning of a word that says the contrary of another; not that of "under", "unit" or "university"."""


_HALTED = re.compile(
    r" (?:stop|stopping|prevent|preventing|keep) (?:(?!or |and )[a-z']+ ){1,4}?from (?:re )?([a-z]+ing) "
)


_NEAR = 5
"""Content words behind "no", any of which may be what there is none of."""


def _absent(words: Sequence[str]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for at, word in enumerate(words):
        if word in ("no", "without"):
            near = [bare(each) for each in words[at + 1 :] if each.isalpha() and each not in lexicon.FUNCTION]
            found |= {near[0]: frozenset(near[:_NEAR])} if near else {}
    return found


def _negators(lower: str, words: Sequence[str]) -> frozenset[str]:
    if lexicon.NEGATORS.isdisjoint(words) and not any(word.endswith("n't") for word in words):
        return frozenset()
    rest = re.findall(r"[a-z']+", _RHETORICAL.sub(" ", lower))
    found = {word for word in rest if word in lexicon.NEGATORS}
    return frozenset(found | {"not" for word in rest if word.endswith("n't")})


def _code(text: str) -> list[str]:
    """Quotations of up to three words, longer ones that hold code, and code."""
    quoted = ("".join(filter(None, m.groups())) for m in _QUOTED.finditer(text))
    spans = [span for span in quoted if span.count(" ") < 3 or _CODE_SIGN.search(span)]
    return spans + [m[0] for m in _CODE.finditer(text)] if _CODE_SIGN.search(text) else spans


def _identifiers(text: str, code: Sequence[str]) -> frozenset[str]:
    spans = [*code, *_HOME.findall(text.lower())]
    return frozenset(span for span in map(_identifier, spans) if span)


def _identifier(span: str) -> str:
    """Its words between spaces, without a function word that a lost space glued to its front ("all.mp3")."""
    words = flat(span).split()
    while len(words) > 1 and words[0] in lexicon.FUNCTION | lexicon.FRAME:
        words = words[1:]
    return f" {' '.join(words)} " if words else ""


def flat(text: str) -> str:
    return f" {' '.join(m[0] for m in _TOKEN.finditer(text.lower()))} "


_NO_NAME = (
    lexicon.FUNCTION
    | lexicon.FRAME
    | lexicon.MONTHS.keys()
    | lexicon.DAYS.keys()
    | lexicon.UNITS.keys()
    | lexicon.NUMBER_WORDS.keys()
)


def _names(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Capitalised words inside sentences; and those that only qualify the one before (Sydney, Australia)."""
    capital = [m for m in _NAME.finditer(text) if not _starts_sentence(text, m.start())]
    if len(capital) > len(re.findall(r"(?<!\S)[a-z]", text)):
        return frozenset(), frozenset()
    found = {m[0].lower().removesuffix("'s"): m for m in capital}
    names = {name: m for name, m in found.items() if name not in _NO_NAME and len(name) > 1}
    qualifying = (
        name
        for name, m in names.items()
        if re.search(r"[A-Z]\w*, ?$", text[max(0, m.start() - 40) : m.start()])
    )
    return frozenset(names), frozenset(qualifying)


def _regions(words: Sequence[str], names: frozenset[str]) -> frozenset[str]:
    """States and countries right behind another name: they say which one is meant ("Dallas Texas")."""
    if lexicon.REGIONS.isdisjoint(words):
        return frozenset()
    known = names | lexicon.PLACES
    return frozenset(b for a, b in pairwise(words) if b in lexicon.REGIONS and a in known)


def _starts_sentence(text: str, at: int) -> bool:
    before = text[max(0, at - 8) : at].rstrip(" \"'“‘(*-")
    return not before or before[-1] in ".?!:\n"
