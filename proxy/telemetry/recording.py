"""Writes calls to a file that `nearhit simulate` reads. Off unless `log.trace` is set because, unlike the
log, it contains the questions in clear text.

Rows wait in memory for a moment, as the length of an answer is only known once it is stored. If too many are
waiting, further ones are dropped and counted.
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
"""Most rows waiting to be written."""


class Recorder:
    """`entry` finds an entry by its id; None: it is not, or not yet, stored."""

    def __init__(self, path: Path, entry: Callable[[str], Entry | None]) -> None:
        self.dropped = 0
        self._path = path
        self._entry = entry
        self._waiting: deque[tuple[dict[str, Any], str]] = deque()
        """(row, id of the entry that answered the call or that its answer was stored as)."""

    def note(self, call: Call, report: Report) -> None:
        """Records a call, unless it has no text or its caller forbids storing it."""
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
    """A row without the answer's length. `context` differs for calls that differ in anything but the text."""
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
    """Creates the file so that only its owner can read it."""
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as file:
        file.write(text)
