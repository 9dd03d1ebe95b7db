"""The soak measures what it says: the traffic is mixed as told, and what grows is found to grow."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import pytest

pytest.importorskip("playwright", reason="the soak opens the dashboard with playwright")

from benchmarks import soak
from benchmarks.traffic import ASKED


def minutes(rss: list[float], heap: list[float]) -> list[soak.Minute]:
    return [soak.Minute(10_000, 9_000, a, b, 4_400) for a, b in zip(rss, heap, strict=True)]


@pytest.mark.parametrize(
    ("rss", "heap", "flat"),
    [
        ([400.0, 400.3, 399.9, 400.1], [1.58, 1.57, 1.59, 1.58], True),
        ([400.0, 404.0, 408.0, 412.0], [1.58, 1.57, 1.59, 1.58], False),
        ([400.0, 400.3, 399.9, 400.1], [1.50, 1.55, 1.60, 1.65], False),
    ],
)
def test_what_grows_is_told_from_what_does_not(rss: list[float], heap: list[float], flat: bool) -> None:
    told = soak.report(minutes(rss, heap))
    assert told["flat"] is flat
    assert soak.grown([100.0, 102.0, 104.0]) == pytest.approx(0.04)


def test_of_the_traffic_as_much_is_new_and_in_other_words_as_told() -> None:
    known, seen = set[str](), Counter[str]()
    traffic = soak.Traffic(1)
    known.update(f"{ASKED} {topic}?" for topic in traffic._lately)
    for request in islice(traffic.steady(1e9), 4_000):
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        question = body["messages"][-1]["content"]
        kind = "exact" if question in known else "new" if question.startswith(ASKED) else "reworded"
        seen[kind] += 1
        known.add(question)
    assert seen["new"] / 4_000 == pytest.approx(soak.NEW, abs=0.015)
    assert 0.05 < seen["reworded"] / 4_000 <= soak.REWORDED + 0.015
