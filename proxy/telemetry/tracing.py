"""OpenTelemetry spans of a call. They continue the caller's `traceparent` and are propagated to the upstream.

Tracing uses subclasses of the parts that a call passes through, so it costs nothing while it is off. No span
contains a text, a key, a tenant or a URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from aiohttp import web
from multidict import CIMultiDict

from embeddings.base import Vector
from policies.errors import ConfigError, Problem
from proxy import dialects
from proxy.cache import Cache, Search
from proxy.messages import Question
from proxy.server import DataPlane
from proxy.targets import model_in, target_of
from proxy.telemetry.logs import refusal
from proxy.telemetry.report import Report
from proxy.upstreams.upstream import Answer, Body, Upstream
from storage.base import Entry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

EXPORT_S = 5.0
"""Time for the collector to accept a batch, also for the last one at shutdown."""
WAITING = 8192
"""Most spans waiting to be exported; further ones are dropped."""


@dataclass(frozen=True)
class Kinds:
    """The classes of the parts that a call passes through."""

    cache: type[Cache] = Cache
    upstream: type[Upstream] = Upstream
    data_plane: type[DataPlane] = DataPlane


@asynccontextmanager
async def open_tracing(endpoint: str | None) -> AsyncIterator[Kinds]:
    """`endpoint`: of a collector for OTLP over HTTP; None: no traces. Raises `ConfigError`."""
    if endpoint is None:
        yield Kinds()
        return
    provider = await asyncio.to_thread(_provider, endpoint)
    try:
        yield traced(provider.get_tracer("nearhit"))
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * EXPORT_S):
                await asyncio.to_thread(provider.shutdown)


def _provider(endpoint: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError([Problem("tracing.endpoint", "needs the packages of the otel extra")]) from None
    ours = Resource({"service.name": "nearhit", "service.version": version("nearhit")})
    resource = ours.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and the like win
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # honours OTEL_TRACES_SAMPLER
    exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, WAITING))
    return provider


def traced(tracer: Tracer) -> Kinds:
    """Subclasses of the same parts that make a span of each step."""
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()

    @contextmanager
    def step(name: str, caller: Context | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
        with (
            tracer.start_as_current_span(
                name, caller, kind, record_exception=False, set_status_on_exception=False
            ) as span,
            failing(span),
        ):
            yield span

    @contextmanager
    def failing(span: Span) -> Iterator[None]:
        """Records only the type of an error, as its text may contain what a span must not."""
        try:
            yield
        except Exception as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise

    class TracedCache(Cache):
        async def embed(self, text: str, tenant: str = "") -> Vector:
            with step("embed"):
                return await super().embed(text, tenant)

        async def semantic(self, question: Question, now: float) -> Search:
            with step("search") as span:
                found = await super().semantic(question, now)
                _describe(span, {"similarity": found.nearest, "refused": refusal(found.refused)})
                return found

        def _consider(self, *considered: Any, **more: Any) -> None:
            with step("guard"):
                super()._consider(*considered, **more)

        async def load(self, entry: Entry, now: float) -> bytes | None:
            with step("fetch") as span:
                body = await super().load(entry, now)
                _describe(span, {"bytes": len(body) if body is not None else None})
                return body

        async def load_many(self, entries: Sequence[Entry], now: float) -> dict[str, bytes]:
            with step("fetch") as span:
                bodies = await super().load_many(entries, now)
                _describe(span, {"bytes": sum(map(len, bodies.values()))})
                return bodies

    class TracedUpstream(Upstream):
        @asynccontextmanager
        async def send(
            self, method: str, target: str, headers: CIMultiDict[str], body: Body, retry: bool = False
        ) -> AsyncIterator[Answer]:
            # Not as the current span: this generator may be closed in a different context.
            with tracer.start_span(
                "upstream", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
            ) as span:
                span.set_attribute("http.request.method", method)
                propagator.inject(headers, trace.set_span_in_context(span))
                with failing(span):
                    async with super().send(method, target, headers, body, retry) as answer:
                        span.set_attribute("http.response.status_code", answer.head.status)
                        yield answer

    class TracedDataPlane(DataPlane):
        async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
            dialect = dialects.of(request.method, target_of(request))
            what = "" if dialect is None else dialect.name if model_in(request.path) else request.path
            name = f"{request.method} {what}".strip()
            caller = propagator.extract({key.lower(): value for key, value in request.headers.items()})
            with step(name, caller, SpanKind.SERVER) as span:
                span.set_attribute("http.request.method", request.method)
                reply = await super().handle(request)
                span.set_attribute("http.response.status_code", reply.status)
                return reply

        def ended(self, report: Report) -> None:
            _describe(
                trace.get_current_span(),
                {
                    "outcome": report.outcome, "tier": report.tier, "category": report.category,
                    "reason": refusal(report.reason), "similarity": report.similarity, "error": report.error,
                    "degraded": report.degraded, "dialect": report.dialect, "stream": report.stream,
                },
            )  # fmt: skip
            super().ended(report)

    return Kinds(TracedCache, TracedUpstream, TracedDataPlane)


def _describe(span: Span, said: dict[str, str | float | bool | None]) -> None:
    for name, value in said.items():
        if value is not None and value != "":
            span.set_attribute(f"nearhit.{name}", value)
