"""A limit to the calls on their way, under overload: `python -m benchmarks.admission`.

More callers than the demo upstream has places ask things that only the upstream can answer, one after the
other; every eighth caller's category has priority. Proxy, upstream and callers share one process: times are
the model's, not the proxy's.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import monotonic, process_time

import aiohttp
import click
from multidict import CIMultiDict

from policies.admission import MOST, Limit
from proxy.demo.upstream import Behaviour, run_demo_upstream
from proxy.serving import serving
from proxy.settings import Settings
from proxy.upstreams.limits import Admission
from proxy.upstreams.load import Load, UpstreamLoad
from proxy.upstreams.upstream import Head

PRIORITIES = {"urgent": 5, "default": 0}
URGENT_EACH = 8
TENANTS = 5
PLACES = 16
MEDIAN_S, SPREAD = 0.2, 0.5
"""Of the upstream's time for a call, lognormal."""

Taken = dict[tuple[str, int], list[float]]
"""Seconds by category and status."""


@click.command(help=__doc__)
@click.option("--callers", default=90)
@click.option("--seconds", default=20.0, help="For each limit; the first third is not counted.")
@click.argument("limits", nargs=-1)
def main(callers: int, seconds: float, limits: tuple[str, ...]) -> None:
    asyncio.run(cost())
    for limit in limits or ("off", "auto", str(PLACES)):
        taken = asyncio.run(measured(limit, callers, seconds))
        for (category, status), times in sorted(taken.items()):
            cuts = quantiles(times, n=20) if len(times) > 1 else times * 19
            line = f"limit {limit:>4}  {category:8} {status}  {len(times):5} calls"
            click.echo(f"{line}  p50 {cuts[9]:.2f} s  p95 {cuts[18]:.2f} s")


async def cost() -> None:
    """Of pressure and place per call, in a loop of its own; the best of five rounds."""
    for what, places, callers in (("a place that is free", MOST, 1), ("a wait in line", 1, 200)):
        admission, load = Admission(Limit(places, places), callers, 60.0), Load(UpstreamLoad("upstream"))
        bare = await best(lambda: asyncio.sleep(0), callers)
        took = await best(partial(pass_by, load, admission), callers) - bare
        click.echo(f"pressure and {what}: {took * 1e6:.0f} us a call")


async def pass_by(load: Load, admission: Admission) -> None:
    track = load.of("model").began("model", False)
    async with admission.place(("model", False), 1, "tenant") as place:
        await asyncio.sleep(0)
        track.answered(Head(200, "OK", CIMultiDict()))
        admission.answered(place, 200)
    track.landed(1000)


async def best(call: Callable[[], Coroutine[None, None, None]], callers: int) -> float:
    """Seconds of a core for one of so many calls at a time."""
    rounds = []
    for _ in range(5):
        started = process_time()
        for _ in range(4000 // callers):
            await asyncio.gather(*[call() for _ in range(callers)])
        rounds.append((process_time() - started) / 4000)
    return min(rounds)


async def measured(limit: str, callers: int, seconds: float) -> Taken:
    taken: Taken = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for name, priority in PRIORITIES.items():
            policy = f"{{name: {name}, threshold: 0.99, ttl: 1h, priority: {priority}}}"
            (Path(folder) / f"{name}.yaml").write_text(policy)
        async with AsyncExitStack() as stack:
            behaviour = Behaviour(capacity=PLACES, queue=10_000)
            upstream = await stack.enter_async_context(run_demo_upstream("127.0.0.1", 0, behaviour))
            banner = await stack.enter_async_context(serving(settings(limit, upstream, Path(folder))))
            found = re.search(r"data plane +(http://\S+)", banner)
            assert found, banner
            await drive(found[1], callers, seconds, taken)
    return taken


def settings(limit: str, upstream: str, categories: Path) -> Settings:
    return Settings.model_validate(
        {
            "upstream": {"url": upstream, "limit": limit},
            "categories": categories,
            "listen": {"port": 0},
            "admin": {"port": 0},
            "documents": {"url": "memory"},
            "log": {"level": "warning"},
        }
    )


async def drive(url: str, callers: int, seconds: float, taken: Taken) -> None:
    started = monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def caller(number: int) -> None:
            category = "urgent" if number % URGENT_EACH == 0 else "default"
            drawn = random.Random(number)
            while (asked := monotonic()) < started + seconds:
                status, pause = await ask(session, url, category, number % TENANTS, drawn)
                if asked > started + seconds / 3:
                    taken[category, status].append(monotonic() - asked)
                await asyncio.sleep(pause)

        await asyncio.gather(*[caller(number) for number in range(callers)])


async def ask(
    session: aiohttp.ClientSession, url: str, category: str, tenant: int, drawn: random.Random
) -> tuple[int, float]:
    """Status, and seconds to wait before the next call."""
    headers = {
        "Authorization": f"Bearer {tenant}",
        "Cache-Control": "no-store, no-cache",
        "X-Nearhit-Category": category,
        "X-Demo-Latency": str(MEDIAN_S * drawn.lognormvariate(0.0, SPREAD)),
    }
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": "How long does it take?"}]}
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
        await answer.read()
        return answer.status, float(answer.headers.get("Retry-After", 0))


if __name__ == "__main__":
    main()
