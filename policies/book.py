"""The categories in force, as one immutable value: a change replaces the whole book."""

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
    """By name and in order of name; always includes `default`."""
    version: str
    """Digest of the content: two books of the same version make the same decisions."""

    @classmethod
    def from_folder(cls, folder: Path | None = None, drafts: Mapping[Path, str] = {}) -> Book:
        """The categories of `folder`, with the packaged `default` if it has none; without a folder, the
        packaged categories. `drafts`: as for `load_folder`.

        Raises `ConfigError` with one line per problem.
        """
        found = load_folder(folder or PACKAGED, drafts)
        if not found:  # probably emptied by mistake or not mounted, so keep the categories in force
            raise ConfigError([Problem(str(folder), "holds no category; put a YAML file per category there")])
        if "default" not in found:
            found["default"] = load_category(PACKAGED / "default.yaml")
        return cls.of(found.values())

    @classmethod
    def of(cls, categories: Iterable[Category]) -> Book:
        """`categories` must include `default`, and no name twice."""
        ordered = {each.name: each for each in sorted(categories, key=lambda each: each.name)}
        version = hashlib.sha256(repr(ordered).encode()).hexdigest()[:12]
        return cls(MappingProxyType(ordered), version)

    @property
    def default(self) -> Category:
        return self.categories["default"]

    def get(self, name: str) -> Category:
        """The category of that name, or `default` if there is none."""
        return self.categories.get(name) or self.default
