"""The command `nearhit`. Exits with 0, 1 (failed) or 2 (usage or settings); errors are lines on standard
error."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import click

from policies.errors import ConfigError
from proxy.settings import Settings
from proxy.settings_sources import load_settings, upstream_keys

F = TypeVar("F", bound=Callable[..., Any])

STDERR = 2

_ELSEWHERE = {
    "simulate": ("proxy.simulation.command", "simulate", "Replay a trace through the real cache."),
    "tune": ("proxy.cli.tuning", "tune", "Propose thresholds from labelled pairs."),
    "explain": ("proxy.cli.running", "explain", "Explain what would happen to a query."),
    "purge": ("proxy.cli.running", "purge", "Delete answers from the running proxy."),
    "export": ("proxy.cli.documents", "export", "Write all stored answers to a file."),
    "import": ("proxy.cli.documents", "import_", "Add answers from a file to the document store."),
    "rebuild": ("proxy.cli.documents", "rebuild", "Clean up, re-embed and re-encrypt the document store."),
    "watch": ("proxy.cli.watching", "watch", "Show the running proxy's calls live."),
    "stats": ("proxy.cli.running", "stats", "Show the running proxy's statistics by category."),
}
"""Commands that are only imported when they are used: module, name in it, help."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _ELSEWHERE:
            return super().get_command(ctx, name)
        module, attribute, _ = _ELSEWHERE[name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        here = {name: command.get_short_help_str(80) for name, command in self.commands.items()}
        rows = sorted({**here, **{name: help for name, (_, _, help) in _ELSEWHERE.items()}}.items())
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("nearhit"), prog_name="nearhit")
def nearhit() -> None:
    """A category-aware semantic cache in front of LLM APIs."""


def main() -> None:
    _fill_standard_streams()
    sys.exit(run(sys.argv[1:]))


