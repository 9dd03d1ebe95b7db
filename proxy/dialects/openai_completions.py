"""OpenAI's text completions: https://platform.openai.com/docs/api-reference/completions"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policies.storable import Ending
from proxy.dialects.base import EVENTS, JsonObject, Reading, is_text, pieces
from proxy.dialects.openai_chunks import Gatherer, scattered
from proxy.dialects.openai_chunks import enrichment as enrichment
from proxy.dialects.openai_chunks import usage as usage
from proxy.dialects.openai_common import error as error
from proxy.dialects.openai_common import hosted_tools, reports_error
from proxy.dialects.turns import Span, prompt_span

name = "openai-completions"
framing = EVENTS
place = ""

_TRANSPORT = ("stream", "stream_options")


# Requests


def read(body: JsonObject) -> Reading | None:
    model, stream = body.get("model"), body.get("stream")
    if not is_text(model) or "prompt" not in body or not isinstance(stream, bool | None):
        return None
    if not isinstance(body.get("stream_options"), dict | None):
        return None
    verbatim = body.get("suffix") or body.get("echo")
    asked = Span(None, "verbatim", []) if verbatim else prompt_span(body["prompt"])
    identity = {k: v for k, v in body.items() if k not in _TRANSPORT}
    if asked.text is not None:
        identity["prompt"] = asked.rest
    return Reading(model, bool(stream), asked.text, asked.opaque, identity, hosted_tools(body))


# Streams to objects


def _grow(whole: JsonObject, choice: JsonObject) -> None:
    for key, new in choice.items():
        old = whole.get(key)
        if old is None or new is None:
            whole[key] = old if new is None else new
        elif key == "text" or isinstance(new, list):
            whole[key] = old + new
        elif key == "logprobs":
            whole[key] = _lists_joined(old, new)
        else:
            whole[key] = new


def _lists_joined(old: JsonObject, new: JsonObject) -> JsonObject:
    return {key: [*(old.get(key) or ()), *(new.get(key) or ())] for key in {**old, **new}}


def _settle(choice: JsonObject) -> JsonObject:
    return {"text": "", "logprobs": None, "finish_reason": None} | choice


def gatherer() -> Gatherer:
    return Gatherer("text_completion", _grow, _settle)


# Objects to streams


def scatter(answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
    return scattered("text_completion", answer, request, _parts)


def _parts(choice: JsonObject) -> Iterator[JsonObject]:
    """Tokens that are told with their probabilities stay with their text."""
    told, text = choice.get("logprobs"), choice.get("text")
    frame = {"index": choice.get("index", 0), "text": "", "logprobs": None, "finish_reason": None}
    for piece in pieces(text) if told is None else (text,):
        yield {**frame, "text": piece, "logprobs": told}
    yield {**frame, **{k: v for k, v in choice.items() if k not in ("text", "logprobs")}}


# What an answer says of itself


def ending(answer: JsonObject) -> Ending:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not all(_is_choice(choice) for choice in choices):
        return Ending(whole=False)
    if reports_error(answer, choices):
        return Ending(whole=False)
    return Ending(
        whole=True,
        reasons=tuple(str(choice.get("finish_reason")) for choice in choices),
        empty=not all(choice["text"] for choice in choices),
    )


def _is_choice(choice: Any) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("text"), str)


def said(answer: JsonObject) -> str:
    return "\n".join(choice["text"] for choice in answer["choices"])
