"""The guard of who does what to whom, and of which way it goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from itertools import chain, pairwise

from policies.guards import lexicon
from policies.guards.facts import Facts
from policies.guards.opposites import OPPOSITES
from policies.guards.sides import SHOWN, swapped
from policies.guards.words import stem, stems


def direction(a: Facts, b: Facts) -> str | None:
    """The same words in another order, as in "can I sue my landlord" and "can my landlord sue me"; the same
    order where one text says who did it by "by", as in "was Rome defeated by Carthage" and "did Rome defeat
    Carthage"; what stands behind "from" in one text stands behind "to" in the other; or two parts of the
    question have changed places: who reports to whom, what eats what, an array of pointers."""
    trips = dict((*_trips(a, b), *_trips(b, a)))
    if objections := [found for found in trips.values() if found]:
        return objections[0]
    ends = {end for ends in trips for end in ends}
    if _reordered(_without(ends, a), _without(ends, b)) and (found := _elsewhere(a, b)):
        return found
    if (_passive(a, b) or _passive(b, a)) and _same_order(a.order, b.order):
        return "by / -"
    alone = (" from " in a.flat) != (" from " in b.flat) and _nearly(a.order, b.order)
    for one, other in (("from", "to"), ("from", "than"), ("to", "than")):
        gone, come = _moved(one, other, a, b), _moved(other, one, a, b)
        if (gone - come and come - gone) or (alone and gone ^ come):
            return f"{one} / {other} {min(gone ^ come)}"
    if done := _done_to(a) & _doing(b) - _doing(a) or _done_to(b) & _doing(a) - _doing(b):
        return f"{min(done)} / be {min(done)}"
    both_ways = (
        check(a, b)
        for check in (_turned, _asked_of_each_other, _opposites_in_turn, _headed, _particles, _source, _mine)
    )
    each_way = (check(*pair) for check in (_another, _asked_of, _about) for pair in ((a, b), (b, a)))
    return next(filter(None, chain(both_ways, each_way)), None)


def _nearly(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    """The same words in any order, but for one at most."""
    gone, come = Counter(mine), Counter(theirs)
    return len(gone - come) <= 1 and len(come - gone) <= 1


def _trips(a: Facts, b: Facts) -> Iterator[tuple[tuple[str, str], str]]:
    """The ends of each trip that `b` makes too, and what speaks against it: nothing if `b` goes from the
    first to the second, as that is how it is meant. A distance is the same both ways."""
    for one, other in a.spans:
        if {("from", one), ("to", other)} <= b.roles:
            yield (one, other), ""
        elif {("from", other), ("to", one)} <= b.roles:
            yield (one, other), "" if b.kind == "how-far" else f"between {one} / from {other}"


def _elsewhere(a: Facts, b: Facts) -> str | None:
    """The words that stand elsewhere, beside those that may."""
    loose = frozenset() if " than " in a.flat or " than " in b.flat else _loose(a, b)
    mine, theirs = _without(loose, a), _without(loose, b)
    said = {
        (role, word) for role, word in a.roles & b.roles if f" {role} " in a.flat and f" {role} " in b.flat
    }
    directed = loose | _kept(said, a, b)
    if _without(directed, a) == _without(directed, b) or not _reordered(mine, theirs):
        return None
    if _done(a, b) or _done(b, a):
        return None
    return f"{' '.join(mine[:SHOWN])} / {' '.join(theirs[:SHOWN])}"


_PARTICIPLES = {word for _, *forms in lexicon.IRREGULAR for word in forms}
_BE = frozenset(("is", "are", "was", "were", "be", "been", "being"))


def _done(a: Facts, b: Facts) -> bool:
    """What `b` says that somebody does, is done in `a`: "does the inn allow pets", "are pets allowed at the
    inn"."""
    words, doing = a.flat.split(), b.flat.split()
    if _BE.isdisjoint(words) or not _BE.isdisjoint(doing):
        return False
    for word in words:
        if (word.endswith("ed") or word in _PARTICIPLES) and (verb := stem(word)) in a.order:
            at = a.order.index(verb)
            before, behind = a.order[:at], a.order[at + 1 :]
            moved = {(*before[:i], verb, *before[i:], *behind) for i in range(at)}
            moved |= (
                {(*behind[:i], verb, *behind[i:]) for i in range(1, len(behind))} if not before else set()
            )
            if b.order in moved | {(*behind, verb, *before)}:
                return True
    return False


