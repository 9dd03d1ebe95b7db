"""The target of a request, which is its path and query, and the models and keys in it."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote, unquote, unquote_plus

from aiohttp import web

_AUTHORITY = re.compile(r"^[^:/?#]+://[^/?#]*")
_NAMED = re.compile(r"(/(?:models|deployments|engines)/)([^/?]+)")


def target_of(request: web.BaseRequest) -> str:
    """Path and query, whichever form of target the request line has (RFC 9112, section 3.2)."""
    if request.raw_path.startswith("/"):
        return request.raw_path
    path, mark, query = _AUTHORITY.sub("", request.raw_path, count=1).partition("?")
    return (path or "/") + mark + query


def model_in(path: str) -> str:
    """The model that a path names, or ""."""
    found = _NAMED.search(path)
    return unquote(found[2]).partition(":")[0] if found else ""


def renamed(path: str, model: str, alias: str) -> str:
    """The path with `alias` in place of `model`, if it names that model."""
    if model_in(path) != model:
        return path

    def other(found: re.Match[str]) -> str:
        _, colon, verb = unquote(found[2]).partition(":")
        return found[1] + quote(alias, safe="") + colon + quote(verb)

    return _NAMED.sub(other, path, count=1)


def with_value(query: str, name: str, value: str) -> str:
    """The query with another value for that parameter, if it has the parameter."""
    parts = [f"{name}={quote(value, safe='')}" if _name(part) == name else part for part in query.split("&")]
    return "&".join(parts)


def given(query: str, names: Collection[str]) -> list[str]:
    """The parameters of these names, unchanged, without empty ones."""
    return [part for part in query.split("&") if _name(part) in names and part.partition("=")[2]]


def without(query: str, names: Collection[str]) -> str:
    """The query without the parameters of these names; the others are unchanged."""
    return "&".join(part for part in query.split("&") if _name(part) not in names)


def _name(part: str) -> str:
    return unquote_plus(part.partition("=")[0])
