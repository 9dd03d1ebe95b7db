"""`nearhit simulate`."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.progress import Progress

from embeddings.base import Embedder, EmbeddingError
from policies.book import Book
from policies.errors import ConfigError
from policies.model import Category
from policies.prices import Prices
from proxy.cache import Rules
from proxy.kept_vectors import KeptVectors, open_kept
from proxy.settings import Settings
from proxy.settings_sources import load_settings
from proxy.simulation.figures import Outcome, load_of
from proxy.simulation.queueing import Ride, Service
from proxy.simulation.replay import MODEL, Conditions, Played, Policy, replay, replay_bound
from proxy.simulation.report import as_page
from proxy.simulation.shown import as_grid, as_json, side_by_side
from proxy.simulation.trace import Request, compressed, oracle, read_trace, sharpened

POLICIES = ("exact", "uniform", "category-aware", "adaptive")
UNIFORM_TTL_S = 86400.0
_WIDTH = 150
"""Columns of the tables if the output is not a terminal."""


class _Number(click.FloatRange):
    """A float that must be finite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@dataclass(frozen=True, slots=True)
class Plan:
    names: Collection[str]
    threshold: float
    settings: Settings
    conditions: Conditions = field(default_factory=Conditions)


_Path = click.Path(path_type=Path)


