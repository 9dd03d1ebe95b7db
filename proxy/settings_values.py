"""The types of settings: how their values are written, validated and converted."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from policies.values import seconds
from storage.documents.keys import read_key

PREFIX = "NEARHIT_"
"""Prefix of environment variables that are settings."""

MOST_PORT = 65_535
SHARED_STORES = ("postgresql+asyncpg://", "redis://", "rediss://")
_STORES = ("sqlite+aiosqlite:///", *SHARED_STORES)
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a whole number")
    return value


def _off(value: Any) -> Any:
    """Undoes YAML, which reads a bare `off` as a boolean."""
    return "off" if value is False else value


def _size(value: Any) -> Any:
    """`64MiB` or a number of bytes."""
    found = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB)", value.strip()) if isinstance(value, str) else None
    return int(found[1]) * _UNITS[found[2]] if found else _whole(value)


_PORT = re.compile(r"://(?:.*@)?+(?:\[[^\]]*\]|[^/:?]+)?+:([^/?#]*)")
"""Not `urlsplit`, for which some characters of a password would end the host."""


def _with_port(url: str) -> str:
    """Raises `ValueError` if the port is not a number or is too large."""
    found = _PORT.search(url)
    if found and found[1] and not (found[1].isdecimal() and int(found[1]) <= MOST_PORT):
        raise ValueError(f"should have a number up to {MOST_PORT} as its port")
    return url


def _token(value: Any) -> Any:
    """Without the line end that files and secrets come with."""
    return value.strip() if isinstance(value, str) else value


def _visible(token: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[ -~]*", token.get_secret_value()):
        raise ValueError("should be one line of ASCII, to fit into a header")
    return token


def _origin(url: str) -> str:
    """The URL without a trailing slash. Raises `ValueError`."""
    parts = urlsplit(_with_port(url))
    if (
        parts.scheme not in ("http", "https")
        or not _is_host(parts.hostname or "")
        or re.search(r"[?#\s]", url)
    ):
        raise ValueError("should be an origin such as https://api.openai.com")
    if "@" in url:
        raise ValueError("should have no user name or password; callers bring their own Authorization header")
    if parts.path.rstrip("/").endswith("/v1"):
        raise ValueError("should end before /v1, which is part of every caller's path")
    return url.rstrip("/")


def _is_host(name: str) -> bool:
    with suppress(UnicodeError):  # an empty part of a name, or one that is too long
        return bool(re.fullmatch(rb"[a-z0-9._:%-]+", name.encode("idna")))
    return False


def _collector(url: str) -> str:
    """The URL without a trailing slash. Raises `ValueError`."""
    parts = urlsplit(_with_port(url))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ValueError(
            "should be a URL such as http://collector:4318; its keys go into OTEL_EXPORTER_OTLP_HEADERS"
        )
    if parts.path.rstrip("/").endswith("/v1/traces"):
        raise ValueError("should end before /v1/traces, which is added")
    return url.rstrip("/")


def _metrics(url: str) -> str:
    if not url.startswith("/") and urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("should be a path such as /metrics, or an http URL")
    return _with_port(url)


def _document_store(url: str) -> str:
    if url != "memory" and not url.startswith(_STORES):
        raise ValueError(
            "should be sqlite+aiosqlite:///PATH, postgresql+asyncpg://USER@HOST/DATABASE, redis://HOST"
        )
    return _with_port(url)


def _vector_store(url: str) -> str:
    if url != "memory" and not url.startswith("postgresql+asyncpg://"):
        raise ValueError("should be memory, or postgresql+asyncpg://USER@HOST/DATABASE")
    return _with_port(url)


def _separated(value: Any) -> Any:
    """Splits at commas, as the environment has no lists."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _sealing_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for key in keys:
        read_key(key.get_secret_value())
    return keys


def _variable_of_others(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith(PREFIX):
        raise ValueError(f"should name a variable that holds the key, and must not begin with {PREFIX}")
    return name


def _redis(url: str) -> str:
    if not url.startswith(("redis://", "rediss://")):
        raise ValueError("should be redis://:PASSWORD@HOST/NUMBER, or rediss:// with TLS")
    return _with_port(url)


IN_SECONDS = BeforeValidator(seconds)
OR_OFF = BeforeValidator(_off)
BY_COMMAS = BeforeValidator(_separated)
_WHOLE = BeforeValidator(_whole)

Duration = Annotated[float, IN_SECONDS, Field(gt=0)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Count = Annotated[int, _WHOLE, Field(gt=0)]
Tries = Annotated[int, _WHOLE, Field(ge=0, le=10)]
Port = Annotated[int, _WHOLE, Field(ge=0, le=MOST_PORT)]
Host = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{8,32}$")]
Origin = Annotated[str, AfterValidator(_origin)]
Collector = Annotated[str, AfterValidator(_collector)]
MetricsUrl = Annotated[str, AfterValidator(_metrics)]
DocumentStore = Annotated[str, AfterValidator(_document_store)]
VectorStore = Annotated[str, AfterValidator(_vector_store)]
RedisUrl = Annotated[str, AfterValidator(_redis)]
VariableOfOthers = Annotated[str, AfterValidator(_variable_of_others)]
Token = Annotated[SecretStr, BeforeValidator(_token), AfterValidator(_visible)]
Keyring = Annotated[tuple[SecretStr, ...], BY_COMMAS, AfterValidator(_sealing_keys)]
