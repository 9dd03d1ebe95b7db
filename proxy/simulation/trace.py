"""Recorded traffic: JSON lines, plain or gzip, one request each, in the order of time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policies.errors import ConfigError, Problem

_GZIP = b"\x1f\x8b"

Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Request(BaseModel):
    """Fields that are not named here are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    t: Seconds
    """Since whenever; never less than in the line before."""
    query: Annotated[str, Field(min_length=1)]
    category: str | None = None
    """The label. Decisions do not see it."""
    group: str | None = None
    """Requests of one group have the same right answer. None: nobody knows."""
    tokens_out: Annotated[int, Field(ge=0)] | None = None
    fresh_s: Annotated[Seconds, Field(ge=0)] | None = None
    """How long the group's answer is right. None: for ever."""
    model: str | None = None
    tenant: str | None = None


def read_trace(path: Path) -> list[Request]:
    """Raises `ConfigError` for the first thing that is wrong."""
    try:
        with _open(path) as lines:
            trace = list(_requests(path, lines))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _wrong(
            str(path), f"cannot be read ({reason}); name a file of JSON lines, plain or gzip"
        ) from None
    if not trace:
        raise _wrong(str(path), "has no requests; write one JSON object per line")
    return trace


def _open(path: Path) -> AbstractContextManager[Iterable[bytes]]:
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path) if zipped else path.open("rb")


def _requests(path: Path, lines: Iterable[bytes]) -> Iterator[Request]:
    before = float("-inf")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        request = _request(f"{path}:{number}", line)
        if request.t < before:
            raise _wrong(f"{path}:{number}", f"t goes back from {before:g} to {request.t:g}; sort by t")
        before = request.t
        yield request


def _request(place: str, line: bytes) -> Request:
    try:
        return Request.model_validate_json(line)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        name = ".".join(map(str, error["loc"])) or "the line"
        raise _wrong(place, f"{name}: {error['msg']}; correct the line") from None


def _wrong(place: str, message: str) -> ConfigError:
    return ConfigError([Problem(place, message)])


def oracle(trace: Sequence[Request]) -> list[bool]:
    """Which requests a cache that knows the groups would answer: it fetches an answer when the group is new
    or when what it fetched last is older than `fresh_s`."""
    fetched: dict[str, float] = {}
    return [_knows(fetched, request) for request in trace]


def _knows(fetched: dict[str, float], request: Request) -> bool:
    if request.group is None:
        return False
    if request.group in fetched and is_fresh(request, fetched[request.group]):
        return True
    fetched[request.group] = request.t
    return False


def is_fresh(request: Request, answered: float) -> bool:
    """Whether an answer that the request's group got at `answered` is still right."""
    return request.fresh_s is None or request.t - answered <= request.fresh_s
