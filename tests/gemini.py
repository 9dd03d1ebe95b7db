"""Calls in Gemini's API: one question in the three forms of its answer."""

from __future__ import annotations

from typing import Any

from proxy import dialects

MODEL = "/v1beta/models/demo-chat"
WHOLE, EVENTS, ARRAY = (
    f"{MODEL}:{verb}"
    for verb in ("generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent")
)
FORMS = {WHOLE: "application/json", EVENTS: "text/event-stream", ARRAY: "application/json; charset=UTF-8"}

ASKED = "how are you today my friend"
REWORDED = "how are you my friend"


def speaking(target: str) -> Any:
    dialect = dialects.of("POST", target)
    assert dialect is not None
    return dialect


def asking(text: str = ASKED, *earlier: Any, **more: Any) -> dict[str, Any]:
    return {"contents": [*earlier, {"role": "user", "parts": [{"text": text}]}], **more}


def turn(role: str, *parts: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}
