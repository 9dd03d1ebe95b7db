"""The outcome of a replay for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table as Grid

from proxy.simulation.figures import Load, Outcome
from proxy.simulation.queueing import Service
from proxy.simulation.replay import Conditions
from proxy.simulation.rows import Row, Table

ROW_COLUMNS = (
    "requests", "hits", "exact", "semantic", "inflight", "oracle", "right/oracle", "wrong/hits", "stale/hits",
    "upstream",
)  # fmt: skip
LOAD_COLUMNS = (
    "hits", "wrong/hits", "calls", "of none", "refused", "busy", "queue", "most", "p50 s", "p95 s", "p99 s",
    "pressure", "cost",
)  # fmt: skip


def as_json(outcomes: Mapping[str, Outcome], conditions: Conditions) -> str:
    """Of the upstream only where one was described."""
    policies = {name: _table(each.table) for name, each in outcomes.items() if each.table is not None}
    told: dict[str, Any] = {"policies": policies}
    if conditions.service != Service():
        told["upstream"] = {name: asdict(each.load) for name, each in outcomes.items()}
        told["conditions"] = asdict(conditions)
    return json.dumps(told)


def _table(table: Table) -> dict[str, Any]:
    return {
        "overall": asdict(table.overall),
        "categories": {category: asdict(row) for category, row in sorted(table.categories.items())},
    }


def as_grid(name: str, table: Table) -> Grid:
    """In Markdown, so that it can be pasted."""
    grid = _grid(name, ROW_COLUMNS)
    for category, row in sorted(table.categories.items()):
        grid.add_row(category, *cells(row))
    grid.add_row("overall", *cells(table.overall))
    return grid


def side_by_side(outcomes: Mapping[str, Outcome]) -> Grid:
    grid = _grid("upstream", LOAD_COLUMNS)
    none = outcomes["none"].load
    for name, each in outcomes.items():
        grid.add_row(name, *load_cells(each, none))
    return grid


def _grid(first: str, columns: tuple[str, ...]) -> Grid:
    grid = Grid(box=box.MARKDOWN)
    grid.add_column(first, no_wrap=True)
    for column in columns:
        grid.add_column(column, no_wrap=True, justify="right")
    return grid


def cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.requests:,}",
        _share(row.hits, row.requests),
        _share(row.exact, row.requests),
        _share(row.semantic, row.requests),
        _share(row.inflight, row.requests),
        _share(row.oracle, row.requests),
        _share(row.right, row.oracle),
        _share(row.wrong, row.hits),
        _share(row.stale, row.hits),
        f"{row.upstream_calls:,}",
    )


def load_cells(outcome: Outcome, none: Load) -> tuple[str, ...]:
    load, journal = outcome.load, outcome.journal
    hits = int(journal.hit.sum())
    return (
        _share(hits, len(journal.hit)),
        _share(int(journal.wrong.sum()), hits),
        f"{load.calls:,}",
        _share(load.calls, none.calls),
        f"{load.refused:,}",
        "–" if load.busy is None else f"{load.busy:.1%}",
        f"{load.waiting.mean:,.1f}",
        f"{load.waiting.max:,.0f}",
        _seconds(load.latency_s.p50),
        _seconds(load.latency_s.p95),
        _seconds(load.latency_s.p99),
        f"{load.pressure.mean:.2f}",
        "–" if load.cost is None else f"{load.cost:,.2f}",
    )


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"
