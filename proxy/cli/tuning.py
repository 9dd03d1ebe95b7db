"""`nearhit tune`: proposes a threshold for each category from labelled pairs."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import click
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import Progress

from embeddings.base import EmbeddingError
from policies.book import Book
from policies.classifier import Classifier
from policies.decision import Controls, Offer, judge
from policies.loader import category_files
from policies.located import nearest
from policies.model import Category, in_force
from policies.tuning import Pair, advise
from proxy.category_files import copy_missing, file_of, set_threshold
from proxy.cli.tuning_shown import Tuned, as_grid, as_json, as_page, notes
from proxy.jsonl import read_rows, wrong
from proxy.kept_vectors import KeptVectors, open_kept
from proxy.settings import Settings
from proxy.settings_sources import load_settings


class Row(BaseModel):
    """A labelled pair of questions. Other members are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    a: Annotated[str, Field(min_length=1)]
    """The question that is asked."""
    b: Annotated[str, Field(min_length=1)]
    """The question whose answer is stored."""
    equivalent: bool
    """Whether the answer to `b` will do for `a`."""
    category: str | None = None
    """If None or unknown, the classifier decides."""


@dataclass(frozen=True, slots=True)
class Wish:
    wrong_rate: float
    confidence: float
    names: Collection[str]
    """Names of categories; empty: all that have pairs."""


_Rate = click.FloatRange(0, 1, min_open=True, max_open=True)
_Path = click.Path(path_type=Path)


@click.command(short_help="Propose thresholds from labelled pairs.")
@click.option("--pairs", type=_Path, required=True, help="JSON lines with a, b, equivalent; plain or gzip.")
@click.option(
    "--wrong-rate", type=_Rate, default=0.01, show_default=True, help="Acceptable share of wrong hits."
)
@click.option(
    "--confidence", type=_Rate, default=0.95, show_default=True, help="Confidence that the share is kept."
)
@click.option("--category", "names", multiple=True, help="Can be repeated. Default: all that have pairs.")
@click.option("--categories", type=_Path, help="Folder of category files. Default: the setting's.")
@click.option("--plot", type=_Path, help="HTML file to write, with charts for each category.")
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
@click.option("--write", is_flag=True, help="Write the thresholds to the category files.")
@click.option("--config", type=_Path, help="Settings file. Default: nearhit.yaml, if there is one.")
def tune(
    pairs: Path,
    wrong_rate: float,
    confidence: float,
    names: tuple[str, ...],
    categories: Path | None,
    plot: Path | None,
    wants_json: bool,
    write: bool,
    config: Path | None,
) -> None:
    """Propose for each category the lowest threshold that keeps the share of wrong hits within --wrong-rate,
    and show the hit rate to expect there.

    docs/tuning.md explains the figures, and what pairs cannot tell.
    """
    wish = Wish(wrong_rate, confidence, names)
    try:
        settings = load_settings(config, os.environ, {})
        folder = categories or settings.categories
        if write and folder is None:
            raise click.UsageError("--write needs --categories FOLDER; the packaged files are never changed")
        book = _book(folder, names)
        tuned = asyncio.run(_tune(list(_rows(pairs)), book, wish, settings))
        if plot is not None:
            plot.write_text(as_page(tuned, wish.wrong_rate, wish.confidence), encoding="utf-8")
        _show(tuned, wish, wants_json)
        if write and folder is not None:
            _write(tuned, book, folder)
    except (EmbeddingError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _book(folder: Path | None, names: Collection[str]) -> Book:
    """The folder's categories, or the packaged ones if it has none yet. Raises `ConfigError`."""
    book = Book.from_folder(folder if folder is not None and _has_files(folder) else None)
    for name in names:
        if name not in book.categories:
            raise wrong("--category", f"no category {name!r}; {nearest(name, list(book.categories))}")
    return book


def _has_files(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or bool(category_files(folder)))


def _rows(path: Path) -> list[Row]:
    return [row for _, row in read_rows(path, Row)]


async def _tune(rows: Sequence[Row], book: Book, wish: Wish, settings: Settings) -> list[Tuned]:
    embedder = await asyncio.to_thread(open_kept, settings.embedding)
    try:
        await _embed(rows, embedder)
        classifier = await Classifier.taught(book, embedder)
        sample = await collect(rows, book, classifier, embedder)
    finally:
        await embedder.close()
    wanted = wish.names or sample.keys()
    return [_advised(book.get(name), sample.get(name, []), wish) for name in sorted(wanted)]


async def _embed(rows: Sequence[Row], embedder: KeptVectors) -> None:
    texts = {text for row in rows for text in (row.a, row.b)}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("embedding", total=len(texts))
        await embedder.prepare(texts, partial(progress.advance, bar))


async def collect(
    rows: Sequence[Row], book: Book, classifier: Classifier, embedder: KeptVectors
) -> dict[str, list[Pair]]:
    """The pairs by the category of the question that is asked, which is the one whose threshold they inform.

    Leaves out identical questions and those too long to embed, as no threshold decides about them.
    """
    sample: defaultdict[str, list[Pair]] = defaultdict(list)
    for row in rows:
        vectors = embedder.known(row.a), embedder.known(row.b)
        if row.a == row.b or vectors[0] is None or vectors[1] is None:
            continue
        asked, stored = (
            book.get(classifier.classify(text=text, vector=vector, header=row.category).category)
            for text, vector in zip((row.a, row.b), vectors, strict=True)
        )
        cosine = float(vectors[0] @ vectors[1])
        sample[asked.name].append(Pair(cosine, refused(row.a, row.b, cosine, asked, stored), row.equivalent))
    return dict(sample)


def refused(asked_text: str, stored_text: str, cosine: float, asked: Category, stored: Category) -> bool:
    """Whether the pair would not be a hit even if the threshold of the asked question's category were 0."""
    asking = in_force(replace(asked, threshold=0.0), 0.0)
    storing = asking if stored.name == asked.name else in_force(stored, 0.0)
    offer = Offer(stored_text, cosine, 0.0, None, storing)
    return judge(offer, asked_text, asking, Controls()).freshness == "refused"


def _advised(category: Category, pairs: Sequence[Pair], wish: Wish) -> Tuned:
    advice = advise(
        pairs, category.threshold, wish.wrong_rate, wish.confidence, category.load.threshold_floor
    )
    return Tuned(category, len(pairs), advice)


def _show(tuned: Sequence[Tuned], wish: Wish, wants_json: bool) -> None:
    if wants_json:
        click.echo(as_json(tuned, wish.wrong_rate, wish.confidence))
        return
    console = Console()
    if not console.is_terminal:
        console.width = 130
    console.print(as_grid(tuned))
    for line in notes(tuned, wish.wrong_rate, wish.confidence):
        click.echo(line)


def _write(tuned: Sequence[Tuned], book: Book, folder: Path) -> None:
    """Writes the proposed thresholds to the category files, and reports on standard error. Raises
    `ConfigError` or `OSError`."""
    if not any(each.advice.proposed for each in tuned):
        raise click.ClickException("nothing to write: there is no proposal")
    if copied := copy_missing(book.categories, folder):
        click.echo(f"copied from the packaged categories to {folder}: {', '.join(copied)}", err=True)
    for each in tuned:
        point, name = each.advice.proposed, each.category.name
        if point is None or point.threshold == each.category.threshold:
            continue
        path = file_of(folder, name)
        set_threshold(path, point.threshold)
        click.echo(f"{path}: threshold {each.category.threshold:g} is now {point.threshold:g}", err=True)
