"""What the admin plane answers instead of doing what it was asked.

Refusal           400   the input
├── Unauthorized  401   no token, or another
├── Forbidden     403   a web page of somebody else's asks
├── NotFound      404
├── Unprocessable 422   the files on disk
└── Unavailable   503   not now
"""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    status: ClassVar[int] = 400
    headers: ClassVar[dict[str, str]] = {}


class Unauthorized(Refusal):
    status = 401
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="nearhit"'}


class Forbidden(Refusal):
    status = 403


class NotFound(Refusal):
    status = 404


class Unprocessable(Refusal):
    status = 422


class Unavailable(Refusal):
    status = 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}
