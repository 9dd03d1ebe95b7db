"""What may go wrong with a call on its way, as the caller is told.

    CallError
    ├── BadRequest     400   not JSON
    ├── NotAllowed     405   CONNECT
    ├── TooLarge       413   body over `limits.body_bytes`
    ├── Busy           429   the door is full
    ├── Unreachable    502   no answer from the upstream
    ├── UpstreamSlow   504   no first byte, or none for too long
    ├── CallerGone     499   does not read what it asked for; nobody is left to be told
    └── NotCached      504   `only-if-cached` and not in the cache

An upstream's own error is no CallError: it passes through as it came.
"""

from __future__ import annotations

from typing import ClassVar


class CallError(Exception):
    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    headers: ClassVar[dict[str, str]] = {}

    @property
    def message(self) -> str:
        return str(self)


class BadRequest(CallError):
    status = 400
    code = "invalid_request_error"


class NotAllowed(CallError):
    status = 405
    code = "method_not_allowed"


class TooLarge(CallError):
    status = 413
    code = "request_too_large"


class Busy(CallError):
    status = 429
    code = "proxy_busy"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


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
