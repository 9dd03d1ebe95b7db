"""May this answer be stored? Only one that is whole and that ended as its model meant it to."""

from __future__ import annotations

from dataclasses import dataclass

ENDED_WELL = frozenset(
    {"stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "completed", "STOP"}
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended, in no dialect's words."""

    whole: bool
    """Every byte arrived and parsed."""
    reasons: tuple[str, ...] = ()
    """Why each choice stopped, in its API's words."""
    refused: bool = False
    empty: bool = False


def objection(status: int, ending: Ending) -> str | None:
    """Why not, or None."""
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
