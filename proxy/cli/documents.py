"""The commands that work on the document store directly, whether or not a proxy is using it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.engine import make_url

from embeddings.base import Embedder, EmbeddingError
from policies.book import Book
from proxy.app import open_store
from proxy.cache import Rules
from proxy.cli import exporting, rebuilding
from proxy.cli.client import AdminClient, AdminError
from proxy.cli.importing import Importer
from proxy.cli.main import settings_from, with_config
from proxy.cli.portable import TENANT
from proxy.kept_vectors import open_patient
from proxy.messages import tenant_digest
from proxy.settings import Settings
from storage.base import Documents, StorageError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Advance = Callable[[int], None]


def with_store(command: F) -> F:
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)
    command = click.option(
        "--documents", "documents_url", help="URL of the document store. Default: the setting's."
    )(command)
    return with_config(command)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_store
def export(file: Path, config: Path | None, documents_url: str | None, as_json: bool) -> None:
    """Write every stored answer to FILE as a line of JSON, compressed if the name ends in .gz.

    A proxy may be running. After an interruption, run the same command again to continue.
    """
    settings = _there(_settings(config, documents_url))

    async def work(advance: Advance) -> int:
        async with _store(settings) as store:
            return await exporting.export(store, file, advance)

    try:
        count = _run("exporting", work)
    except OSError as error:
        advice = "choose an existing folder that you may write to and that has enough space"
        raise click.ClickException(f"cannot write {file} ({error.strerror}); {advice}") from None
    _say(as_json, {"exported": count}, f"{count} entries exported to {file}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--tenant", help="Owner of pairs that are not shared and name no tenant: a digest, or anonymous."
)
@click.option(
    "--authorization",
    metavar="VARIABLE",
    help="The same, given by the environment variable with the tenant's Authorization header.",
)
@with_store
def import_(
    file: Path, tenant: str | None, authorization: str | None, config: Path | None,
    documents_url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Add the answers in FILE to the document store: the output of `nearhit export`, or curated pairs.

    A pair is {"query", "answer", "model"} with optional members: see docs/documents.md.
    After an interruption, run the same command again to continue.
    """
    settings = _settings(config, documents_url)
    owner = _tenant(tenant, authorization)

    async def work(advance: Advance) -> dict[str, Any]:
        async with _embedder(settings) as embedder, _store(settings) as store:
            rules = await Rules.read(settings.categories, embedder)
            importer = Importer(store, rules, embedder, owner, time.time())
            return (await importer.run(file, settings.documents.url, advance)).shown()

    done = _run("importing", work)
    done["running_proxy"] = told = _tell_running(settings)
    refused = "".join(f"; {count} left out: {why}" for why, count in done["refused"].items())
    resumed = f", after {done['resumed_after']} lines of an earlier run" if done["resumed_after"] else ""
    _say(
        as_json,
        done,
        f"{done['entries']} entries and {done['pairs']} pairs imported{resumed}{refused}; {told}",
    )
    if done["refused"] and not done["entries"] + done["pairs"] + done["resumed_after"]:
        raise click.ClickException(f"nothing was imported{refused}")


@click.command()
@with_store
def rebuild(config: Path | None, documents_url: str | None, as_json: bool) -> None:
    """Go through the document store: delete expired answers, re-embed those of another embedding model, and
    re-encrypt those that are not encrypted with the first key.

    A running proxy then loads what others have added to the store.
    """
    settings = _there(_settings(config, documents_url))

    async def work(advance: Advance) -> dict[str, Any]:
        book = await asyncio.to_thread(Book.from_folder, settings.categories)
        async with _embedder(settings) as embedder, _store(settings) as store:
            return asdict(await rebuilding.rebuild(store, book, embedder, time.time(), advance))

    done = _run("rebuilding", work)
    done["running_proxy"] = told = _tell_running(settings)
    _say(
        as_json,
        done,
        f"{done['entries']} entries, {done['embedded']} re-embedded, {done['resealed']} re-encrypted, "
        f"{done['expired']} expired and deleted, "
        f"{done['unreadable']} unreadable; {told}",
    )


def _settings(config: Path | None, documents_url: str | None) -> Settings:
    settings = settings_from(config, documents_url=documents_url)
    if settings.documents.url == "memory":
        raise click.ClickException(
            "documents.url is memory, which exists only inside the running proxy; name a store"
        )
    return settings


def _there(settings: Settings) -> Settings:
    url = make_url(settings.documents.url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise click.ClickException(f"{url.database} does not exist; name the document store with --documents")
    return settings


def _tenant(digest: str | None, variable: str | None) -> str | None:
    if digest == "anonymous":
        return tenant_digest("")
    if digest is not None and not re.fullmatch(TENANT, digest):
        raise click.UsageError("--tenant should be 32 hexadecimal digits, or anonymous")
    if variable is None:
        return digest
    if not (value := os.environ.get(variable)):
        raise click.UsageError(f"The environment has no {variable}")
    return tenant_digest(f"Authorization: {value}")


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Documents]:
    store = await open_store(settings)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _embedder(settings: Settings) -> AsyncIterator[Embedder]:
    embedder = await asyncio.to_thread(open_patient, settings.embedding)
    try:
        yield embedder
    finally:
        await embedder.close()


def _run(name: str, work: Callable[[Advance], Coroutine[Any, Any, T]]) -> T:
    try:
        with _progress(name) as advance:
            return asyncio.run(work(advance))
    except (StorageError, EmbeddingError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; run the same command again to continue") from None


@contextmanager
def _progress(name: str) -> Iterator[Advance]:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield partial(progress.advance, progress.add_task(name, total=None))


def _tell_running(settings: Settings) -> str:
    try:
        started = AdminClient(settings).post("reread", {})["started"]
    except AdminError as error:
        if "no answer" in str(error):
            return "no proxy is running; it will read them when it starts"
        return f"the running proxy was not told: {error}"
    if started:
        return "the running proxy is reading them now"
    return "the running proxy was already reading; run nearhit rebuild once it is done"


def _say(as_json: bool, values: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(values) if as_json else text)
