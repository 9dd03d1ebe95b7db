"""The turns of a conversation: messages with a role, and a content that is a text or a list of parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

from proxy.dialects.base import JsonObject, is_text

_TEXTS = ("text", "input_text", "output_text")
"""The types of pure text parts, in all APIs."""


@dataclass(frozen=True, slots=True)
class Span:
    """The fuzzy span of a request: the text of the last turn, if that is the user's."""

    text: str | None
    opaque: str
    """Why there is no text; "" if there is one."""
    rest: list[JsonObject]
    """The turns without that text; empty for a prompt that is not a conversation."""

    @property
    def tied(self) -> bool:
        """Whether a part may be a file that the upstream keeps for this caller alone."""
        return self.opaque == "media"


def are_turns(value: object) -> TypeGuard[list[JsonObject]]:
    """Whether it is a list of one or more objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def span(turns: list[JsonObject]) -> Span:
    """The span of a conversation. It has no text if any part of any turn is not text, as then only identical
    bytes are known to mean the same."""
    if any(_has_media(turn) for turn in turns):
        return Span(None, "media", turns)
    text, opaque, last = _last(turns[-1])
    return Span(text, opaque, [*turns[:-1], last])


def prompt_span(prompt: Any) -> Span:
    """The span of a prompt that is not a conversation: its text, if it is a single line. Several lines may be
    the turns or the examples of a template, of which only the last may differ, and it is impossible to tell
    where that begins."""
    if not isinstance(prompt, str):
        return Span(None, "several-prompts", [])
    if not is_text(prompt):
        return Span(None, "not-unicode", [])
    lines = prompt.strip().splitlines()
    if len(lines) != 1:
        return Span(None, "lines" if lines else "empty", [])
    return Span(prompt, "", [])


def _last(turn: JsonObject) -> tuple[str | None, str, JsonObject]:
    content = turn.get("content")
    if turn.get("role") != "user":
        return None, "last-turn", turn
    if isinstance(content, str):
        text, rest = content, {**turn, "content": None}
    elif _is_texts(content):
        text, rest = content[-1]["text"], {**turn, "content": [*content[:-1], {**content[-1], "text": None}]}
    else:
        return None, "media", turn
    if not is_text(text):
        return None, "not-unicode", turn
    return (text, "", rest) if text.strip() else (None, "empty", turn)


def _is_texts(content: Any) -> TypeGuard[list[JsonObject]]:
    return isinstance(content, list) and bool(content) and all(_is_text(part) for part in content)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _TEXTS and isinstance(part.get("text"), str)


def _has_media(turn: JsonObject) -> bool:
    content = turn.get("content")
    return "audio" in turn or (isinstance(content, list) and not all(_is_text(part) for part in content))
