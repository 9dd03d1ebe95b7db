"""The data plane: admits a request, finds its tenant and reads its call, and always gives an answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from time import perf_counter

from aiohttp import web
from multidict import istr

from proxy import controls as request_controls
from proxy import dialects, websockets
from proxy.aside import aside
from proxy.batches import Batches
from proxy.cache import Cache, Unclassified
from proxy.controls import EVERYTHING, Permits
from proxy.dialects import Dialect
from proxy.dialects.gemini import CREDENTIALS_IN_QUERY
from proxy.errors import BadRequest, Busy, CallError, NotAllowed, NotCached, UnknownCoding
from proxy.exchange import Exchange
from proxy.messages import TENANT_SHOWN, Ambiguous, Call, read_call, shown, tenant_digest, without_controls
from proxy.passthrough import pass_through, read_body
from proxy.targets import given, target_of
from proxy.telemetry import report as reports
from proxy.telemetry.report import Report
from proxy.trip import Trip
from proxy.upstreams.fleet import CREDENTIALS, Fleet

log = logging.getLogger("nearhit.server")

EVERYWHERE = "authorization"
"""The default of `tenancy.header`. It stands for all headers in which callers of the big APIs and gateways
send their credentials."""

MODEL_LENGTH = 512
"""Longest name of a model, in characters, as names are kept in many places. A call with a longer one is
passed through."""


@dataclass(frozen=True, slots=True)
class Limits:
    in_flight: int
    body_bytes: int
    parse_bytes: int
    """Larger bodies are passed through unread, as parsing them would hold up all other calls."""


class DataPlane:
    def __init__(
        self,
        exchange: Exchange,
        batches: Batches,
        cache: Cache,
        fleet: Fleet,
        limits: Limits,
        tenancy_header: str,
        share_anonymous: bool,
        clock: Callable[[], float],
        publish: Callable[[Report], None],
        record: Callable[[Call, Report], None] | None = None,
        permits: Permits = EVERYTHING,
    ) -> None:
        self._exchange = exchange
        self._batches = batches
        self._cache = cache
        self._fleet = fleet
        self._limits = limits
        everywhere = tenancy_header.lower() == EVERYWHERE
        self._credentials = [istr(name) for name in (CREDENTIALS if everywhere else (tenancy_header,))]
        self._in_query: Collection[str] = CREDENTIALS_IN_QUERY if everywhere else ()
        self._share_anonymous = share_anonymous
        self._clock = clock
        self._publish = publish
        self._record = record
        self._permits = permits
        self.in_flight = 0
        self.turned_away = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.in_flight >= self._limits.in_flight:
            self.turned_away += 1
            return refusal(request, Busy("nearhit is serving as many calls as it may; try again in a moment"))
        self.in_flight += 1
        try:
            return await self._answer(request)
        except CallError as error:
            return refusal(request, error)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        dialect = dialects.of(request.method, target_of(request))
        if request.method == "CONNECT":
            raise NotAllowed("nearhit is not a tunnel; send the request to it as to the API itself")
        if request.raw_path == "*":
            raise BadRequest("nearhit only passes on requests with a path; use one instead of *")
        if ", ".join(request.headers.getall("Transfer-Encoding", ["chunked"])).strip().lower() != "chunked":
            raise UnknownCoding("nearhit supports no transfer coding but chunked; use Content-Encoding")
        if websockets.wanted(request):
            return await websockets.pass_on(request, self._fleet, self._identified(request))
        if dialect is None:
            return await self._pass_through(request)
        report = Report(self._clock(), request.path, dialect.name)
        started = perf_counter()
        try:
            reply = await self._cacheable(request, dialect, report)
        except CallError as error:
            report.status, report.error = report.status or error.status, error.code
            raise
        else:
            report.status = reply.status
            return reply
        finally:
            report.total_ms = (perf_counter() - started) * 1000
            self.ended(report)

    def ended(self, report: Report) -> None:
        """Publishes the report of a cacheable call, once the call has ended."""
        self._publish(report)

    async def _cacheable(
        self, request: web.BaseRequest, dialect: Dialect, report: Report
    ) -> web.StreamResponse:
        tenant = self._tenant(request)
        if reason := self._not_read(request, tenant):
            return await self._bypass(request, report, reason, tenant, await self._short(request))
        body = await read_body(request, self._limits.body_bytes)
        call = await self._call(request, dialect, tenant or "", body)
        if isinstance(call, str):
            return await self._bypass(request, report, call, tenant, body)
        await self._cache.certain()
        call.generation = self._cache.generation
        report.tenant = call.tenant[:TENANT_SHOWN]
        report.model, report.stream = call.reading.model, call.reading.stream
        report.query = shown(call.text or "")
        path = self._batches if dialects.batched(dialect) else self._exchange
        try:
            return await path.answer(Trip(call, request, report, report.at))
        except Unclassified:
            report.degraded = "classifier-failed"
            return await self._bypass(request, report, "unclassified", tenant, body)
        finally:
            if call.generation != self._cache.generation:
                report.query = report.matched = ""  # there was a purge, which may have been about this text
            if self._record is not None:
                self._record(call, report)

    async def _call(self, request: web.BaseRequest, dialect: Dialect, tenant: str, body: bytes) -> Call | str:
        """The call in the body, or the reason why it cannot be cached. Raises `BadRequest`."""
        if len(body) > self._limits.parse_bytes:
            return "large-body"
        asked = dialect, target_of(request), request.headers, body, tenant, self._permits
        try:
            call = await aside(len(body), read_call, *asked)
        except Ambiguous:
            return "ambiguous-json"
        except BadRequest:
            if not dialects.lenient(dialect):
                raise
            return "not-understood"
        if call is None or len(call.reading.model) > MODEL_LENGTH:
            return "not-understood"
        return call

    def _tenant(self, request: web.BaseRequest) -> str | None:
        """Digest of the caller's credentials. None: it has none, and such callers may not share answers."""
        headers = request.headers
        credentials = [
            f"{name}: {value}"
            for name in self._credentials
            for value in headers.getall(name, ())
            if not _is_empty(value)
        ]
        if self._in_query and (query := target_of(request).partition("?")[2]):
            credentials += given(query, self._in_query)
        if credentials:
            return tenant_digest("\n".join(credentials))
        return tenant_digest("") if self._share_anonymous else None

    def _not_read(self, request: web.BaseRequest, tenant: str | None) -> str:
        """Why the body is not parsed at all, or "" if it is."""
        if tenant is None:
            return "anonymous"
        if self._limits.parse_bytes < (request.content_length or 0) <= self._limits.body_bytes:
            return "large-body"
        return "encoded-body" if "Content-Encoding" in request.headers else ""

    async def _short(self, request: web.BaseRequest) -> bytes | None:
        """The body, if it is short enough to be parsed."""
        length = request.content_length or 0
        return await read_body(request, length) if 0 < length <= self._limits.parse_bytes else None

    async def _bypass(
        self,
        request: web.BaseRequest,
        report: Report,
        reason: str,
        tenant: str | None,
        body: bytes | None = None,
    ) -> web.StreamResponse:
        report.bypassed(reason)
        asked = self._permits.of(request_controls.asked(request.headers), tenant or "")
        if asked.only_if_cached:
            raise NotCached
        report.forwarded = True
        if body is not None and len(body) <= self._limits.parse_bytes:
            body = without_controls(body)
        return await self._pass_through(request, body, reports.headers(report, debug=False))

    async def _pass_through(
        self, request: web.BaseRequest, body: bytes | None = None, extra: dict[str, str] | None = None
    ) -> web.StreamResponse:
        identified, longest = self._identified(request), self._limits.body_bytes
        return await pass_through(request, self._fleet, identified, longest, body, extra)

    def _identified(self, request: web.BaseRequest) -> bool:
        return self._tenant(request) is not None


def _is_empty(credentials: str) -> bool:
    """Whether a header holds no credentials. A scheme alone does not count: probably a variable in the
    caller's script was not set."""
    return credentials.strip().lower() in ("", "bearer", "basic")


def refusal(request: web.BaseRequest, error: CallError) -> web.StreamResponse:
    """The response for our own error, in the caller's dialect. It has no effect if the answer has already
    begun."""
    headers = {"Content-Type": "application/json", "Cache-Status": f"nearhit; detail={error.code}"}
    body = dialects.error(target_of(request), error.status, error.code, error.message)
    return web.Response(status=error.status, headers={**headers, **error.headers}, body=body)
