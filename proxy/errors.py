"""What may go wrong with a call on its way, as the caller is told.

    CallError
    ├── BadRequest     400   not JSON
    ├── Unidentified   401   brings no credentials, and would use ours
    ├── NotAllowed     405   CONNECT
    ├── TooLarge       413   body over `limits.body_bytes`
    ├── HeadTooLarge   431   more headers, or longer ones, than are read
    ├── Busy           429   the door is full
    ├── Crowded        429   no place at the upstream in time
    ├── UnknownCoding  501   a body in another transfer coding than chunked
    ├── Unreachable    502   no answer from the upstream
    ├── UpstreamSlow   504   no first byte, or none for too long
    ├── CallerGone     499   does not read what it asked for; nobody is left to be told
    └── NotCached      504   `only-if-cached` and not in the cache

An upstream's own error is no CallError: it passes through as it came.
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
        {"X-Cache": "MISS", "X-Should-Retry": "false"}  # OpenAI's and Anthropic's SDKs try a 504 again
    )

    def __init__(
        self, message: str = "This answer is not in the cache, and the request asked for a cached one only"
    ) -> None:
        super().__init__(message)
