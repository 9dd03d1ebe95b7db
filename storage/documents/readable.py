"""What of a store can be read: the rest is left out, counted, and told once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from storage.base import Stored, Unreadable
from storage.documents.codec import Codec, Locked
from storage.documents.rows import from_row, resealed

log = logging.getLogger("nearhit.documents")

INLINE_BYTES = 32_768
"""Packed bodies up to this are unpacked on the loop, larger ones in a thread."""


class Reader:
    """Rows and bodies through the codec."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.unreadable = Unreadable()

    def entries(self, rows: Iterable[Mapping[str, Any]]) -> list[Stored]:
        found = []
        for row in rows:
            try:
                found.append(from_row(row, self._codec))
            except ValueError as error:
                self._count(error)
        return found

    async def resealed(
        self, rows: Iterable[Mapping[str, Any]]
    ) -> list[tuple[Mapping[str, Any], dict[str, Any]]]:
        """Of rows as `rows.resealed` takes them, those that are to change, with what they become."""
        return await asyncio.to_thread(self._resealed, rows)

    def _resealed(self, rows: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], dict[str, Any]]]:
        found = []
        for row in rows:
            try:
                if changed := resealed(row, self._codec):
                    found.append((row, changed))
            except ValueError as error:
                self._count(error)
        return found

    async def body(self, packed: object, id: str) -> bytes | None:
        """None also for a body that cannot be read: the answer is lost."""
        return (await self.bodies([(id, packed)])).get(id)

    async def bodies(self, packed: Iterable[tuple[str, object]]) -> dict[str, bytes]:
        """Of pairs of id and packed body, those that can be read."""
        there = [(id, body) for id, body in packed if body is not None]
        if sum(len(body) for _, body in there if isinstance(body, bytes)) <= INLINE_BYTES:
            return self._bodies(there)
        return await asyncio.to_thread(self._bodies, there)

    def _bodies(self, packed: Iterable[tuple[str, object]]) -> dict[str, bytes]:
        found = {}
        for id, body in packed:
            try:
                if not isinstance(body, bytes):
                    raise ValueError("damaged body: not bytes")
                found[id] = self._codec.unpack(body, id)
            except ValueError as error:
                self._count(error)
        return found

    def _count(self, error: ValueError) -> None:
        if not isinstance(error, Locked):
            self.unreadable.damaged += 1
            return
        self.unreadable.locked += 1
        if self.unreadable.locked == 1:
            log.warning("stored answers are sealed with a key that is not in documents.keys: they are misses")
