"""The errors of a call, and the status its caller gets.

    CallError
    ├── BadRequest     400   not JSON, or not HTTP as we read it
    ├── Unidentified   401   has no credentials, and would use our key
    ├── NotAllowed     405   CONNECT
    ├── TooLarge       413   body larger than `limits.body_bytes`
    ├── HeadTooLarge   431   too many headers, or too long ones
    ├── Busy           429   nearhit itself is full (`limits.in_flight`)
    ├── Crowded        429   no place at the upstream in time
    ├── UnknownCoding  501   a transfer coding other than chunked
    ├── Unreachable    502   no answer from the upstream
    ├── UpstreamSlow   504   no first byte in time, or too long a silence
    ├── CallerGone     499   the caller does not read its answer; only for the log
    └── NotCached      504   `only-if-cached`, and not in the cache

An upstream's own error is not a CallError: it passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class CallError(Exception):
    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def message(self) -> str:
        return str(self)


class BadRequest(CallError):
    status = 400
    code = "invalid_request_error"


class Unidentified(CallError):
    status = 401
    code = "unauthenticated"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class NotAllowed(CallError):
    status = 405
    code = "method_not_allowed"
    headers = MappingProxyType({"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"})


class TooLarge(CallError):
    status = 413
    code = "request_too_large"


class HeadTooLarge(CallError):
    status = 431
    code = "request_header_fields_too_large"


class Busy(CallError):
    status = 429
    code = "proxy_busy"
    headers = MappingProxyType({"Retry-After": "1"})


class Crowded(CallError):
    status = 429
    code = "model_overloaded"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"The model has more calls than it can serve; try again in {retry_after} s")
        self.headers = {"Retry-After": str(retry_after)}


class UnknownCoding(CallError):
    status = 501
    code = "unknown_transfer_coding"


class Unreachable(CallError):
    status = 502
    code = "upstream_unreachable"


class UpstreamSlow(CallError):
    status = 504
    code = "upstream_timeout"


class CallerGone(CallError):
    status = 499
    code = "caller_gone"


class NotCached(CallError):
    status = 504
    code = "not_cached"
    headers = MappingProxyType(
        {"X-Cache": "MISS", "X-Should-Retry": "false"}  # OpenAI's and Anthropic's SDKs would retry a 504
    )

    def __init__(
        self, message: str = "This answer is not in the cache, and the request accepts only a cached one"
    ) -> None:
        super().__init__(message)
