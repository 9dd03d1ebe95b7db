"""`nearhit simulate`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from embeddings.base import Embedder, EmbeddingError
from policies.book import Book
from policies.classifier import Classifier
from policies.errors import ConfigError
from policies.model import Category
from proxy.app import make_rules
from proxy.cache import Rules
from proxy.kept_vectors import KeptVectors, open_kept
from proxy.settings import Settings, load_settings
from proxy.simulation.replay import Policy, Table, replay
from proxy.simulation.shown import as_grid, as_json
from proxy.simulation.trace import Request, read_trace

POLICIES = ("exact", "uniform", "category-aware")
UNIFORM_TTL_S = 86400.0
_WIDTH = 130
"""Columns of the tables where the output is no terminal."""


@dataclass(frozen=True, slots=True)
class Plan:
    names: Collection[str]
    threshold: float
    settings: Settings


@click.command(short_help="Replay a trace through the real policies and cache on a virtual clock.")
@click.option("--trace", type=click.Path(path_type=Path), required=True, help="JSON lines, plain or gzip.")
@click.option("--json", "wants_json", is_flag=True, help="One JSON object on standard output.")
@click.option(
    "--policy",
    "names",
    type=click.Choice(POLICIES),
    multiple=True,
    default=POLICIES,
    help="May be repeated; without it all of them.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.80,
    show_default=True,
    help="Cosine that the uniform policy asks for.",
)
@click.option("--capacity", type=click.IntRange(1), help="Most entries in memory; else the setting's.")
@click.option(
    "--categories", type=click.Path(path_type=Path), help="Folder of categories; else the setting's."
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file; else nearhit.yaml, if any.")
def simulate(
    trace: Path,
    wants_json: bool,
    names: tuple[str, ...],
    threshold: float,
    capacity: int | None,
    categories: Path | None,
    config: Path | None,
) -> None:
    """Replay recorded requests through the real classifier, policies, index and lifetimes, on a clock that
    shows the trace's time, and count what would have been hit, rightly and wrongly.

    docs/simulation.md says what the trace looks like and what each figure means.
    """
    flags = {"categories": categories and str(categories), "capacity.entries": capacity}
    try:
        settings = load_settings(config, os.environ, flags)
        requests = read_trace(trace)
        tables = asyncio.run(simulated(requests, Plan(names, threshold, settings)))
    except ConfigError as error:
        raise _BadInput(str(error)) from None
    except (EmbeddingError, OSError) as error:
        raise click.ClickException(str(error)) from None
    _note_unlabelled(requests)
    if wants_json:
        click.echo(as_json(tables))
    else:
        _print(tables)


class _BadInput(click.ClickException):
    exit_code = 2


async def simulated(trace: Sequence[Request], plan: Plan) -> dict[str, Table]:
    embedder = await asyncio.to_thread(open_kept, plan.settings.embedding)
    try:
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            return await _replay_all(trace, plan, embedder, progress)
    finally:
        await embedder.close()


async def _replay_all(
    trace: Sequence[Request], plan: Plan, embedder: KeptVectors, progress: Progress
) -> dict[str, Table]:
    policies = [await _policy(name, plan, embedder) for name in POLICIES if name in plan.names]
    if any(policy.by_meaning for policy in policies):
        texts = {request.query for request in trace}
        bar = progress.add_task("embedding", total=len(texts))
        await embedder.prepare(texts, partial(progress.advance, bar))
    tables = {}
    for policy in policies:
        bar = progress.add_task(policy.name, total=len(trace))
        capacity = plan.settings.capacity.entries
        tables[policy.name] = await replay(trace, policy, embedder, capacity, partial(progress.advance, bar))
    return tables


async def _policy(name: str, plan: Plan, embedder: Embedder) -> Policy:
    if name == "category-aware":
        return Policy(name, await make_rules(plan.settings.categories, embedder))
    one = Book.of([Category("default", plan.threshold, UNIFORM_TTL_S, guards=())])
    return Policy(name, Rules(one, await Classifier.taught(one, embedder)), by_meaning=name != "exact")


def _note_unlabelled(trace: Sequence[Request]) -> None:
    unlabelled = sum(request.group is None for request in trace)
    if unlabelled:
        click.echo(
            f"{unlabelled:,} of {len(trace):,} requests have no group: their hits are counted, not judged",
            err=True,
        )


def _print(tables: Mapping[str, Table]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    for name, table in tables.items():
        console.print(as_grid(name, table))
