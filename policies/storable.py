"""May this answer be stored? Only if it is complete and the model ended it normally."""

from __future__ import annotations

from dataclasses import dataclass

ENDED_WELL = frozenset(
    {"stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "completed", "STOP"}
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended, in the same terms for every dialect."""

    whole: bool
    """Every byte arrived and was parsed."""
    reasons: tuple[str, ...] = ()
    """The finish reason of each choice, as its API names it."""
    refused: bool = False
    empty: bool = False


def objection(status: int, ending: Ending) -> str | None:
    """Why the answer may not be stored, or None if it may."""
    if status != 200:
        return "status"
    if not ending.whole:
        return "incomplete"
    if ending.empty:
        return "empty"
    if ending.refused:
        return "refusal"
    if not ending.reasons or not ENDED_WELL.issuperset(ending.reasons):
        return "ended-early"
    return None
