"""What the endpoints of OpenAI's API have in common, with each other and with most other servers."""

from __future__ import annotations

import json
import re
from typing import Any

from proxy.dialects.base import JsonObject

_HERE = (None, "function", "custom")
"""Types of tools that the caller runs. All others run at the upstream, which then looks at the world, or
changes it, while it answers."""
_SEARCHES = ("web_search_options", "search_parameters", "plugins", "data_sources", "enable_search")
"""Members with which OpenAI, xAI, OpenRouter, Azure and Alibaba are asked to search. An empty object asks for
it as well, with all defaults."""
_NOT_ASKED: tuple[Any, ...] = (None, False, [])
_SEARCHING = re.compile(r":online$|-search-(preview|api)\b|(^|/)(sonar|compound)\b")
"""Models that search unasked: OpenRouter's variants, OpenAI's for search, Perplexity's, Groq's systems."""


def hosted_tools(body: JsonObject) -> str:
    """Why the answer is only true of this moment, or ""."""
    tools = body.get("tools")
    hosted = isinstance(tools, list) and any(_is_hosted(tool) for tool in tools)
    asked = any(body.get(member) not in _NOT_ASKED for member in _SEARCHES)
    return "hosted-tools" if hosted or asked or _SEARCHING.search(body["model"]) else ""


def _is_hosted(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") not in _HERE


def reports_error(answer: JsonObject, choices: list[JsonObject]) -> bool:
    """Whether an answer with status 200 reports an error: servers that begin to answer before they fail do
    so, and so do gateways before them."""
    return any(each.get("error") for each in (answer, *choices))


def error(status: int, code: str, message: str) -> bytes:
    kind = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "api_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
