"""All categories in force, as one value that is replaced as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from policies.errors import ConfigError, Problem
from policies.loader import load_category, load_folder
from policies.model import Category

PACKAGED = Path(__file__).with_name("categories")


@dataclass(frozen=True, slots=True)
class Book:
    categories: Mapping[str, Category]
    """By name, `default` among them, in the order of names."""
    version: str
    """Digest of everything in it: two books with one version decide alike."""

    @classmethod
    def from_folder(cls, folder: Path | None = None, drafts: Mapping[Path, str] = {}) -> Book:
        """The packaged categories, or those of `folder` alone (and the packaged `default` if it has none).

        Raises `ConfigError` with a line for each problem; then nothing has changed.
        """
        found = load_folder(folder or PACKAGED, drafts)
        if not found:  # emptied, or not mounted: no reason to forget every category
            raise ConfigError([Problem(str(folder), "holds no category; put a YAML file per category there")])
        if "default" not in found:
            found["default"] = load_category(PACKAGED / "default.yaml")
        return cls.of(found.values())

    @classmethod
    def of(cls, categories: Iterable[Category]) -> Book:
        """`default` is among them, and no name twice."""
        ordered = {each.name: each for each in sorted(categories, key=lambda each: each.name)}
        version = hashlib.sha256(repr(ordered).encode()).hexdigest()[:12]
        return cls(MappingProxyType(ordered), version)

    @property
    def default(self) -> Category:
        return self.categories["default"]

    def get(self, name: str) -> Category:
        """The category of that name, else `default`."""
        return self.categories.get(name) or self.default
