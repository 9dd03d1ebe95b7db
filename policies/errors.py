"""What is wrong with a file that a person wrote.

ConfigError     one or more `Problem`s; `str()` has one line for each
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    place: str
    """`FILE:LINE`, or whatever else the value came from: a file, an environment variable, a flag."""
    message: str
    """One line: what is wrong and what to do."""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigError(Exception):
    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
