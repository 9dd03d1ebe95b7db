"""The error object of OpenAI's API, which its other endpoints and most other servers share."""

from __future__ import annotations

import json


def error(status: int, code: str, message: str) -> bytes:
    kind = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "api_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
