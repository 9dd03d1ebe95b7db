"""Which dialect a request speaks, by method and path."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from proxy.dialects import (
    anthropic_messages,
    azure,
    gemini,
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


def of(method: str, target: str) -> Dialect | None:
    """The dialect of a request. `target`: path and query, as received. None: not cacheable, so the request is
    passed through."""
    path, _, query = target.partition("?")
    if known := _CACHED.get((method, unquote(path))):
        return known
    return gemini.of(path, query) or azure.of(path) if method == "POST" else None


def cached() -> Iterator[tuple[str, str, str]]:
    """Method, path and name of the dialect for every call that may be answered from the cache."""
    for (method, path), dialect in _CACHED.items():
        yield method, path, dialect.name
    for path in gemini.PATHS:
        yield "POST", path, gemini.PLAIN.name
    for rest, api in azure.APIS.items():
        yield "POST", f"/openai/deployments/{{model}}/{rest}", api.name


def batched(dialect: Dialect) -> bool:
    """Whether its calls have several items, each of which is cached separately."""
    return dialect is _CACHED["POST", "/v1/embeddings"]


def lenient(dialect: Dialect) -> bool:
    """Whether its servers accept more than JSON, such as names without quotes and trailing commas."""
    return isinstance(dialect, gemini.Gemini)


def of_google(target: str) -> gemini.Gemini | None:
    """The dialect for a path of Google's API, even if it is not cached. None: the path of another API."""
    path, _, query = target.partition("?")
    return gemini.speaking(path, query)


def error(target: str, status: int, code: str, message: str) -> bytes:
    """The body of our own error, in the format that callers of that path and query expect."""
    if google := of_google(target):
        return google.error(status, code, message)
    if target.startswith("/v1/messages"):
        return anthropic_messages.error(status, code, message)
    if target.startswith("/api/"):
        return ollama.chat.error(status, code, message)
    return openai_common.error(status, code, message)


__all__ = ["Dialect", "batched", "cached", "error", "lenient", "of", "of_google"]
