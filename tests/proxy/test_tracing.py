"""Spans as a collector receives them: OTLP over HTTP, into a server of the test's own."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from world import MakeWorld, World, upstream

from policies.errors import ConfigError
from proxy.cache import Cache
from proxy.server import DataPlane
from proxy.settings import Settings
from proxy.telemetry.tracing import open_tracing
from proxy.upstreams.upstream import Upstream

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": "vendor=1"}
QUESTION = "how are you today my friend"


@dataclass
class Collector:
    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resource: dict[str, str] = field(default_factory=dict)
    bodies: bytes = b""

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.path == "/v1/traces"
        body = await request.read()
        body = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
        self.bodies += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource |= {each.key: each.value.string_value for each in resource.resource.attributes}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def names(self, wanted: int) -> list[str]:
        async with asyncio.timeout(20):
            while len(self.spans) < wanted:
                await asyncio.sleep(0.02)
        return sorted(span.name for span in self.spans)

    def one(self, name: str) -> Span:
        (span,) = [span for span in self.spans if span.name == name]
        return span


def said(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in span.attributes}


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector = Collector()
    async with upstream(collector.take) as collector.url:
        yield collector


@asynccontextmanager
async def noting_upstream(seen: list[dict[str, str]]) -> AsyncIterator[str]:
    """Answers as the demo upstream would and keeps the headers that came."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        await request.read()
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}}
        body = {"id": "x", "object": "chat.completion", "model": "demo-chat", "choices": [choice]}
        return web.json_response(body)

    async with upstream(answer) as url:
        yield url


async def traced_world(make_world: MakeWorld, collector: Collector, **more: Any) -> World:
    return await make_world(tracing={"endpoint": collector.url}, **more)


async def test_a_call_is_one_trace_from_the_caller_to_the_upstream(
    make_world: MakeWorld, collector: Collector
) -> None:
    seen: list[dict[str, str]] = []
    async with noting_upstream(seen) as url:
        world = await traced_world(make_world, collector, upstream_url=url)
        await world.ask(QUESTION, headers=PARENT)
        name = "POST /v1/chat/completions"
        assert await collector.names(4) == [name, "embed", "search", "upstream"]
    call, up = collector.one(name), collector.one("upstream")
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert call.parent_span_id.hex() == "b7ad6b7169203331"
    assert {span.parent_span_id for span in collector.spans if span is not call} == {call.span_id}
    assert (call.kind, up.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert seen[0]["traceparent"] == f"00-{TRACE}-{up.span_id.hex()}-01"
    assert seen[0]["tracestate"] == "vendor=1"
    assert said(call)["nearhit.outcome"] == "MISS"
    assert said(up)["http.response.status_code"] == 200
    assert collector.resource["service.name"] == "nearhit"


async def test_a_hit_shows_its_guards_and_its_fetch(make_world: MakeWorld, collector: Collector) -> None:
    world = await traced_world(make_world, collector)
    await world.ask(QUESTION)
    await world.settled()
    await collector.names(4)
    collector.spans.clear()
    answer = await world.ask(QUESTION + " today")
    assert answer.cache == "HIT semantic"
    name = "POST /v1/chat/completions"
    assert await collector.names(5) == [name, "embed", "fetch", "guard", "search"]
    assert collector.one("guard").parent_span_id == collector.one("search").span_id
    assert said(collector.one(name))["nearhit.tier"] == "semantic"
    assert said(collector.one("search"))["nearhit.similarity"] > 0.9


async def test_no_span_holds_a_text_or_a_key(make_world: MakeWorld, collector: Collector) -> None:
    world = await traced_world(make_world, collector)
    for text in ("what is 12 to a zebra", "what is 98765432109 to a zebra", "what is 12 to a zebra"):
        await world.ask(text, key="sk-secret-zebra", model="secret-model")
        await world.settled()
    await world.call("GET", "/v1/zebra?key=zebra")
    await collector.names(12)
    for word in (b"zebra", b"98765432109", b"secret", b"Bearer"):
        assert word not in collector.bodies


async def test_what_fails_is_marked_without_its_message(make_world: MakeWorld, collector: Collector) -> None:
    world = await traced_world(make_world, collector, upstream_url="http://127.0.0.1:9")
    assert (await world.ask(QUESTION)).status == 502
    await collector.names(4)
    up, call = collector.one("upstream"), collector.one("POST /v1/chat/completions")
    assert (up.status.code, up.status.message) == (2, "Unreachable")
    assert said(call)["nearhit.error"] == "upstream_unreachable"
    assert not [event for span in collector.spans for event in span.events]


async def test_a_caller_who_is_not_sampled_is_not_traced(make_world: MakeWorld, collector: Collector) -> None:
    world = await traced_world(make_world, collector)
    await world.ask(QUESTION, headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"})
    await world.ask("something else altogether", headers=PARENT)
    await collector.names(4)
    assert all(span.trace_id.hex() == TRACE for span in collector.spans)
    assert len([span for span in collector.spans if span.name == "upstream"]) == 1


async def test_a_collector_that_is_away_costs_no_call(make_world: MakeWorld) -> None:
    world = await make_world(tracing={"endpoint": "http://127.0.0.1:9"})
    assert (await world.ask(QUESTION)).status == 200


async def test_off_the_parts_are_the_plain_ones(make_world: MakeWorld) -> None:
    seen: list[dict[str, str]] = []
    async with noting_upstream(seen) as url:
        world = await make_world(upstream_url=url)
        parts = (world.app.cache, world.app.data_plane, world.app.fleet.first.upstream)
        assert tuple(map(type, parts)) == (Cache, DataPlane, Upstream)
        await world.ask(QUESTION, headers=PARENT)
    assert seen[0]["traceparent"] == PARENT["traceparent"]


async def test_without_its_packages_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match="otel extra"):
        async with open_tracing("http://127.0.0.1:9"):
            pass


@pytest.mark.parametrize("url", ["collector:4318", "http://u:p@collector", "http://collector/v1/traces"])
def test_an_endpoint_is_an_origin_without_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="should"):
        Settings.model_validate({"tracing": {"endpoint": url}})
