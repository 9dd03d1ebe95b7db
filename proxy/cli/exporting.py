"""Exports the document store as JSON lines, newest first."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from proxy.cli.portable import line_of
from storage.base import Document, Documents


async def export(store: Documents, path: Path, advance: Callable[[int], None]) -> int:
    """Writes all entries to the file and returns their number. The file appears when it is complete; until
    then, and after an interruption, there is `FILE.partial`, with which the next run continues. `advance` is
    told the number of entries after each step. Raises `StorageError` and `OSError`."""
    partial = path.with_name(path.name + ".partial")
    done = await asyncio.to_thread(_whole_lines, partial)
    advance(len(done))
    with await asyncio.to_thread(_opened, partial, "ab") as file:
        written = len(done) + await _write_all(store, file, done, advance)
    await asyncio.to_thread(_finish, partial, path)
    return written


async def _write_all(
    store: Documents, file: IO[bytes], done: set[str], advance: Callable[[int], None]
) -> int:
    written = 0
    async for batch in store.scan():
        new = [(entry, vector) for entry, vector in batch if entry.id not in done]
        bodies = await store.load_many([entry.id for entry, _ in new])
        whole = [Document(entry, vector, bodies[entry.id]) for entry, vector in new if entry.id in bodies]
        await asyncio.to_thread(_append, file, whole)
        written += len(whole)
        advance(len(whole))
    return written


def _append(file: IO[bytes], documents: Iterable[Document]) -> None:
    file.write("".join(line_of(document) + "\n" for document in documents).encode())
    file.flush()


def _whole_lines(partial: Path) -> set[str]:
    """The ids in the lines of an earlier run. Truncates an incomplete last line."""
    ids, end = set[str](), 0
    if not partial.exists():
        return ids
    with partial.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            ids.add(json.loads(line)["id"])
            end += len(line)
        file.truncate(end)
    return ids


def _opened(path: Path, mode: str) -> IO[bytes]:
    """Opens a file that only its owner can read, as answers may be private."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def _finish(partial: Path, path: Path) -> None:
    if path.suffix == ".gz":
        packed = path.with_name(path.name + ".new")
        with (
            partial.open("rb") as lines,
            _opened(packed, "wb") as raw,
            gzip.GzipFile("", "wb", 5, raw) as file,
        ):
            shutil.copyfileobj(lines, file, 2**20)
        packed.replace(path)
        partial.unlink()
    else:
        partial.replace(path)
