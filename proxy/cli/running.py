"""The commands that talk to a running proxy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from proxy.cli.client import HIDDEN, AdminClient, AdminError, BadOrder
from proxy.cli.main import settings_from, with_config

F = TypeVar("F", bound=Callable[..., Any])
Json = dict[str, Any]


def with_admin(command: F) -> F:
    """Adds the options that say where the admin plane is."""
    command = click.option("--json", "as_json", is_flag=True, help="Print the admin plane's JSON.")(command)
    command = click.option("--admin-port", type=int, help="Port of the admin plane. Default: the setting's.")(
        command
    )
    command = click.option("--url", help="URL of the admin plane. Default: from the settings.")(command)
    return with_config(command)


def _client(config: Path | None, url: str | None, admin_port: int | None) -> AdminClient:
    port = None if admin_port is None else str(admin_port)
    return AdminClient(settings_from(config, admin_port=port), url)


def _ask(send: Callable[[], Any]) -> Any:
    try:
        return send()
    except BadOrder as error:
        raise click.UsageError(str(error)) from None
    except AdminError as error:
        raise click.ClickException(str(error)) from None


def _given(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _dump(answer: Any) -> None:
    click.echo(json.dumps(answer, indent=2, ensure_ascii=True))


# stats


@click.command()
@with_admin
def stats(config: Path | None, url: str | None, admin_port: int | None, as_json: bool) -> None:
    """Show the running proxy's statistics since its start, by category."""
    answer = _ask(lambda: _client(config, url, admin_port).get("stats"))
    if as_json:
        _dump(answer)
        return
    console = Console()
    if not console.is_terminal:
        console.width = 130
    console.print(_table(answer))
    console.print()
    console.print(_economics(answer))


_COLUMNS = ("calls", "hits", "wrong", "exact", "semantic", "inflight", "shadow", "stored", "saved ms")


def _table(answer: Json) -> Table:
    table = Table(title=_title(answer), title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("category", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=" " not in name)  # wraps "saved ms" at 80 columns
    for name, row in answer["categories"].items():
        if row["requests"] or row["entries"]:
            table.add_row(name, *_cells(row))
    table.add_section()
    table.add_row("all", *_cells(answer["overall"]))
    return table


def _title(answer: Json) -> str:
    return (
        f"up {answer['uptime']:.0f} s, {answer['entries']} of {answer['capacity']} entries,"
        f" {answer['bytes'] / 2**20:.1f} MiB"
    )


def _cells(row: Json) -> list[str]:
    """Hits, tiers and shadow hits as shares of the calls; wrong hits as a share of the checked ones."""
    calls = row["requests"]
    hits, *tiers = (
        f"{row[name] / calls if calls else 0.0:.0%}"
        for name in ("hits", "exact", "semantic", "inflight", "shadow")
    )
    wrong = _maybe(row.get("audit", {}).get("wrong_rate"), ".1%")
    return [str(calls), hits, wrong, *tiers, str(row["stored"]), str(round(row["saved_ms"]))]


_MONEY_COLUMNS = ("h", "h*", "net ms", "ms/h", "tokens/h")


def _economics(answer: Json) -> Table:
    """h is the hit rate of the look-ups, h* the break-even hit rate."""
    currency = answer["currency"]
    table = Table(title="per look-up and per hour", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("category", no_wrap=True)
    for name in (*_MONEY_COLUMNS, f"{currency}/h"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("mode", no_wrap=True)
    table.add_column("why")
    for name, row in answer["categories"].items():
        if row["requests"] and "economics" in row:
            table.add_row(name, *_money_cells(row["economics"]))
    return table


def _money_cells(row: Json) -> list[str]:
    shown = [
        _maybe(row["hit_rate"], ".1%"),
        _maybe(row["break_even"], ".1%"),
        _maybe(row["net_ms_per_look"], ".1f"),
        _maybe(row["net_ms_per_hour"], ".0f"),
        _maybe(row["tokens_per_hour"], ".0f"),
        _maybe(row["cost_per_hour"], ".4f"),
    ]
    mode = f"auto: {row['mode']}" if row["automatic"] else row["mode"]
    return [*shown, mode, row["mode_reason"] if row["automatic"] else row["missing"]]


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


# explain


@click.command()
@click.argument("text")
@click.option("--model", help="Only compare with entries of this model.")
@click.option("--category", help="The category, as in the header X-Nearhit-Category.")
@click.option("--tenant", help="Only compare with entries of this tenant (its digest, as in the log).")
@with_admin
def explain(
    text: str, model: str | None, category: str | None, tenant: str | None, config: Path | None,
    url: str | None, admin_port: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Explain what would happen to the query TEXT."""
    asked = _given(text=text, model=model, category=category, tenant=tenant)
    answer = _ask(lambda: _client(config, url, admin_port).post("explain", asked))
    if as_json:
        _dump(answer)
        return
    click.echo(f"{answer['outcome']}: {answer['because']}")
    click.echo(
        f"category {answer['category']} ({answer['classified_by']}, confidence {answer['confidence']:.2f}),"
        f" threshold {answer['threshold']:.3f}, ttl {answer['ttl']:.10g} s, scope {answer['scope']}"
    )
    for near in answer["nearest"]:
        click.echo(f"  {near['similarity']:.3f}  {_verdict(near):30}  {_question(near['entry']):.100}")


def _question(entry: Json) -> str:
    return HIDDEN if entry["text"] is None else repr(entry["text"])


def _verdict(near: Json) -> str:
    return f"{near['verdict']} ({near['reason']})" if near["reason"] else str(near["verdict"])


# purge


@click.command()
@click.option("--category", help="Answers of this category.")
@click.option("--tenant", help="Answers of this tenant: its digest, as in the log, or shared.")
@click.option("--namespace", help="Answers of this namespace.")
@click.option("--tag", help="Answers with this tag.")
@click.option("--model", help="Answers of this model.")
@click.option("--older-than", help="Answers older than this, such as 90s, 1h30m, 7d, or seconds.")
@click.option("--like", metavar="TEXT", help="Answers to questions similar to this one.")
@click.option("--threshold", type=float, help="Lowest similarity for --like. Default: 0.9.")
@click.option("--everything", is_flag=True, help="All answers.")
@click.option("--yes", is_flag=True, help="Delete them. Without this, only count them.")
@with_admin
def purge(
    config: Path | None, url: str | None, admin_port: int | None, as_json: bool, yes: bool, everything: bool,
    **criteria: Any,
) -> None:  # fmt: skip
    """Delete the answers that match all criteria from the running proxy. Without --yes, only count them."""
    order = _given(**criteria, everything=everything or None, dry_run=not yes, confirm=yes or None)
    if everything is False and not any(criteria.values()):
        raise click.UsageError("Give at least one criterion, or --everything")
    answer = _ask(lambda: _client(config, url, admin_port).post("purge", order))
    _dump(answer) if as_json else click.echo(_purged(answer))


def _purged(answer: Json) -> str:
    parts = ", ".join(f"{name} {count}" for name, count in answer["categories"].items())
    detail = f" ({parts})" if parts else ""
    if answer["dry_run"]:
        return f"{answer['matched']} entries match{detail}; add --yes to purge them"
    return f"{answer['purged']} entries purged{detail}"
