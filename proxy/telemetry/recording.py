"""Writes the calls to a file that `nearhit simulate` reads. Off unless `log.trace` is set: unlike the log, it
holds what callers ask in clear text.

Rows wait in memory for a moment, as the length of an answer is known only once it is stored; when too many
wait, further ones are dropped and counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.messages import Call
from proxy.telemetry.report import Report
from storage.base import Entry

log = logging.getLogger("nearhit.recording")

WRITE_EVERY_S = 1.0
WAITING = 10_000
"""Rows that may wait to be written."""


class Recorder:
    """`entry` finds a stored answer by its id, None when it is not (or not yet) stored."""

    def __init__(self, path: Path, entry: Callable[[str], Entry | None]) -> None:
        self.dropped = 0
        self._path = path
        self._entry = entry
        self._waiting: deque[tuple[dict[str, Any], str]] = deque()
        """Rows, each with the id of the entry that answered it or that it was stored as."""

    def note(self, call: Call, report: Report) -> None:
        """Leaves out what the caller wants nobody to store, and what has no text to be told by."""
        if not call.text or not call.controls.write:
            return
        if len(self._waiting) < WAITING:
            self._waiting.append((_row(call, report), report.entry_id))
        else:
            self.dropped += 1

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(WRITE_EVERY_S)
                await self._write()
        finally:
            await asyncio.shield(self._write())

    async def _write(self) -> None:
        rows = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not rows:
            return
        text = "".join(_line(row, self._entry(id)) for row, id in rows)
        try:
            await asyncio.to_thread(_append, self._path, text)
        except OSError as error:
            self.dropped += len(rows)
            log.warning("%d calls were not written to %s: %s", len(rows), self._path, error.strerror)


def _row(call: Call, report: Report) -> dict[str, Any]:
    """Calls that differ in anything but the text differ in `context`."""
    return {
        "t": report.at,
        "query": call.text,
        "model": call.reading.model,
        "tenant": report.tenant,
        "context": call.identity.hex()[:16],
    }


def _line(row: dict[str, Any], entry: Entry | None) -> str:
    length = {"tokens_out": entry.tokens_out} if entry is not None and entry.tokens_out else {}
    return json.dumps(row | length, ensure_ascii=True) + "\n"


def _append(path: Path, text: str) -> None:
    """For the eyes of its owner only."""
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as file:
        file.write(text)
