"""`nearhit watch`: shows calls as they are decided, and the share of hits."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxy.cli.client import HIDDEN, AdminClient, AdminError
from proxy.cli.main import settings_from
from proxy.cli.running import with_admin

Json = dict[str, Any]

WINDOW_S = 60.0
"""Time over which the call rate and the hit rate are measured."""
CALLS = 200
"""Latest calls that are kept: more than a terminal has lines."""
HEAD_LINES = 5
_STYLES = {"HIT": "green", "STALE": "yellow", "SHADOW": "cyan", "BYPASS": "dim", "MISS": ""}
_TIERS = ("exact", "semantic", "inflight", "stale")


class Watch:
    """The counts of the last minute, and the latest calls."""

    def __init__(self) -> None:
        self.calls: deque[Json] = deque(maxlen=CALLS)
        self._counts: deque[tuple[float, Json]] = deque()

    def take(self, event: Json) -> None:
        """`event`: from `GET /api/v1/live`."""
        self.calls.extend(event["calls"])
        self._counts.append((event["at"], event["overall"]))
        while self._counts[-1][0] - self._counts[0][0] > WINDOW_S:
            self._counts.popleft()

    def now(self) -> Json:
        """Figures of the last minute: calls per second, and hits and tiers as shares of the calls."""
        (began, first), (ended, last) = self._counts[0], self._counts[-1]
        calls = last["requests"] - first["requests"]
        seconds = ended - began
        return {
            "rate": calls / seconds if seconds > 0 else 0.0,
            **{name: (last[name] - first[name]) / calls if calls > 0 else 0.0 for name in ("hits", *_TIERS)},
        }

    def view(self, lines: int) -> RenderableType:
        """What to show, in at most `lines` lines."""
        if not self._counts:
            return Text("waiting for the first second")
        now, (_, since) = self.now(), self._counts[-1]
        recent = f"last minute   {now['rate']:.1f} calls/s, hits {now['hits']:.0%}: " + ", ".join(
            f"{name} {now[name]:.0%}" for name in _TIERS
        )
        whole = (
            f"since start   {since['requests']} calls, hits {since['hit_rate']:.0%},"
            f" {since['stored']} stored, {since['saved_ms'] / 1000:.0f} s and"
            f" {since['tokens_saved']} tokens saved, {since['errors']} errors"
        )
        newest = list(self.calls)[-max(1, lines - HEAD_LINES) :]
        return Group(Text(recent), Text(whole), Text(), _table(reversed(newest)))


def _table(calls: Iterable[Json]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
    for name, right in (("time", False), ("", False), ("category", False), ("like", True), ("ms", True)):
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    table.add_column("question", no_wrap=True, overflow="ellipsis", ratio=1)
    for call in calls:
        table.add_row(*_row(call), style=_STYLES.get(call["outcome"], ""))
    return table


def _row(call: Json) -> tuple[Text, ...]:
    at = datetime.fromtimestamp(call["at"]).strftime("%H:%M:%S")
    question = HIDDEN if call["query"] is None else call["query"]
    like = "" if call["similarity"] is None else f"{call['similarity']:.3f}"
    cells = (at, _what(call), call["category"], like, f"{call['total_ms']:.1f}", question)
    return tuple(Text(_printable(cell)) for cell in cells)


def _what(call: Json) -> str:
    why = call["error"] or call["tier"] or call["reason"] or ""
    return f"{call['outcome']} {why}".strip()


def _printable(text: str) -> str:
    """The text without control characters, which could manipulate the terminal."""
    return "".join(each if each.isprintable() else " " for each in text)


def line(call: Json) -> str:
    """A call as a line, for output that is not a terminal."""
    return "  ".join(cell.plain for cell in _row(call))


@click.command()
@with_admin
def watch(config: Path | None, url: str | None, admin_port: int | None, as_json: bool) -> None:
    """Show the running proxy's calls live, until Ctrl-C.

    On a terminal, this is a table that is updated every second; elsewhere, one line per call.
    """
    port = None if admin_port is None else str(admin_port)
    events = AdminClient(settings_from(config, admin_port=port), url).events("live")
    try:
        _show(events, as_json)
    except AdminError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        pass


def _show(events: Iterator[Json], as_json: bool) -> None:
    console = Console()
    if as_json or not console.is_terminal:
        for event in events:
            for call in [event] if as_json else event["calls"]:
                click.echo(json.dumps(call) if as_json else line(call))
        return
    seen = Watch()
    with Live(seen.view(0), console=console, screen=True, auto_refresh=False) as shown:
        for event in events:
            seen.take(event)
            shown.update(seen.view(console.height), refresh=True)
