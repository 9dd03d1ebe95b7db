"""Writes to the user's category files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import yaml

from policies.book import PACKAGED
from policies.loader import category_files, load_category


def file_of(folder: Path, name: str) -> Path:
    """The file of a category, which must exist in the folder."""
    return next(path for path in category_files(folder) if load_category(path).name == name)


def copy_missing(names: Iterable[str], folder: Path) -> list[str]:
    """Copies the packaged files of those categories that the folder does not have, and returns their
    names."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {load_category(path).name for path in category_files(folder)}
    missing = [name for name in names if name not in there]
    for name in missing:
        shutil.copyfile(PACKAGED / f"{name}.yaml", folder / f"{name}.yaml")
    return missing


def set_threshold(path: Path, threshold: float) -> None:
    """Raises `OSError`."""
    put(path, with_threshold(path.read_bytes().decode("utf-8"), threshold))


def put(path: Path, text: str) -> None:
    """Writes a file atomically, so that nobody reads half of it. Raises `OSError`."""
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(text.encode("utf-8"))
    if path.exists():
        shutil.copymode(path, partial)
    partial.replace(path)


def with_threshold(text: str, threshold: float) -> str:
    """The text of a valid category file with only the threshold changed."""
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    value = next(value for key, value in root.value if key.value == "threshold")
    start, end = value.start_mark.index, value.end_mark.index
    return f"{text[:start]}{threshold:g}{text[end:]}"
