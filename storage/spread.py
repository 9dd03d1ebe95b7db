"""A mapping that grows without a pause.

A dict of a million keys moves them all when it grows, which takes a tenth of a second. This is many dicts,
each of which grows when its time comes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

PARTS = 256
"""At a million keys each part grows in half a millisecond."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Spread(Generic[Key, Value]):
    """What a dict does, as far as it is needed here; in no particular order."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[dict[Key, Value]] = [{} for _ in range(PARTS)]
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: Key) -> bool:
        return key in self._parts[hash(key) % PARTS]

    def __getitem__(self, key: Key) -> Value:
        return self._parts[hash(key) % PARTS][key]

    def __setitem__(self, key: Key, value: Value) -> None:
        part = self._parts[hash(key) % PARTS]
        before = len(part)
        part[key] = value
        self._size += len(part) - before

    def __delitem__(self, key: Key) -> None:
        del self._parts[hash(key) % PARTS][key]
        self._size -= 1

    def __iter__(self) -> Iterator[Key]:
        """Keys may come and go meanwhile."""
        for part in self._parts:
            yield from list(part)

    def discard(self, key: Key) -> None:
        """An unknown key is no error."""
        if key in self:
            del self[key]

    def get(self, key: Key) -> Value | None:
        return self._parts[hash(key) % PARTS].get(key)
