"""The state of one call on its way through the cache."""

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
    """Its body, loaded when it is first needed."""
    failed: CallError | None = None
    """If set, the upstream is not asked again: this call waited for somebody else's, which failed with this
    error."""
