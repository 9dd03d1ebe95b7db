"""The outcome of a replay for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from rich import box
from rich.table import Table as Grid

from proxy.simulation.replay import Row, Table

_COLUMNS = (
    "requests", "hits", "exact", "semantic", "oracle", "right/oracle", "wrong/hits", "stale/hits", "upstream",
)  # fmt: skip


def as_json(tables: Mapping[str, Table]) -> str:
    policies = {
        name: {
            "overall": asdict(table.overall),
            "categories": {category: asdict(row) for category, row in sorted(table.categories.items())},
        }
        for name, table in tables.items()
    }
    return json.dumps({"policies": policies})


def as_grid(name: str, table: Table) -> Grid:
    """In Markdown, so that it can be pasted."""
    grid = Grid(box=box.MARKDOWN)
    grid.add_column(name, no_wrap=True)
    for column in _COLUMNS:
        grid.add_column(column, no_wrap=True, justify="right")
    for category, row in sorted(table.categories.items()):
        grid.add_row(category, *_cells(row))
    grid.add_row("overall", *_cells(table.overall))
    return grid


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.requests:,}",
        _share(row.hits, row.requests),
        _share(row.exact, row.requests),
        _share(row.semantic, row.requests),
        _share(row.oracle, row.requests),
        _share(row.right, row.oracle),
        _share(row.wrong, row.hits),
        _share(row.stale, row.hits),
        f"{row.upstream_calls:,}",
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"
