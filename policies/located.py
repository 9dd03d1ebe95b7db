"""YAML files as pydantic models, with errors that name the file and line of every problem.

`load(path, Model)` does it all. Settings, which come from several sources, use its two halves: `read` the
file, merge the other sources into its data and their places into `Lines.places`, then `check` the result.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from policies.errors import ConfigError, Problem

M = TypeVar("M", bound=BaseModel)
Keys = tuple[str | int, ...]
"""Path to a value: mapping keys and list positions from the root, as in pydantic's `loc`."""

LONGEST = 5_000_000
"""Characters in a file; so many take about a minute to read."""
MOST_VALUES = 1_000_000
"""Values in a file with its aliases expanded: a few lines of nested aliases can exhaust the memory."""


@dataclass
class Lines:
    """Maps each value of a file to the place where it is written."""

    file: str
    places: dict[Keys, str] = field(default_factory=dict)

    def at(self, keys: Keys) -> str:
        """`FILE:LINE` of the value, else of the closest enclosing value that has one, else the file."""
        known = (keys[:length] for length in range(len(keys), 0, -1))
        return next((self.places[key] for key in known if key in self.places), self.file)

    def problem(self, keys: Keys, message: str) -> Problem:
        return Problem(self.at(keys), " ".join(message.split()))


def load(path: Path, model: type[M]) -> M:
    """The file as an instance of `model`. Raises `ConfigError`."""
    data, lines = read(path)
    return check(model, data, lines)


def read(path: Path) -> tuple[Any, Lines]:
    """The plain data of a YAML file; an empty file is an empty mapping. Raises `ConfigError`."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except OSError as error:
        message = f"cannot be read ({error.strerror}); correct the path"
        raise ConfigError([Problem(str(path), message)]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), "is not UTF-8; save it as UTF-8")]) from None
    if len(text) > LONGEST:
        message = "has more than 5,000,000 characters; examples may lie in an examples_file"
        raise ConfigError([Problem(str(path), message)])
    return parse(text, str(path))


def parse(text: str, file: str) -> tuple[Any, Lines]:
    """Like `read`, for text that came from `file`."""
    lines = Lines(file)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, lines
        if _values(node, {}) > MOST_VALUES:
            raise ValueError("its aliases stand for too many values")
        problems = list(_walk(node, (), lines, set()))
        data = loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([_syntax(error, file)]) from None
    if problems:
        raise ConfigError(problems)
    return data, lines


def check(model: type[M], data: Any, lines: Lines) -> M:
    """`data` as an instance of `model`. Raises `ConfigError` with one line per problem."""
    try:
        return model.model_validate(data)
    except ValidationError as invalid:
        problems = [_explain(model, error, lines) for error in invalid.errors(include_url=False)]
        raise ConfigError(problems) from None


def nearest(word: str, known: Sequence[str]) -> str:
    """Advice for an unknown word: the known one that looks most like it, or all of them."""
    alike = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {alike[0]!r}?" if alike else f"known here: {', '.join(known) or 'nothing'}"


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values under `node` with aliases expanded, except those that refer to an enclosing node.
    `known`: results so far, by `id` of the node."""
    if id(node) not in known:
        known[id(node)] = 0
        items = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for item in items for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def _walk(node: yaml.Node, keys: Keys, lines: Lines, seen: set[int]) -> Iterator[Problem]:
    """Notes the line of every value under `node`, and yields a problem for every duplicate key."""
    if id(node) in seen:  # an alias, perhaps of an enclosing node
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines.places[(*keys, position)] = _place(lines.file, item.start_mark)
            yield from _walk(item, (*keys, position), lines, seen)
    elif isinstance(node, yaml.MappingNode):
        yield from _walk_mapping(node, keys, lines, seen)


def _walk_mapping(node: yaml.MappingNode, keys: Keys, lines: Lines, seen: set[int]) -> Iterator[Problem]:
    here: set[str] = set()
    for key, value in node.value:
        name = str(key.value)
        place = _place(lines.file, key.start_mark)
        if name in here:
            yield Problem(place, f"{name!r} stands twice; remove one")
        here.add(name)
        lines.places.setdefault((*keys, name), place)
        yield from _walk(value, (*keys, name), lines, seen)


def _place(file: str, mark: yaml.Mark) -> str:
    return f"{file}:{mark.line + 1}"


def _syntax(error: Exception, file: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        what = " ".join(filter(None, (error.context, error.problem)))
        return Problem(_place(file, error.problem_mark), f"not valid YAML: {what}; correct this line")
    return Problem(file, f"not valid YAML: {' '.join(str(error).split())}; correct the file")


def _explain(model: type[BaseModel], error: ErrorDetails, lines: Lines) -> Problem:
    keys = error["loc"]
    name = ".".join(map(str, keys)) or "the file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, keys[:-1])
        return lines.problem(keys, f"unknown key {name!r}; {nearest(str(keys[-1]), known)}")
    if error["type"] == "missing":
        return lines.problem(keys, f"{name!r} is missing; add it")
    if error["type"] in ("model_type", "dict_type"):
        return lines.problem(keys, f"{name} should be a mapping (key: value), not {error['input']!r:.60}")
    what = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return lines.problem(keys, f"{name} {what}, not {error['input']!r:.60}")


def _known_keys(model: type[BaseModel], keys: Keys) -> list[str]:
    """The keys that are valid in the mapping at `keys`."""
    models = {model}
    for key in keys:
        # A key that is not a field is a list position, a key of a dict, or pydantic's label in a union.
        fields = [each.model_fields[str(key)] for each in models if str(key) in each.model_fields]
        models = {found for each in fields for found in _models_in(each.annotation)} if fields else models
    return sorted({name for each in models for name in each.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
