"""Reads files of JSON lines, plain or gzip, that users pass to commands."""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from policies.errors import ConfigError, Problem

_GZIP = b"\x1f\x8b"

M = TypeVar("M", bound=BaseModel)


def read_rows(path: Path, model: type[M]) -> Iterator[tuple[str, M]]:
    """Each line that is not blank, with its place (`FILE:LINE`).

    Raises `ConfigError` at the first bad line, and at the end of a file without rows.
    """
    empty = True
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, start=1):
                line = line.removeprefix(BOM_UTF8) if number == 1 else line
                if line.strip():
                    empty = False
                    yield (place := f"{path}:{number}"), _row(place, line, model)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise wrong(
            str(path), f"cannot be read ({reason}); name a file of JSON lines, plain or gzip"
        ) from None
    if empty:
        raise wrong(str(path), "has no rows; write one JSON object per line")


def _open(path: Path) -> AbstractContextManager[Iterable[bytes]]:
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path) if zipped else path.open("rb")


def _row(place: str, line: bytes, model: type[M]) -> M:
    try:
        return model.model_validate_json(line)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        name = ".".join(map(str, error["loc"])) or "the line"
        raise wrong(place, f"{name}: {error['msg']}; correct the line") from None


def wrong(place: str, message: str) -> ConfigError:
    return ConfigError([Problem(place, message)])
