"""Whether the simulator tells the truth: the same requests through the whole proxy on real sockets, one after
the other, on a clock that is set to the trace's time.

    python -m benchmarks.agreement --requests 2000
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import aiohttp
import click
from aiohttp import web

from proxy.app import App, open_app
from proxy.cache import Tier
from proxy.demo.upstream import run_demo_upstream
from proxy.kept_vectors import KeptVectors, open_kept
from proxy.settings import Settings
from proxy.simulation.command import Plan, simulated
from proxy.simulation.queueing import Service
from proxy.simulation.replay import MODEL, Conditions
from proxy.simulation.rows import Row, Served, Table
from proxy.simulation.trace import Request, oracle, read_trace

EPOCH = 1_700_000_000.0
"""Unix time at which the trace begins."""
AT_ONCE = Conditions(Service(first_token_s=0.0, token_s=0.0))
TIERS: dict[str, Tier] = {"exact": "exact", "semantic": "semantic", "inflight": "inflight"}


async def compared(trace: Sequence[Request]) -> dict[str, Row]:
    """The overall row of the simulator, and that of the proxy."""
    settings = Settings.model_validate({"documents": {"url": "memory"}})
    played = await simulated(trace, Plan(("category-aware",), 0.8, settings, AT_ONCE))
    embedder = await asyncio.to_thread(open_kept, settings.embedding)
    return {
        "simulated": played["category-aware"].table.overall,
        "on sockets": (await on_sockets(trace, settings, embedder)).overall,
    }


async def on_sockets(trace: Sequence[Request], settings: Settings, embedder: KeptVectors) -> Table:
    """What the proxy answers, judged as the simulator judges. Models and tenants of the trace are ignored.
    Closes `embedder`."""
    clock, table = _Clock(), Table()
    async with (
        run_demo_upstream("127.0.0.1", 0) as upstream,
        open_app(settings, upstream, clock, embedder) as app,
        _listening(app) as url,
        aiohttp.ClientSession() as session,
    ):
        caller = _Caller(trace, app, session, url, upstream)
        for number, known in enumerate(oracle(trace)):
            clock.now = EPOCH + trace[number].t
            table.add(trace[number], await caller.ask(number), known)
    return table


class _Clock:
    now = EPOCH

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def _listening(app: App) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(app.data_plane.handle), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class _Caller:
    def __init__(
        self, trace: Sequence[Request], app: App, session: aiohttp.ClientSession, url: str, upstream: str
    ) -> None:
        self._trace, self._app, self._session = trace, app, session
        self._url, self._upstream = url, upstream
        self._calls = 0
        self._origin: dict[str, tuple[Request, float]] = {}
        """Of each entry: the request that it was stored for, and when."""

    async def ask(self, number: int) -> Served:
        body = {"model": MODEL, "messages": [{"role": "user", "content": self._trace[number].query}]}
        url, headers = f"{self._url}/v1/chat/completions", {"Authorization": "Bearer trace"}
        async with self._session.post(url, json=body, headers=headers) as response:
            response.raise_for_status()
            await response.read()
        told = response.headers
        tier = TIERS[told["X-Cache-Tier"]] if told["X-Cache"] in ("HIT", "STALE") else None
        origin = self._origin[told["X-Cache-Entry-Id"]] if tier else None
        calls = await self._stored_for(self._trace[number])
        answer, at = origin or (None, 0.0)
        return Served(told.get("X-Cache-Category", ""), tier, answer, at, calls)

    async def _stored_for(self, request: Request) -> int:
        """Calls to the upstream that the request caused, once their answers are stored."""
        await self._settled()
        for id in self._app.cache.entries.ids():
            if id not in self._origin:
                self._origin[id] = request, request.t
        async with self._session.get(f"{self._upstream}/demo/stats") as response:
            before, self._calls = self._calls, (await response.json())["calls"]
        return self._calls - before

    async def _settled(self) -> None:
        while self._app.forwarder.under_way:  # noqa: ASYNC110  nothing tells of the last one's end
            await asyncio.sleep(0.001)


@click.command()
@click.option("--trace", type=click.Path(path_type=Path), help="Else stream_dev of NEARHIT_DATA.")
@click.option("--requests", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--skip", type=click.IntRange(0), default=0, show_default=True, help="Requests left out first.")
def main(trace: Path | None, requests: int, skip: int) -> None:
    """Replay the first requests of a trace both ways and print the two rows."""
    source = trace or Path(os.environ.get("NEARHIT_DATA", "../shared/data")) / "stream_dev.jsonl.gz"
    for name, row in asyncio.run(compared(read_trace(source)[skip : skip + requests])).items():
        click.echo(f"{name:10} {asdict(row)}")


if __name__ == "__main__":
    main()
