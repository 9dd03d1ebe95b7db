"""Category files from the browser: checks a draft, previews its effect, and writes it to the categories'
folder."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from policies.book import PACKAGED, Book
from policies.errors import ConfigError, Problem
from policies.guards.objections import GUARDS
from policies.loader import category_files, load_category
from policies.model import Category, in_force
from proxy.admin import views
from proxy.admin.errors import NotFound, Refusal, Unprocessable
from proxy.admin.inputs import CategoryText
from proxy.admin.shown import Json
from proxy.app import App
from proxy.category_files import put
from proxy.telemetry.report import Report

_OTHER_FILE = re.compile(r"\bexamples_file\b")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


async def text(app: App, name: str) -> Json:
    """The text of the category's file; `writable` unless it is a packaged one."""
    if name not in app.cache.rules.book.categories:
        raise NotFound(f"no category {name!r}")
    folder = app.settings.categories
    return {"text": await asyncio.to_thread(_text, folder, name), "writable": folder is not None}


def _text(folder: Path | None, name: str) -> str:
    """The file's text; for `default`, the packaged file if the folder has none."""
    path = _file(folder or PACKAGED, name)
    return (path if path.exists() else PACKAGED / f"{name}.yaml").read_text(encoding="utf-8")


async def check(app: App, name: str, given: CategoryText) -> Json:
    """The draft's problems with their lines, or its effect on recent calls."""
    try:
        drafted, _ = await asyncio.to_thread(_draft, app.settings.categories, _checked(name), given.text)
    except ConfigError as error:
        problems = [{"place": each.place, "message": each.message} for each in error.problems]
        return {"problems": problems, "preview": None}
    return {"problems": [], "preview": _preview(app, drafted)}


async def write(app: App, name: str, given: CategoryText) -> Json:
    folder = app.settings.categories
    if folder is None:
        raise Unprocessable(
            "the packaged categories are read-only; set categories to a folder of your own, and save the text"
            f" there as {_checked(name)}.yaml"
        )
    try:
        await asyncio.to_thread(_write, folder, _checked(name), given.text)
    except ConfigError as error:
        raise Unprocessable("; ".join(str(error).splitlines())) from None
    except OSError as error:
        raise Unprocessable(f"the file cannot be written: {error.strerror}") from None
    return await views.reload(app)


def _checked(name: str) -> str:
    """The name, if it is valid: it becomes the name of a file."""
    if not _NAME.fullmatch(name):
        raise Refusal("a category's name has lower case letters, digits, - and _, and begins with a letter")
    return name


def _draft(folder: Path | None, name: str, text: str) -> tuple[Category, Path]:
    """The category that the text defines, validated together with all others, and its file. Raises
    `ConfigError`."""
    path = _file(folder or PACKAGED, name)
    if _OTHER_FILE.search(text):
        raise ConfigError([Problem(path.name, "examples_file names a file on the server; edit it there")])
    drafted = Book.from_folder(folder, {path: text}).categories
    if name not in drafted:
        raise ConfigError([Problem(path.name, f"name should be {name!r}: categories cannot be renamed here")])
    return drafted[name], path


def _file(folder: Path, name: str) -> Path:
    """The category's file, which may not exist yet. Raises `ConfigError`."""
    path = folder / f"{name}.yaml"
    for each in category_files(folder):
        try:
            found = load_category(each).name
        except ConfigError:
            continue  # this may be the file that is to be fixed
        if found == name:
            return each
        if each == path:
            raise ConfigError([Problem(str(path), f"holds the category {found!r}; rename the file first")])
    return path


def _write(folder: Path, name: str, text: str) -> None:
    """Raises `ConfigError` and `OSError`."""
    put(_draft(folder, name, text)[1], text)


def _preview(app: App, drafted: Category) -> Json:
    """The draft's effect on the recent calls of that category that had a look-up. Guards are not run again
    for entries that were below the threshold, so `hits_then` is an upper bound."""
    calls = [
        call
        for call in app.ledger.recent
        if call.category == drafted.name and call.similarity is not None and call.tier != "exact"
    ]
    now = app.cache.rules.book.categories.get(drafted.name)
    return {
        "calls": len(calls),
        "hits_now": sum(_near(call, now) for call in calls) if now else 0,
        "hits_then": sum(_near(call, drafted) for call in calls),
    }


def _near(call: Report, category: Category) -> bool:
    if category.barred or call.similarity is None:
        return False
    refused = call.reason in category.guards or (
        call.reason not in GUARDS and call.reason not in ("", "threshold")
    )
    return not refused and call.similarity >= in_force(category, call.pressure or 0.0).threshold
