"""The whole proxy on real sockets, as its callers see it: demo upstream, data plane, and a client."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from doubles import Clock

from embeddings.base import Embedder
from proxy import listening as data_plane
from proxy.app import App, open_app
from proxy.demo.upstream import Behaviour, run_demo_upstream
from proxy.settings import Settings

CATEGORIES = {
    "default": "{name: default, threshold: 0.8, ttl: 1h, guards: [numbers, negation]}",
    "brief": (
        "{name: brief, threshold: 0.8, ttl: 10s, guards: [], stale: {while_revalidate: 5s, if_error: 1h},"
        " match: {patterns: ['^brief']}}"
    ),
    "never": "{name: never, threshold: 0.8, ttl: 1h, cacheable: false, match: {patterns: ['^never']}}",
    "common": "{name: common, threshold: 0.8, ttl: 1h, scope: shared, match: {patterns: ['^common']}}",
    "open": "{name: open, threshold: 0.8, ttl: 1h, scope: shared, match: {patterns: ['^open']}}",
    "strict": "{name: strict, threshold: 0.99, ttl: 1h, match: {patterns: ['^strict']}}",
}


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        content: str = self.json["choices"][0]["message"]["content"]
        return content

    @property
    def cache(self) -> str:
        """`HIT exact`, `MISS` ..."""
        return f"{self.headers.get('X-Cache')} {self.headers.get('X-Cache-Tier', '')}".strip()


@dataclass
class World:
    """The proxy as its callers see it, and a look inside."""

    app: App
    url: str
    upstream_url: str
    session: aiohttp.ClientSession
    embedder: Any
    clock: Clock
    runner: web.ServerRunner = field(repr=False)

    async def ask(
        self, text: str = "how are you today my friend", key: str = "one", **options: Any
    ) -> Answer:
        """A chat completion. `headers`, else members of the body."""
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        body = {"model": "demo-chat", "messages": [{"role": "user", "content": text}], **options}
        headers["Content-Type"] = "application/json"
        data = io.BytesIO(json.dumps(body).encode())
        return await self.post("/v1/chat/completions", data=data, headers=headers)

    async def send(self, path: str, body: Any, key: str = "one", **headers: str) -> Answer:
        """Any body to any path; the key goes where Anthropic's callers have it."""
        headers = {"x-api-key": key, "Content-Type": "application/json", **headers}
        return await self.post(path, data=json.dumps(body).encode(), headers=headers)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.call("POST", path, **options)

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.url + path, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def upstream_calls(self) -> int:
        async with self.session.get(self.upstream_url + "/demo/stats") as response:
            calls: int = (await response.json())["calls"]
            return calls

    async def settled(self) -> None:
        """Every answer on its way is stored or given up."""
        for _ in range(500):
            if not len(self.app.forwarder.flights) and not self.app.data_plane.in_flight:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("calls are still on their way")


@asynccontextmanager
async def upstream(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """An upstream of the test's own; yields its URL."""
    async with listening(web.ServerRunner(web.Server(handle))) as url:
        yield url


@asynccontextmanager
async def listening(runner: web.BaseRunner[Any]) -> AsyncIterator[str]:
    """On a free port; yields its URL."""
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


MakeWorld = Callable[..., Awaitable[World]]


@asynccontextmanager
async def open_world(
    settings: Settings,
    behaviour: Behaviour,
    embedder: Embedder,
    clock: Clock,
    upstream_url: str | None = None,
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        upstream = upstream_url or await stack.enter_async_context(
            run_demo_upstream("127.0.0.1", 0, behaviour)
        )
        app = await stack.enter_async_context(open_app(settings, upstream, clock, embedder))
        runner = web.ServerRunner(data_plane.server(app.data_plane.handle), shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20), auto_decompress=False)
        )
        host, port = runner.addresses[0][:2]
        yield World(app, f"http://{host}:{port}", upstream, session, embedder, clock, runner)