@click.command(short_help="Replay a trace through the real policies and cache on a virtual clock.")
@click.option("--trace", type=_Path, required=True, help="JSON lines, plain or gzip.")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
@click.option("--report", type=_Path, help="HTML file to write, with curves over time.")
@click.option(
    "--policy",
    "names",
    type=click.Choice(POLICIES),
    multiple=True,
    default=POLICIES,
    help="Can be repeated. Default: all of them.",
)
@click.option(
    "--threshold",
    type=_Number(0, 1),
    default=0.80,
    show_default=True,
    help="Threshold of the uniform policy, a cosine.",
)
@click.option(
    "--capacity",
    type=click.IntRange(1),
    help="Most calls that the upstream serves at once. Default: no limit, and so no pressure.",
)
@click.option("--queue", type=click.IntRange(0), help="Most calls waiting there; any more get a 429.")
@click.option(
    "--first-token",
    type=_Number(0),
    default=0.4,
    show_default=True,
    help="Seconds from being served at the upstream to the first token.",
)
@click.option(
    "--token-time", type=_Number(0), default=0.02, show_default=True, help="Seconds per further token."
)
@click.option(
    "--slowdown",
    type=_Number(0),
    default=0.0,
    show_default=True,
    help="At full capacity, a token takes 1 + this times as long.",
)
@click.option(
    "--lookup-ms",
    type=_Number(0),
    default=6.5,
    show_default=True,
    help="Milliseconds for embedding and search; higher for a remote search.",
)
@click.option(
    "--speed-up",
    type=_Number(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Make requests arrive this many times as fast; answers take as long as before.",
)
@click.option(
    "--burst",
    type=_Number(0),
    default=1.0,
    show_default=True,
    help="Raise the request rate of each half minute to this power, in the same total time.",
)
@click.option("--entries", type=click.IntRange(1), help="Most entries in memory. Default: the setting's.")
@click.option("--prices", type=_Path, help="File with the prices of models. Default: the setting's.")
@click.option("--categories", type=_Path, help="Folder of category files. Default: the setting's.")
@click.option("--config", type=_Path, help="Settings file. Default: nearhit.yaml, if there is one.")
def simulate(
    trace: Path,
    wants_json: bool,
    report: Path | None,
    names: tuple[str, ...],
    threshold: float,
    capacity: int | None,
    queue: int | None,
    first_token: float,
    token_time: float,
    slowdown: float,
    lookup_ms: float,
    speed_up: float,
    burst: float,
    entries: int | None,
    prices: Path | None,
    categories: Path | None,
    config: Path | None,
) -> None:
    """Replay recorded requests through the real classifier, policies, index and lifetimes, on a virtual clock
    and against a simulated upstream. Count right and wrong hits, and the load on the upstream.

    docs/simulation.md describes the trace and the figures.
    """
    if capacity is None and (queue is not None or slowdown):
        raise click.UsageError("--queue and --slowdown need --capacity: without it nothing ever waits")
    if report is not None and not report.absolute().parent.is_dir():
        raise click.UsageError(f"--report: there is no folder {report.parent}; create it first")
    flags = {
        "categories": categories and str(categories),
        "prices": prices and str(prices),
        "capacity.entries": entries,
    }
    service = Service(capacity, queue, first_token, token_time, slowdown)
    try:
        settings = load_settings(config, os.environ, flags)
        requests = sharpened(compressed(read_trace(trace), speed_up), burst)
        table = Prices.read(settings.prices)
        conditions = Conditions(service, settings.capacity.entries, lookup_ms / 1000)
        played = asyncio.run(simulated(requests, Plan(names, threshold, settings, conditions)))
        outcomes = outcomes_of(requests, played, conditions, table)
        if report is not None:
            report.write_text(as_page(outcomes, conditions), encoding="utf-8")
    except ConfigError as error:
        raise _BadInput(str(error)) from None
    except (EmbeddingError, OSError) as error:
        raise click.ClickException(str(error)) from None
    _note_unlabelled(requests)
    if wants_json:
        click.echo(as_json(outcomes, conditions))
    else:
        _print(outcomes)


class _BadInput(click.ClickException):
    exit_code = 2


async def simulated(trace: Sequence[Request], plan: Plan) -> dict[str, Played]:
    embedder = await asyncio.to_thread(open_kept, plan.settings.embedding)
    try:
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            return await _replay_all(trace, plan, embedder, progress)
    finally:
        await embedder.close()


async def _replay_all(
    trace: Sequence[Request], plan: Plan, embedder: KeptVectors, progress: Progress
) -> dict[str, Played]:
    policies = [await _policy(name, plan, embedder) for name in POLICIES if name in plan.names]
    if any(policy.by_meaning for policy in policies):
        texts = {request.query for request in trace}
        bar = progress.add_task("embedding", total=len(texts))
        await embedder.prepare(texts, partial(progress.advance, bar))
    played = {}
    for policy in policies:
        bar = progress.add_task(policy.name, total=len(trace))
        played[policy.name] = await replay(
            trace, policy, embedder, plan.conditions, partial(progress.advance, bar)
        )
    return played


async def _policy(name: str, plan: Plan, embedder: Embedder) -> Policy:
    if name in ("category-aware", "adaptive"):
        rules = await Rules.read(plan.settings.categories, embedder)
        return Policy(name, rules, adapts=name == "adaptive")
    one = Book.of([Category("default", plan.threshold, UNIFORM_TTL_S, guards=())])
    return Policy(name, await Rules.of(one, embedder), by_meaning=name != "exact")


def outcomes_of(
    trace: Sequence[Request], played: Mapping[str, Played], conditions: Conditions, prices: Prices
) -> dict[str, Outcome]:
    """The outcomes by policy, between two bounds: no cache at all, and one that knows the labels."""

    def cost(ride: Ride) -> float | None:
        """The price of the answer alone: a trace does not say how many tokens went in."""
        return prices.cost(trace[ride.number].model or MODEL, 0, ride.tokens)

    answered = {"none": [False] * len(trace), "oracle": oracle(trace)}
    bounds = {name: replay_bound(trace, known, conditions) for name, known in answered.items()}
    journals = {"none": bounds["none"], **{name: each.journal for name, each in played.items()}, **bounds}
    return {
        name: Outcome(
            load=load_of(journal, conditions.service, cost),
            journal=journal,
            table=played[name].table if name in played else None,
        )
        for name, journal in journals.items()
    }


def _note_unlabelled(trace: Sequence[Request]) -> None:
    unlabelled = sum(request.group is None for request in trace)
    if unlabelled:
        click.echo(
            f"{unlabelled:,} of {len(trace):,} requests have no group: their hits are counted but not judged",
            err=True,
        )


def _print(outcomes: Mapping[str, Outcome]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    grids: list[RenderableType] = [
        as_grid(name, each.table) for name, each in outcomes.items() if each.table is not None
    ]
    for grid in (*grids, side_by_side(outcomes)):
        console.print(grid)
