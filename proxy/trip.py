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
    """What may stand in for the upstream's answer."""
    stale_body: bytes | None = None
    """Its answer, once it was needed."""
    failed: CallError | None = None
    """Why the upstream is not to be asked: somebody else's call has waited in vain, and this one with it."""
