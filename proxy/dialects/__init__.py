"""Which dialect a request speaks, by method and path."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.dialects import (
    anthropic_messages,
    ollama,
    openai_chat,
    openai_common,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from proxy.dialects.base import Dialect

_CACHED: dict[tuple[str, str], Dialect] = {
    ("POST", "/v1/chat/completions"): openai_chat,
    ("POST", "/v1/completions"): openai_completions,
    ("POST", "/v1/responses"): openai_responses,
    ("POST", "/v1/embeddings"): openai_embeddings,
    ("POST", "/v1/messages"): anthropic_messages,
    ("POST", "/api/chat"): ollama.chat,
    ("POST", "/api/generate"): ollama.generate,
}


def of(method: str, path: str) -> Dialect | None:
    """None: nothing here that could be cached; to be passed through."""
    return _CACHED.get((method, path))


def cached() -> Iterator[tuple[str, str, Dialect]]:
    """Method, path and dialect of every call that may be answered from memory."""
    for (method, path), dialect in _CACHED.items():
        yield method, path, dialect


def batched(dialect: Dialect) -> bool:
    """Whether its calls ask for several things at once, each of which is remembered by itself."""
    return dialect is _CACHED["POST", "/v1/embeddings"]


def error(path: str, status: int, code: str, message: str) -> bytes:
    """An error of our own in the shape that callers of `path` expect."""
    if path.startswith("/v1/messages"):
        return anthropic_messages.error(status, code, message)
    if path.startswith("/api/"):
        return ollama.chat.error(status, code, message)
    return openai_common.error(status, code, message)


__all__ = ["Dialect", "batched", "cached", "error", "of"]