def _loose(a: Facts, b: Facts) -> Set[str]:
    """What may stand elsewhere: behind the same preposition in both texts, there in the same order, or behind
    one that the other does without ("a laptop for gaming", "a gaming laptop")."""
    only_a, only_b = (
        {word for to, word in x.phrases if f" {to} " not in y.flat} for x, y in ((a, b), (b, a))
    )
    return _kept(a.phrases & b.phrases, a, b) | only_a | only_b


def _kept(behind: Set[tuple[str, str]], a: Facts, b: Facts) -> Set[str]:
    """The words behind those prepositions that keep their order."""
    words = {to: {word for each, word in behind if each == to} for to, _ in behind}
    return {word for each in words.values() if _among(each, a) == _among(each, b) for word in each}


def _without(words: Set[str], a: Facts) -> tuple[str, ...]:
    return tuple(word for word in a.order if word not in words)


_BY = re.compile(
    r"(?: (?:is|are|was|were|be|been|being|gets?|got) (?:\S+ ){0,6}?by |[dn] by )"
    r"(?<! meant by )(?!someone |somebody |$)"
)


def _passive(a: Facts, b: Facts) -> bool:
    return " by " in a.flat and " by " not in b.flat and _BY.search(a.flat) is not None


def _same_order(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """But for one word in another form ("beat", "beaten")."""
    mine, theirs = ([word for word in each if word != "who"] for each in (a, b))
    other = [(x, y) for x, y in zip(mine, theirs, strict=False) if x != y]
    return len(mine) == len(theirs) and len(other) <= 1 and all(x[0] == y[0] for x, y in other)


def _among(words: Set[str], a: Facts) -> list[str]:
    return [word for word in a.order if word in words]


def _reordered(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """A part that moves from the end to the front ("in Python, how ...") leaves the sense as it is; of two
    words nobody can say which moved."""
    if a == b or len(a) != len(b) or sorted(a) != sorted(b):
        return False
    return len(a) == 2 or not any(a[at:] + a[:at] == b for at in range(1, len(a)))


def _moved(one: str, other: str, a: Facts, b: Facts) -> set[str]:
    """What has the role `one` in `a` and `other` in `b`."""
    return {root for role, root in a.roles if role == one} & {root for role, root in b.roles if role == other}


_DOING = re.compile(r" (?:that|which) ([a-z]+) ")
_DONE_TO = re.compile(r" (?:is |are |was |were )?([a-z]+ed) (?:by|in) ")


def _doing(a: Facts) -> Set[str]:
    """Papers that cite it."""
    return stems(_DOING.findall(a.flat))


def _done_to(a: Facts) -> Set[str]:
    """Papers cited in it."""
    return stems(_DONE_TO.findall(a.flat))


_CLAUSE = re.compile(r"^ (?!if |when )(.+?) (?:if|when|because|unless) (.+)$")


def _turned(a: Facts, b: Facts) -> str | None:
    """What one text asks about is the condition for it in the other, and the other way round."""
    mine, theirs = _CLAUSE.match(a.flat), _CLAUSE.match(b.flat)
    if not mine or not theirs:
        return None
    (asked, given), (asked_, given_) = ([stems(part.split()) for part in m.groups()] for m in (mine, theirs))
    return swapped(given & asked_, given_ & asked) if given.isdisjoint(given_) else None


_SUBJECT = re.compile(r" (?:which|what|how many) ([a-z]+s) ")


def _asked_of_each_other(a: Facts, b: Facts) -> str | None:
    """How many employees a manager has, how many managers an employee."""
    mine, theirs = (stems(_SUBJECT.findall(each.flat)) - _FRAME for each in (a, b))
    return (
        swapped(mine, theirs) if mine.isdisjoint(theirs) and mine <= b.stems and theirs <= a.stems else None
    )


_FRAME = {stem(word) for word in lexicon.FRAME}
_JOINING = frozenset(("and", "or", "than", "vs", "versus", "not", "but"))


def _opposites_in_turn(a: Facts, b: Facts) -> str | None:
    """Both of two opposites in both texts, the other one first: from light to dark, from dark to light."""
    for family in {family for family, *_ in a.poles} & {family for family, *_ in b.poles}:
        mine, theirs = _in_turn(family, a), _in_turn(family, b)
        if len(mine) == 2 and [pole for pole, _ in mine] == [pole for pole, _ in reversed(theirs)]:
            return " / ".join(word for _, word in mine)
    return None


def _in_turn(family: int, a: Facts) -> list[tuple[int, str]]:
    """Poles of a family of opposites and their first words as they come; none where the two are joined."""
    if family >= len(OPPOSITES):
        return []
    poles = {word: pole for of, pole, word in a.poles if of == family and word not in lexicon.FUNCTION}
    if len(poles) < 2:
        return []
    words = a.flat.split()
    first = {poles[word]: at for at, word in reversed([*enumerate(words)]) if word in poles}
    places = sorted(first.values())
    joined = any(not _JOINING.isdisjoint(words[one + 1 : other][-2:]) for one, other in pairwise(places))
    return [] if joined else [(poles[words[at]], words[at]) for at in places]


_HEADED = re.compile(r"(?= (\S+) (of|to|per) (?:(?:an?|the|my|your) )?(\S+) )")


def _headed(a: Facts, b: Facts) -> str | None:
    """An array of pointers, a pointer to an array; orders per customer, customers per order."""
    mine, theirs = _heads(a), _heads(b)
    turned = mine & {(y, x, per) for x, y, per in theirs} - theirs
    return next((f"{x} / {y}" for x, y, _ in sorted(turned)), None)


def _heads(a: Facts) -> Set[tuple[str, str, bool]]:
    return {(stem(x), stem(y), by == "per") for x, by, y in _HEADED.findall(a.flat)}


_WHO = re.compile(r"(?= (?:i|we|you|he|she|they|it) ([a-z]+) )")
_WHOSE = re.compile(r"(?= (?:my|our|your|his|her|their|its) ([a-z]+) ([a-z]+) )")


def _another(a: Facts, b: Facts) -> str | None:
    """Whether I may break it, whether my landlord may break it."""
    if a.story.strip() or b.story.strip():
        return None
    doing = stems(_WHO.findall(b.flat))
    for whose, does in _WHOSE.findall(a.flat):
        if stem(does) in doing and stem(whose) not in b.stems and does not in lexicon.FUNCTION:
            return f"{whose} / -"
    return None


def _source(a: Facts, b: Facts) -> str | None:
    """Dogs that catch it from people, people that catch it from dogs."""
    mine, theirs = (
        {word for role, word in each.roles if role == "from" and f" from {word}" in each.flat}
        for each in (a, b)
    )
    one_way = " to " not in a.flat and " to " not in b.flat and mine.isdisjoint(theirs)
    return swapped(mine & b.stems, theirs & a.stems) if one_way else None


_OWN = frozenset(("my", "mine", "our", "ours"))
_OTHERS = frozenset(("his", "her", "hers", "their", "theirs"))


def _mine(a: Facts, b: Facts) -> str | None:
    """To keep my version, to keep theirs, all else the same."""
    words, others = a.flat.split(), b.flat.split()
    if len(words) != len(others):
        return None
    apart = [(x, y) for x, y in zip(words, others, strict=True) if x != y]
    turned = apart and all((x in _OWN and y in _OTHERS) or (x in _OTHERS and y in _OWN) for x, y in apart)
    return " / ".join(apart[0]) if turned else None


_PARTICLE = re.compile(r"(?= ([a-z]+) (up|down|back|out|off|over|away) )")


def _particles(a: Facts, b: Facts) -> str | None:
    """To roll back, to roll out."""
    mine, theirs = ({(stem(x), y) for x, y in _PARTICLE.findall(each.flat)} for each in (a, b))
    for verb, particle in sorted(mine - theirs):
        other = sorted(y for x, y in theirs - mine if x == verb)
        if other and verb not in _FRAME:
            return f"{verb} {particle} / {verb} {other[0]}"
    return None


_SUBJECT_ASKED = re.compile(r"(?= (?:who|what) ([a-z]+) (?:the |an? )?([a-z]+) )")
_OBJECT_ASKED = re.compile(r"(?= (?:whom?|what) (?:do|does|did) (?:the |an? )?([a-z]+) ([a-z]+) )")


def _asked_of(a: Facts, b: Facts) -> str | None:
    """What frogs eat, what eats frogs."""
    of = {(stem(verb), stem(noun)) for verb, noun in _SUBJECT_ASKED.findall(a.flat)}
    found = of & {(stem(verb), stem(noun)) for noun, verb in _OBJECT_ASKED.findall(b.flat)}
    return " / ".join(min(found)) if found else None


def _about(a: Facts, b: Facts) -> str | None:
    """A book by somebody, a book about him."""
    by = {word for to, word in a.phrases - b.phrases if to == "by"} & stems(a.names)
    found = by & {word for to, word in b.phrases - a.phrases if to == "about"}
    return f"by {min(found)} / about {min(found)}" if found else None
