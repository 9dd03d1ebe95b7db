"""The outcome of a replay as a page with curves over the trace's time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from proxy.charts import Chart, Line, page
from proxy.simulation.figures import Outcome
from proxy.simulation.replay import Conditions
from proxy.simulation.rows import Table
from proxy.simulation.shown import LOAD_COLUMNS, ROW_COLUMNS, cells, load_cells
from proxy.simulation.traffic import Journal

SPANS = 60
"""Pieces that the time is cut into."""
_STYLE = """
<style>table{border-collapse:collapse;font-size:13px;margin:1rem 0;display:block;overflow-x:auto}
td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #8c959f55}
td:first-child,th:first-child{text-align:left}
</style>""".strip()
Curve = Callable[[Journal, NDArray[np.bool_]], float]


def as_page(outcomes: Mapping[str, Outcome], conditions: Conditions) -> str:
    return page("nearhit simulate", "".join(_body(outcomes, conditions)))


def _body(outcomes: Mapping[str, Outcome], conditions: Conditions) -> Iterator[str]:
    none = outcomes["none"].load
    yield _STYLE
    yield f"<p>{escape(_sentence(outcomes, conditions))}</p>"
    rows = ((name, *load_cells(each, none)) for name, each in outcomes.items())
    yield _table(("upstream", *LOAD_COLUMNS), rows)
    yield "".join(chart.svg() for chart in _charts(outcomes))
    for name, each in outcomes.items():
        if each.table is not None:
            yield f"<h2>{escape(name)}</h2>"
            yield _table(("category", *ROW_COLUMNS), _rows(each.table))


def _sentence(outcomes: Mapping[str, Outcome], conditions: Conditions) -> str:
    service, journal = conditions.service, outcomes["none"].journal
    places = "any number of calls" if service.capacity is None else f"{service.capacity} calls"
    return (
        f"{len(journal.at):,} requests in {journal.at[-1] - journal.at[0]:,.0f} s. The upstream serves "
        f"{places} at once, {service.first_token_s:g} s to the first token and {service.token_s:g} s for "
        "each token after it. none: no cache. oracle: a cache that knows which questions have one answer."
    )


def _rows(table: Table) -> Iterator[tuple[str, ...]]:
    for category, row in sorted(table.categories.items()):
        yield category, *cells(row)
    yield "overall", *cells(table.overall)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + f"</tr>{lines}</table>"


# Curves


def _charts(outcomes: Mapping[str, Outcome]) -> Iterator[Chart]:
    policies = {name: each.journal for name, each in outcomes.items() if each.table is not None}
    with_none = {**policies, "none": outcomes["none"].journal}
    yield _chart("hits, share of requests", policies, lambda j, span: float(j.hit[span].mean()))
    yield _chart("wrong, share of requests", policies, lambda j, span: float(j.wrong[span].mean()))
    yield _chart("calls at the upstream", with_none, lambda j, span: float(j.running[span].mean()))
    yield _chart("calls in its queue", policies, lambda j, span: float(j.waiting[span].mean()))
    yield _chart("pressure", policies, lambda j, span: float(j.pressure[span].mean()))
    yield _chart("latency, 95th percentile, s", policies, _p95)


def _p95(journal: Journal, span: NDArray[np.bool_]) -> float:
    answered = journal.latency[span & ~np.isnan(journal.latency)]
    return float(np.percentile(answered, 95)) if len(answered) else 0.0


def _chart(title: str, journals: Mapping[str, Journal], curve: Curve) -> Chart:
    lines = [Line(name, _points(journal, curve)) for name, journal in journals.items()]
    highest = max((y for line in lines for _, y in line.points), default=0.0)
    at = next(iter(journals.values())).at
    return Chart(
        title, "seconds", x=(0.0, float(at[-1] - at[0]) or 1.0), y=(0.0, highest * 1.3 or 1.0), lines=lines
    )


def _points(journal: Journal, curve: Curve) -> list[tuple[float, float]]:
    """In the middle of each span in which requests came."""
    since = journal.at - journal.at[0]
    edges = np.linspace(0.0, float(since[-1]) or 1.0, SPANS + 1)
    place = np.clip(np.searchsorted(edges, since, side="right") - 1, 0, SPANS - 1)
    middles = (edges[:-1] + edges[1:]) / 2
    spans = ((float(middles[number]), place == number) for number in range(SPANS))
    return [(middle, curve(journal, span)) for middle, span in spans if span.any()]
