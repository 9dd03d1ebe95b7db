"""The errors of the admin plane.

Refusal           400   invalid input
├── Unauthorized  401   missing or wrong token
├── Forbidden     403   a request from another site's web page
├── NotFound      404
├── Unprocessable 422   mistakes in the files on disk
└── Unavailable   503   not possible now
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
