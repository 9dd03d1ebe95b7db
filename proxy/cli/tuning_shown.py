"""Shows the result of `nearhit tune` as a table, as JSON and as an HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from rich import box
from rich.table import Table as Grid

from policies.model import Category
from policies.tuning import Advice, Point, Share
from proxy.charts import Band, Chart, Line, page

_COLUMNS = ("pairs", *("now", "hits", "wrong", "recall"), *("proposed", "hits", "wrong", "recall"))
_BARS = " ▁▂▃▄▅▆▇█"
_SHOWN_FROM = 0.6
_SHOWN_STEPS = 4
"""Every fourth point of the curve: steps of 0.02."""


@dataclass(frozen=True, slots=True)
class Tuned:
    category: Category
    pairs: int
    advice: Advice


def as_json(tuned: Sequence[Tuned], wanted: float, confidence: float) -> str:
    categories = {each.category.name: _record(each) for each in tuned}
    return json.dumps({"wrong_rate": wanted, "confidence": confidence, "categories": categories})


def _record(tuned: Tuned) -> dict[str, Any]:
    advice = tuned.advice
    return {
        "pairs": tuned.pairs,
        "floor": tuned.category.load.threshold_floor,
        "now": _point(advice.now),
        "proposed": advice.proposed and _point(advice.proposed),
        "missing_pairs": advice.missing,
        "curve": [_point(point) for point in advice.curve],
    }


def _point(point: Point) -> dict[str, Any]:
    return {"threshold": point.threshold, "wrong": _share(point.wrong), "recall": _share(point.recall)}


def _share(share: Share) -> dict[str, Any]:
    value = share.value if share.whole else None
    return {"part": share.part, "whole": share.whole, "value": value, "low": share.low, "high": share.high}


def as_grid(tuned: Sequence[Tuned]) -> Grid:
    """A table in Markdown, so that it can be pasted."""
    grid = Grid(box=box.MARKDOWN)
    grid.add_column("category", no_wrap=True)
    for column in _COLUMNS:
        grid.add_column(column, no_wrap=True, justify="right")
    for each in tuned:
        proposed = _cells(each.advice.proposed) if each.advice.proposed else ("–", "", "", "")
        grid.add_row(each.category.name, f"{each.pairs:,}", *_cells(each.advice.now), *proposed)
    return grid


def _cells(point: Point) -> tuple[str, str, str, str]:
    wrong = f"{_percent(point.wrong)} ({point.wrong.low:.1%}–{point.wrong.high:.1%})"
    return f"{point.threshold:g}", f"{point.wrong.whole:,}", wrong, _percent(point.recall)


def _percent(share: Share) -> str:
    return f"{share.value:.1%}" if share.whole else "–"


def notes(tuned: Sequence[Tuned], wanted: float, confidence: float) -> Iterator[str]:
    for each in tuned:
        if note := refusal(each, wanted, confidence):
            yield note
    yield ""
    yield f"From {_SHOWN_FROM:g} to 1 in steps of 0.02: recall, full at 100 %, and wrong hits, full at 10 %."
    for each in tuned:
        points = [p for p in each.advice.curve if p.threshold >= _SHOWN_FROM][::_SHOWN_STEPS]
        recall = "".join(_bar(point.recall, 1.0) for point in points)
        wrong = "".join(_bar(point.wrong, 0.1) for point in points)
        yield f"{each.category.name:18} {recall}   {wrong}"


def refusal(tuned: Tuned, wanted: float, confidence: float) -> str:
    """Why there is no proposal, or that it is held at the floor; "" if there is nothing to say."""
    name, advice, floor = tuned.category.name, tuned.advice, tuned.category.load.threshold_floor
    if advice.proposed is not None:
        held = advice.proposed.threshold == floor
        return f"{name}: no lower than its load.threshold_floor, {floor:g}" if held else ""
    if advice.missing is None:
        return (
            f"{name}: at every threshold {wanted:.3g} or more of the hits are wrong; more pairs will not help"
        )
    return (
        f"{name}: too few pairs to say with {confidence:.3g} confidence that at most {wanted:.3g} of the "
        f"hits are wrong; about {advice.missing:,} more like these are needed"
    )


def _bar(share: Share, full: float) -> str:
    if not share.whole or not share.part:
        return _BARS[0]
    return _BARS[max(1, round(min(1.0, share.value / full) * (len(_BARS) - 1)))]


# The page


def as_page(tuned: Sequence[Tuned], wanted: float, confidence: float) -> str:
    sections = [_section(each, wanted, confidence) for each in tuned]
    lead = (
        f"At most {wanted:.3g} of the hits wrong, with {confidence:.3g} confidence. "
        "The band shows where the true share lies."
    )
    return page("nearhit tune", f"<p>{escape(lead)}</p>{''.join(sections)}")


def _section(tuned: Tuned, wanted: float, confidence: float) -> str:
    advice = tuned.advice
    lines = [f"{tuned.pairs:,} pairs", f"now: {_sentence(advice.now)}"]
    if advice.proposed is not None:
        lines.append(f"proposed: {_sentence(advice.proposed)}")
    lines.append(refusal(tuned, wanted, confidence))
    text = "<br>".join(escape(line) for line in lines if line)
    charts = f"{_wrong_chart(advice, wanted).svg()}{_recall_chart(advice).svg()}"
    return f"<h2>{escape(tuned.category.name)}</h2><p>{text}</p>{charts}"


def _sentence(point: Point) -> str:
    threshold, hits, wrong, recall = _cells(point)
    return f"threshold {threshold}, {hits} hits, {wrong} of them wrong, recall {recall}"


def _wrong_chart(advice: Advice, wanted: float) -> Chart:
    points = [point for point in advice.curve if point.wrong.whole]
    return Chart(
        "wrong of hits",
        "threshold",
        x=(advice.curve[0].threshold, 1.0),
        y=(0.0, max(5 * wanted, 0.1)),
        bands=[Band([(p.threshold, p.wrong.low, p.wrong.high) for p in points])],
        lines=[Line("", [(p.threshold, p.wrong.value) for p in points])],
        level=wanted,
        marks=_marks(advice),
    )


def _recall_chart(advice: Advice) -> Chart:
    points = [point for point in advice.curve if point.recall.whole]
    return Chart(
        "recall of equivalent pairs",
        "threshold",
        x=(advice.curve[0].threshold, 1.0),
        y=(0.0, 1.0),
        bands=[Band([(p.threshold, p.recall.low, p.recall.high) for p in points])],
        lines=[Line("", [(p.threshold, p.recall.value) for p in points])],
        marks=_marks(advice),
    )


def _marks(advice: Advice) -> dict[str, float]:
    proposed = {"proposed": advice.proposed.threshold} if advice.proposed else {}
    return {"now": advice.now.threshold, **proposed}
