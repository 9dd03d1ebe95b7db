"""What of a store can be read: the rest is left out, counted, and told once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from storage.base import Entry, Vector
from storage.codec import Codec, Locked
from storage.tables import from_row, resealed

log = logging.getLogger(__name__)

INLINE_BYTES = 32_768
"""A packed body up to this is unpacked on the loop, a larger one in a thread."""


class Reader:
    """Rows and bodies through the codec. Unreadable ones stay in the store: a key may come back."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.damaged = 0
        """Rows and bodies that are not as they were written."""
        self.locked = 0
        """Rows and bodies that are sealed with a key that is not among ours."""

    def entries(self, rows: Iterable[Mapping[str, Any]]) -> list[tuple[Entry, Vector | None]]:
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
        """Of rows as `tables.resealed` takes them, those that are to change, with what they become."""
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
        if packed is None:
            return None
        try:
            if not isinstance(packed, bytes):
                raise ValueError("damaged body: not bytes")
            if len(packed) <= INLINE_BYTES:
                return self._codec.unpack(packed, id)
            return await asyncio.to_thread(self._codec.unpack, packed, id)
        except ValueError as error:
            self._count(error)
            return None

    async def bodies(self, packed: Iterable[Any]) -> dict[str, bytes]:
        """Of pairs of id and packed body, those that can be read."""
        bodies = {id: await self.body(body, id) for id, body in packed}
        return {id: body for id, body in bodies.items() if body is not None}

    def _count(self, error: ValueError) -> None:
        if not isinstance(error, Locked):
            self.damaged += 1
            return
        self.locked += 1
        if self.locked == 1:
            log.warning("stored answers are sealed with a key that is not in documents.keys: they are misses")
