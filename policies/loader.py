"""Reads a folder of category files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from policies.errors import ConfigError, Problem
from policies.located import Lines, check, parse, read
from policies.model import Category
from policies.schema import CategoryFile


def load_category(path: Path) -> Category:
    """Raises `ConfigError`."""
    return _load(path)[0]


def load_folder(folder: Path, drafts: Mapping[Path, str] = {}) -> dict[str, Category]:
    """The categories in all `*.yaml` and `*.yml` files that are not hidden, by name. `drafts`: unsaved texts
    that replace the files at these paths, or add to them.

    Raises a single `ConfigError` with the problems of all files.
    """
    try:
        files = category_files(folder)
    except OSError as error:
        advice = f"cannot be read ({error.strerror}); name a folder with a YAML file per category"
        raise ConfigError([Problem(str(folder), advice)]) from None
    found: dict[str, Category] = {}
    shares: list[tuple[Category, Lines]] = []
    problems: list[Problem] = []
    for path in sorted({*files, *drafts}):
        try:
            category, lines = _load(path, drafts.get(path))
        except ConfigError as error:
            problems += error.problems
            continue
        except OSError as error:
            problems.append(Problem(str(path), f"cannot be read ({error.strerror}); let this user read it"))
            continue
        if category.name in found:
            problems.append(lines.problem(("name",), f"{category.name!r} is a category already; rename one"))
        found[category.name] = category
        shares.append((category, lines))
    problems += _overbooked(shares)
    if problems:
        raise ConfigError(problems)
    return found


def category_files(folder: Path) -> list[Path]:
    """All category files in the folder, in order of name. Hidden files are ignored."""
    return sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml") and not p.name.startswith("."))


def _load(path: Path, text: str | None = None) -> tuple[Category, Lines]:
    if text is None and path.exists() and not path.is_file():  # reading a pipe would wait for its writer
        raise ConfigError([Problem(str(path), "is not a file; move it away")])
    data, lines = read(path) if text is None else parse(text, str(path))
    file = check(CategoryFile, data, lines)
    return file.category(_examples(path, file.examples_file, lines)), lines


def _examples(path: Path, name: str | None, lines: Lines) -> list[str]:
    """The examples file, one example per line; `name` is relative to the folder of the category file."""
    if name is None:
        return []
    examples = path.parent / name
    try:
        if examples.exists() and not examples.is_file():
            raise OSError("not a file")
        text = examples.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = lines.problem(("examples_file",), f"{name} cannot be read ({error}); correct the path")
        raise ConfigError([problem]) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _overbooked(shares: list[tuple[Category, Lines]]) -> Iterator[Problem]:
    """A problem at the first file whose quota takes the sum above 100 %."""
    total = 0.0
    for category, lines in shares:
        before, total = total, total + category.quota
        if before <= 1.0 + 1e-9 < total:
            yield lines.problem(("quota",), f"guarantees now exceed 100 %; lower {_sum(shares)}")


def _sum(shares: list[tuple[Category, Lines]]) -> str:
    taken = [category for category, _ in shares if category.quota]
    return "some of " + ", ".join(f"{each.name} {each.quota:.0%}" for each in taken)
