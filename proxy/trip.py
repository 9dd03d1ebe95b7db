"""A call on its way through the cache."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from proxy.cache import Found
from proxy.errors import CallError
from proxy.messages import Call
from proxy.telemetry.report import Report

Reply = web.StreamResponse


@dataclass(slots=True)
class Trip:
    call: Call
    request: web.BaseRequest
    report: Report
    now: float
    stale: Found | None = None
    """The stale answer that may be served in place of the upstream's."""
    stale_body: bytes | None = None
    """Its body, once it was needed."""
    failed: CallError | None = None
    """Why the upstream is not asked any more: this call waited for somebody else's, which failed like
    that."""
