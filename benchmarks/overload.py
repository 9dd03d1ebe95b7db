"""The whole system, with an upstream for two thirds of what would reach it, with and without adaptation.

    python -m benchmarks.overload [--rate 40] [--seconds 60] [--rounds 1] [--arms fixed limited] [--json]

Needs the labelled stream (NEARHIT_DATA). Three arms take turns, each with its own proxy and demo upstream on
real sockets, with the same questions at the same times:

    fixed        the packaged categories without their `load:`
    bent         the packaged categories: thresholds and lifetimes follow the pressure
    limited      these, and a limit on the calls that go up (`LIMITED`)

The upstream serves two thirds of what goes up unadapted, lets 64 calls wait and refuses more. A run first
stores answers at a bearable rate, then comes the overload, then a trickle until pressure is 0. Arrivals do
not wait for answers (Poisson). Counted during the overload are

    upstream     calls that reached the upstream, those that it refused included
    hits, wrong  wrong: the answer was given to a question of another group, as far as it is known to which
    failed       calls that the caller saw fail
    p50, p95     of all calls that were answered, from the caller's side
    base after   seconds from the last answer of the overload to pressure 0
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic
from typing import Any

import aiohttp
import numpy as np
import yaml

import policies

LATENCY_S = 0.5
CALM_RATE = 10.0
TRICKLE = 3.0
START_S, CALL_S, CALM_AGAIN_S = 60.0, 60.0, 60.0
MISSES = 0.85
"""Share of the calls that goes up without adaptation: what the capacity is taken from."""
LIMITED = {"limit": "auto", "queue": 32, "queue_timeout": 1}
"""Who has waited for a place for a second may as well try again later."""
ARMS = ("fixed", "bent", "limited")
LEAST_CUT, MOST_WRONG, MOST_P95 = 0.17, 0.01, 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    rate: float
    seconds: float
    warm: int

    @property
    def capacity(self) -> int:
        return max(1, round(2 / 3 * MISSES * self.rate * LATENCY_S))


@dataclass
class Run:
    arm: str
    upstream: int = 0
    calls: int = 0
    hits: int = 0
    wrong: int = 0
    failed: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    pressure: float = 0.0
    """The highest that was seen."""
    base_after_s: float | None = None
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def wrong_share(self) -> float:
        return self.wrong / self.hits if self.hits else 0.0


@dataclass
class Caller:
    """Sends questions of the stream in order, and knows who got whose answer."""

    session: aiohttp.ClientSession
    url: str
    stream: Sequence[dict[str, Any]]
    asked: int = 0
    origin: dict[str, str] = field(default_factory=dict)
    """Group of the question that an entry was made for."""
    taken_s: list[float] = field(default_factory=list)
    answers: list[tuple[str, str, str]] = field(default_factory=list)
    """(X-Cache with tier, entry, group) of each call; "failed" for one that failed."""

    async def at(self, rate: float, count: int, seed: int) -> None:
        """Arrivals at that rate; returns when all are answered."""
        drawn, due = Random(seed), monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                due += drawn.expovariate(rate)
                await asyncio.sleep(max(0.0, due - monotonic()))
                group.create_task(self._ask(self.stream[self.asked % len(self.stream)]), name="caller")
                self.asked += 1

    async def _ask(self, row: dict[str, Any]) -> None:
        body = {"model": "demo-chat", "messages": [{"role": "user", "content": row["query"]}]}
        started = monotonic()
        try:
            async with self.session.post(self.url + "/v1/chat/completions", json=body) as response:
                await response.read()
                ok, headers = response.status == 200, response.headers
        except (aiohttp.ClientError, TimeoutError):
            ok, headers = False, None
        if not ok or headers is None:
            self.answers.append(("failed", "", row["group"]))
            return
        self.taken_s.append(monotonic() - started)
        outcome = f"{headers.get('X-Cache')} {headers.get('X-Cache-Tier', '')}".strip()
        entry = headers.get("X-Cache-Entry-Id", "")
        if outcome == "MISS" and entry:
            self.origin[entry] = row["group"]
        self.answers.append((outcome, entry, row["group"]))

    def forget(self) -> None:
        self.taken_s.clear()
        self.answers.clear()

    def sum_up(self, run: Run) -> None:
        outcomes = Counter(outcome for outcome, _, _ in self.answers)
        hits = [
            (entry, group) for outcome, entry, group in self.answers if outcome.startswith(("HIT", "STALE"))
        ]
        run.calls, run.hits, run.failed = len(self.answers), len(hits), outcomes["failed"]
        run.wrong = sum(self.origin.get(entry, group) != group for entry, group in hits)
        run.p50_ms, run.p95_ms = (float(q) * 1000 for q in np.quantile(self.taken_s or [0.0], [0.5, 0.95]))
        run.outcomes = dict(outcomes)


async def measured(arm: str, plan: Plan, stream: Sequence[dict[str, Any]], seed: int) -> Run:
    run = Run(arm)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                headers={"Authorization": "Bearer benchmark"},
                timeout=aiohttp.ClientTimeout(total=CALL_S),
                connector=aiohttp.TCPConnector(limit=0),
            )
        )
        upstream = await stack.enter_async_context(_upstream(folder, plan, session))
        url, admin = await stack.enter_async_context(_proxy(folder, arm, plan, upstream, session))
        caller = Caller(session, url, stream)
        await caller.at(CALM_RATE, plan.warm, seed)
        caller.forget()
        before = await _reached(session, upstream)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_watch(session, admin, run), name="watch")
            await caller.at(plan.rate, int(plan.rate * plan.seconds), seed + 1)
            watch.cancel()
        run.upstream = await _reached(session, upstream) - before
        caller.sum_up(run)
        run.base_after_s = await _calm_again(session, admin, caller)
    return run


async def _reached(session: aiohttp.ClientSession, upstream: str) -> int:
    async with session.get(upstream + "/demo/stats") as response:
        stats = await response.json()
    return int(stats["calls"] + stats["rejected"])


async def _pressure(session: aiohttp.ClientSession, admin: str) -> float:
    async with session.get(admin + "/api/v1/load") as response:
        return float((await response.json())["pressure"])


async def _watch(session: aiohttp.ClientSession, admin: str, run: Run) -> None:
    while True:
        run.pressure = max(run.pressure, await _pressure(session, admin))
        await asyncio.sleep(0.5)


async def _calm_again(session: aiohttp.ClientSession, admin: str, caller: Caller) -> float | None:
    """Seconds until policies are at their base, with a trickle of calls; None: not within a minute."""
    started = monotonic()
    while monotonic() - started < CALM_AGAIN_S:
        if await _pressure(session, admin) == 0.0:
            return monotonic() - started
        await caller.at(TRICKLE, 3, caller.asked)
    return None


# Processes


@asynccontextmanager
async def _upstream(folder: Path, plan: Plan, session: aiohttp.ClientSession) -> AsyncIterator[str]:
    port = _free_port()
    arguments = ("demo-upstream", "--port", str(port), "--latency", str(LATENCY_S))
    url = f"http://127.0.0.1:{port}"
    async with _running(folder / "upstream.log", *arguments, "--capacity", str(plan.capacity)):
        await _ready(session, url + "/health")
        yield url


@asynccontextmanager
async def _proxy(
    folder: Path, arm: str, plan: Plan, upstream: str, session: aiohttp.ClientSession
) -> AsyncIterator[tuple[str, str]]:
    port, admin = _free_port(), _free_port()
    settings = {
        "upstream": {"url": upstream, **(LIMITED if arm == "limited" else {})},
        "listen": {"port": port},
        "admin": {"port": admin},
        "categories": str(_categories(folder, adapts=arm != "fixed")),
        "documents": {"url": "memory"},
    }
    config = folder / "nearhit.yaml"
    config.write_text(yaml.safe_dump(settings))
    async with _running(folder / "proxy.log", "serve", "--config", str(config)):
        await _ready(session, f"http://127.0.0.1:{admin}/readyz")
        yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"


def _categories(folder: Path, adapts: bool) -> Path:
    """The packaged ones, with or without what overload may do to them."""
    into = folder / "categories"
    into.mkdir()
    for path in (Path(policies.__file__).parent / "categories").glob("*"):
        if path.suffix != ".yaml" or adapts:
            (into / path.name).write_bytes(path.read_bytes())
            continue
        category = yaml.safe_load(path.read_text())
        category["load"] = {"share_flights": False}
        (into / path.name).write_text(yaml.safe_dump(category))
    return into


@asynccontextmanager
async def _running(log: Path, *arguments: str) -> AsyncIterator[None]:
    with log.open("w") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", *arguments, stdout=out, stderr=out, cwd=Path(__file__).parents[1]
        )
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30.0)


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# What it comes to


def compared(runs: Sequence[Run], arm: str) -> dict[str, Any]:
    """An arm beside `fixed`: medians over the rounds, and whether the bars are met."""
    fixed, adapted = ([run for run in runs if run.arm == each] for each in ("fixed", arm))
    cut = 1 - median(run.upstream for run in adapted) / median(run.upstream for run in fixed)
    wrong = median(run.wrong_share for run in adapted) - median(run.wrong_share for run in fixed)
    p95 = median(run.p95_ms for run in adapted) / median(run.p95_ms for run in fixed)
    back = [run.base_after_s for run in adapted]
    return {
        "upstream_cut": cut,
        "wrong_rise": wrong,
        "p95_ratio": p95,
        "bars": {
            "upstream_cut": cut >= LEAST_CUT,
            "wrong_rise": wrong <= MOST_WRONG,
            "p95_ratio": p95 <= MOST_P95,
            "base_within_a_minute": None not in back,
        },
    }


def _stream() -> list[dict[str, Any]]:
    path = Path(os.environ.get("NEARHIT_DATA", "../shared/data")) / "stream_dev.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def _shown(run: Run) -> str:
    back = "no" if run.base_after_s is None else f"{run.base_after_s:.0f} s"
    return (
        f"{run.arm:8} {run.calls:6} calls {run.upstream:6} upstream {run.hits:6} hits "
        f"{run.wrong_share:6.1%} wrong {run.failed:5} failed  "
        f"p50 {run.p50_ms:6.0f} ms  p95 {run.p95_ms:6.0f} ms  "
        f"pressure up to {run.pressure:.2f}, base after {back}"
    )


async def main(plan: Plan, arms: Sequence[str], rounds: int, as_json: bool) -> None:
    stream, runs = _stream(), list[Run]()
    for number in range(rounds):
        for arm in arms:
            runs.append(await measured(arm, plan, stream, number))
            print(_shown(runs[-1]), file=sys.stderr if as_json else sys.stdout, flush=True)
    results = {arm: compared(runs, arm) for arm in arms if arm != "fixed"}
    if as_json:
        whole = {"capacity": plan.capacity, **results, "runs": [asdict(run) for run in runs]}
        print(json.dumps(whole, indent=2))
        return
    for arm, result in results.items():
        print(
            f"{arm}: upstream calls {-result['upstream_cut']:+.1%}, "
            f"wrong {result['wrong_rise'] * 100:+.2f} points, p95 times {result['p95_ratio']:.2f}"
        )
        for bar, met in result["bars"].items():
            print(f"  {bar}: {'met' if met else 'missed'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=40.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--warm", type=int, default=400, help="calls that fill the memory before it")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="fixed must be one of them")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(Plan(given.rate, given.seconds, given.warm), given.arms, given.rounds, given.json))
