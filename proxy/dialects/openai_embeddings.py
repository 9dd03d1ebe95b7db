"""OpenAI's embeddings: https://platform.openai.com/docs/api-reference/embeddings

A call asks for several vectors at once. Each is remembered by itself, as the answer to a call for it alone,
and the answer to a call is put together from such. Numbers are moved as they are written, never read: that
keeps every digit, and reading a thousand vectors would hold up everybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from policies.storable import Ending
from proxy.dialects.base import (
    EVENTS,
    NOTHING_ADDED,
    JsonObject,
    NoStream,
    Reading,
    Usage,
    dump,
    is_text,
    usage_in,
)
from proxy.dialects.openai_common import error as error

name = "openai-embeddings"
framing = EVENTS
place = ""

enrichment = NOTHING_ADDED
gatherer = NoStream


# Requests


def read(body: JsonObject) -> Reading | None:
    model = body.get("model")
    if not is_text(model) or not items(body):
        return None
    identity = {k: v for k, v in body.items() if k != "input"}
    return Reading(model, False, None, "vectors", identity)


def items(body: JsonObject) -> list[Any]:
    """What a vector is wanted of: texts, or lists of tokens. Empty for anything else."""
    given = body.get("input")
    if isinstance(given, str) or _is_tokens(given):
        return [given]
    if not isinstance(given, list):
        return []
    alike = all(isinstance(item, str) for item in given) or all(map(_is_tokens, given))
    return given if alike else []


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


# Answers


@dataclass(frozen=True, slots=True)
class Part:
    """One vector of an answer."""

    around: JsonObject
    """The answer's members but `data` and `usage`."""
    fields: JsonObject
    """The vector's members but itself and its place."""
    vector: bytes
    """As it is written: an array of numbers, or base64."""
    usage: dict[str, int]


_NUMBERS = re.compile(rb'("embedding"\s*:\s*)(\[[^]["{}NI]*\])')
"""Outside a string; inside one the quotes would be escaped. Not with `NaN` or `Infinity`: that is no JSON."""


def _not_json(constant: str) -> float:
    raise ValueError(constant)


def parts(body: bytes, weights: Sequence[int]) -> list[Part] | None:
    """The vectors of an answer in their order, each with its share of the usage by its weight. None when it
    is not the answer to a call for so many."""
    arrays: list[bytes] = []

    def moved(found: re.Match[bytes]) -> bytes:
        arrays.append(found[2])
        return found[1] + b'{"array":%d}' % (len(arrays) - 1)

    try:
        whole = json.loads(_NUMBERS.sub(moved, body), parse_constant=_not_json)
        data = sorted(whole.pop("data"), key=lambda item: int(item["index"]))
        usages = _shared(whole.pop("usage", None) or {}, weights)
        if whole.get("error") or [item.pop("index") for item in data] != list(range(len(weights))):
            return None
        vectors = [_written(item.pop("embedding"), arrays) for item in data]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError):
        return None
    return [Part(whole, *each) for each in zip(data, vectors, usages, strict=True)]


def _written(vector: Any, arrays: list[bytes]) -> bytes:
    return arrays[vector["array"]] if isinstance(vector, dict) else dump(vector)


def _shared(usage: JsonObject, weights: Sequence[int]) -> list[dict[str, int]]:
    """Whole numbers whose sum is the whole's."""
    ends = list(accumulate(weights))
    shares: list[dict[str, int]] = [{} for _ in weights]
    for key, total in usage.items():
        if isinstance(total, int):
            before = 0
            for share, end in zip(shares, ends, strict=True):
                share[key], before = total * end // ends[-1] - before, total * end // ends[-1]
    return shares


def joined(vectors: Sequence[Part]) -> bytes:
    """The answer to a call for these."""
    usage: dict[str, int] = {}
    for part in vectors:
        for key, count in part.usage.items():
            usage[key] = usage.get(key, 0) + count
    pieces = [dump({**vectors[-1].around, "usage": usage})[:-1], b',"data":[']
    for index, part in enumerate(vectors):
        opening = b"" if index == 0 else b","
        pieces += opening, dump({**part.fields, "index": index})[:-1], b',"embedding":', part.vector, b"}"
    return b"".join([*pieces, b"]}"])  # once, as there may be megabytes


# What an answer says of itself: never streamed, never compared


def scatter(answer: JsonObject, request: JsonObject) -> Iterator[bytes]:
    return iter(())


def ending(answer: JsonObject) -> Ending:
    return Ending(whole=isinstance(answer.get("data"), list), reasons=("completed",))


def said(answer: JsonObject) -> str:
    return ""


def usage(answer: JsonObject) -> Usage:
    return Usage.told(usage_in(answer).get("prompt_tokens"))
