"""The error object of Anthropic's API: https://docs.anthropic.com/en/api/errors"""

from __future__ import annotations

import json

_KINDS = {
    400: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, code: str, message: str) -> bytes:
    kind = _KINDS.get(status, "api_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": f"{message} ({code})"}}).encode()