def _fill_standard_streams() -> None:
    """One that came closed would be given to the next file or socket, and written to by whoever logs."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(descriptor)


def run(arguments: list[str]) -> int:
    """Runs a command and returns the exit status. Every expected error is a line on standard error."""
    try:
        nearhit.main(arguments, prog_name="nearhit", standalone_mode=False)
    except ConfigError as error:
        click.echo(str(error), err=True)
        return 2
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        return _fail(2, f"{error.format_message().rstrip('.')}; see {_help_of(error)}")
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        return _fail(error.exit_code, error.format_message())
    except click.Abort:
        return _fail(1, "stopped")
    except OSError as error:
        return _fail(1, "" if error.errno == errno.EPIPE else str(error))
    return 0


def _fail(status: int, message: str) -> int:
    if message:
        click.echo(f"nearhit: {' '.join(message.split())}", err=True)
    return status


def _help_of(error: click.UsageError) -> str:
    return f"{error.ctx.command_path if error.ctx else 'nearhit'} --help"


# Settings from flags


def with_config(command: F) -> F:
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="Settings file. Default: $NEARHIT_CONFIG, else nearhit.yaml.",
    )(command)


def with_settings(command: F) -> F:
    """Adds the flags for common settings; the others can be set in the file and the environment."""
    flags = [
        ("--host", "--listen-host", "Address of the data plane."),
        ("--port", "--listen-port", "Port of the data plane."),
        ("--upstream", "--upstream-url", "Origin of the API; without one, the demo upstream."),
        ("--admin-host", "--admin-host", "Address of the admin plane."),
        ("--admin-port", "--admin-port", "Port of the admin plane."),
        ("--categories", "--categories", "Folder of category files."),
        ("--documents", "--documents-url", "Document store, e.g. sqlite+aiosqlite:///data/nearhit.db."),
        ("--log-level", "--log-level", "debug, info, warning or error."),
    ]
    for short, whole, text in reversed(flags):
        command = click.option(*dict.fromkeys((short, whole)), _parameter(whole), help=text)(command)
    return with_config(command)


_SETTINGS = {
    "listen_host": "listen.host",
    "listen_port": "listen.port",
    "upstream_url": "upstream.url",
    "admin_host": "admin.host",
    "admin_port": "admin.port",
    "categories": "categories",
    "documents_url": "documents.url",
    "log_level": "log.level",
}


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def settings_from(config: Path | None, **flags: str | None) -> Settings:
    """Raises `ConfigError`."""
    overrides = {_SETTINGS[name]: value for name, value in flags.items()}
    for name in ("listen.port", "admin.port"):
        if (value := overrides.get(name)) is not None and value.isdecimal():
            overrides[name] = int(value)  # type: ignore[assignment]
    return load_settings(config, os.environ, overrides)


# Commands


@nearhit.command()
@with_settings
def serve(config: Path | None, **flags: str | None) -> None:
    """Run the proxy and its admin plane until Ctrl-C.

    Without an upstream, it also runs the demo upstream.
    """
    settings = settings_from(config, **flags)
    import uvloop

    from proxy.serving import CannotServe, serve
    from proxy.telemetry.logs import logging_to

    try:
        with logging_to(STDERR, settings.log):
            uvloop.run(serve(settings))
    except CannotServe as error:
        raise click.ClickException(str(error)) from None


@nearhit.command()
@with_settings
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(config: Path | None, as_json: bool, **flags: str | None) -> None:
    """Validate settings and categories, and print them with secrets masked."""
    settings = settings_from(config, **flags)
    from policies.book import Book
    from policies.prices import Prices

    upstream_keys(settings.upstreams, os.environ)
    book = Book.from_folder(settings.categories)
    Prices.read(settings.prices)
    if as_json:
        shown = {name: _policy(each) for name, each in book.categories.items()}
        click.echo(json.dumps({"settings": settings.masked(), "categories": shown}, indent=2))
        return
    import yaml

    click.echo(yaml.safe_dump(settings.masked(), sort_keys=False), nl=False)
    click.echo(f"\n{len(book.categories)} categories, book {book.version}")
    for name, each in book.categories.items():
        click.echo(f"  {name:18} {_line(_policy(each))}")


def _policy(category: Any) -> dict[str, Any]:
    names = ("cacheable", "scope", "mode", "threshold", "ttl", "quota", "priority", "guards")
    return {name: getattr(category, name) for name in names}


def _line(policy: dict[str, Any]) -> str:
    if not policy["cacheable"]:
        return "not cached"
    mode = "" if policy["mode"] == "on" else f"{policy['mode']:7} "
    return (
        f"{mode}{policy['scope']:7} threshold {policy['threshold']:.2f}  ttl {policy['ttl']:>9.10g} s"
        f"  quota {policy['quota']:>4.0%}  priority {policy['priority']}  {', '.join(policy['guards'])}"
    )


@nearhit.command("demo-upstream")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 picks a free one."
)
@click.option("--latency", "latency_s", default=0.0, show_default=True, help="Seconds to the first token.")
@click.option("--tokens-per-s", default=0.0, show_default=True, help="Rate after that; 0: all at once.")
@click.option("--capacity", default=0, show_default=True, help="Most calls served at once; 0: no limit.")
@click.option("--queue", default=64, show_default=True, help="Most calls waiting; any more get a 429.")
@click.option("--error-rate", default=0.0, show_default=True, help="Share of calls that get a 500.")
@click.option("--seed", default=0, show_default=True, help="Random seed of the errors.")
def demo_upstream(host: str, port: int, **behaviour: Any) -> None:
    """Run a simulator of the OpenAI and Anthropic APIs, without a model."""
    if any(value < 0 for value in behaviour.values()) or behaviour["error_rate"] > 1:
        raise click.UsageError("No value may be negative, and --error-rate is at most 1")
    import uvloop

    from proxy.serving import CannotServe, serve_demo

    try:
        uvloop.run(serve_demo(host, port, **behaviour))
    except CannotServe as error:
        raise click.ClickException(str(error)) from None
