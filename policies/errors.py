"""Mistakes in files that people write: `ConfigError` carries one or more `Problem`s, one line each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    place: str
    """`FILE:LINE`, or wherever else the value came from: a file, an environment variable, a flag."""
    message: str
    """One line that says what is wrong and how to fix it."""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigError(Exception):
    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
