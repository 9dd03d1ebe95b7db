"""What is to be told to the other replicas."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, takewhile
from typing import Literal, NamedTuple

Kind = Literal["stored", "gone", "reload"]


class Change(NamedTuple):
    kind: Kind
    epoch: str
    """In which it was done."""


class Outbox:
    """The last change of each id, in the order in which they were done."""

    def __init__(self) -> None:
        self._changes: dict[str, Change] = {}

    def __len__(self) -> int:
        return len(self._changes)

    def __contains__(self, id: str) -> bool:
        return id in self._changes

    def put(self, change: Change, ids: Iterable[str]) -> None:
        for id in ids:
            self._changes.pop(id, None)  # it takes its place at the end
            self._changes[id] = change

    def ids(self, kind: Kind) -> list[str]:
        return [id for id, change in self._changes.items() if change.kind == kind]

    def take(self, kind: Kind) -> list[str]:
        """Takes all of this kind out."""
        taken = self.ids(kind)
        for id in taken:
            del self._changes[id]
        return taken

    def first(self, most: int) -> tuple[Change, list[str]] | None:
        """What is to be told next: at most so many ids with one change, that follow each other."""
        first = next(iter(self._changes.values()), None)
        if first is None:
            return None
        alike = takewhile(lambda item: item[1] == first, self._changes.items())
        return first, [id for id, _ in islice(alike, most)]

    def done(self, change: Change, ids: Iterable[str]) -> list[str]:
        """Takes these out, and says which: those that have not changed since."""
        told = [id for id in ids if self._changes.get(id) == change]
        for id in told:
            del self._changes[id]
        return told
