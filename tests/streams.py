"""Event streams in the hands of a dialect."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from proxy.dialects import Dialect
from proxy.dialects.base import MALFORMED
from proxy.sse import Splitter, payload


def gathered(dialect: Dialect, stream: bytes, at: Sequence[int] = ()) -> dict[str, Any] | None:
    """What the dialect makes of a stream that arrives cut at the given places; None also where it can make
    nothing of it."""
    places = [0, *sorted({place % (len(stream) + 1) for place in at}), len(stream)]
    splitter, gatherer = dialect.framing.splitter(), dialect.gatherer()
    try:
        for a, b in itertools.pairwise(places):
            for event in splitter.feed(stream[a:b]):
                gatherer.feed(event)
        gatherer.feed(splitter.rest())
        return gatherer.answer()
    except MALFORMED:
        return None


def events(stream: bytes) -> list[Any]:
    """The objects that a stream carries."""
    found = [payload(event) for event in Splitter().feed(stream)]
    return [json.loads(each) for each in found if each not in (None, b"[DONE]")]
