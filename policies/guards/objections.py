"""Objections to serving the answer stored for one question to another.

Cosine hardly sees a changed number, an added "not", another file name or city. Each guard looks at one such
thing in both texts and names what it found. They compare `Facts`, extracted once per text and remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from policies.guards.direction import direction
from policies.guards.facts import Facts, facts
from policies.guards.names import entities, identifiers, language, swaps
from policies.guards.negation import negation
from policies.guards.numbers import dates, numbers, quantities
from policies.guards.question import conditions, question
from policies.guards.wording import additions, exchange, wording

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
