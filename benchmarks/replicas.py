"""Three proxies on one document store and one Redis: what each knows of the others, and when.

    python -m benchmarks.replicas [--documents postgres|redis] [--entries 400] [--seconds 60] [--json]

Real `python -m proxy serve` processes, and the real Redis and PostgreSQL that the tests start. Measured are

    visible     from the end of the call that stored an answer to a hit on it at another replica, seconds
    together    calls that go up when all replicas are asked the same question at once
    outage      calls that fail while Redis is killed and started again
    purges      answers from before an acknowledged purge, while replicas are stopped, resumed and killed

The upstream numbers its answers, so an answer tells whether it is older than a purge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.kills import TAGS, TOPICS, Upstream, free_port, number_of, question, tag_of

ROOT = Path(__file__).parents[1]
START_S = 60.0
CALLERS, PURGERS = 12, 3
QUESTIONS = 240
LOOK_S = 0.005
PATIENCE_S = 0.3
"""Of a caller with an answer, before the next call."""


@dataclass
class Replica:
    """One process."""

    folder: Path
    environment: dict[str, str]
    session: aiohttp.ClientSession
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    async def start(self) -> None:
        """Until everything stored is loaded and there is contact with the others."""
        ports = {"NEARHIT_LISTEN__PORT": str(self.port), "NEARHIT_ADMIN__PORT": str(self.admin_port)}
        with (self.folder / f"{self.port}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve",
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment, **ports},
                cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(START_S):
            await self.until(lambda state: state["index"]["done"] and state["replication"]["current"])

    async def until(self, holds: Callable[[Any], bool]) -> None:
        while True:
            with suppress(aiohttp.ClientError):
                if holds(await self.state()):
                    return
            await asyncio.sleep(0.02)

    async def state(self) -> Any:
        async with self.session.get(f"{self.admin}/readyz") as answer:
            return await answer.json()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.send(number)
            await self.process.wait()
            self.process = None

    async def ask(self, asked: str, **headers: str) -> tuple[int, str, bytes]:
        """Status, `HIT` or what else, and the body."""
        told = {"Authorization": "Bearer caller", "X-Nearhit-Category": "tech_docs", **headers}
        body = {"model": "m", "messages": [{"role": "user", "content": asked}]}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        async with self.session.post(url, json=body, headers=told) as answer:
            return answer.status, answer.headers.get("X-Cache", ""), await answer.read()

    async def has(self, asked: str) -> bool:
        return (await self.ask(asked, **{"Cache-Control": "only-if-cached"}))[0] == 200

    async def purge(self, **order: Any) -> int:
        async with self.session.post(f"{self.admin}/api/v1/purge", json=order) as answer:
            await answer.read()
            return answer.status


@dataclass
class SlowUpstream(Upstream):
    calls: Counter[str] = field(default_factory=Counter)
    takes_s: float = 0.005

    async def answer(self, request: web.BaseRequest) -> web.Response:
        asked = (await request.json())["messages"][-1]["content"]
        self.calls[asked] += 1
        await asyncio.sleep(self.takes_s)
        return await super().answer(request)


@dataclass
class Cluster:
    replicas: list[Replica]
    upstream: SlowUpstream


@asynccontextmanager
async def cluster(
    folder: Path, documents: str, redis: str, count: int = 3, **environment: str
) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        upstream = SlowUpstream()
        runner = web.ServerRunner(web.Server(upstream.answer))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        timeout = aiohttp.ClientTimeout(total=START_S)
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout, connector=connector))
        told = {
            "NEARHIT_UPSTREAM__URL": f"http://127.0.0.1:{runner.addresses[0][1]}",
            "NEARHIT_DOCUMENTS__URL": documents,
            "NEARHIT_REPLICATION__URL": redis,
            "NEARHIT_LOG__LEVEL": "warning",
            **environment,
        }
        replicas = [Replica(folder, told, session) for _ in range(count)]
        for replica in replicas:
            stack.push_async_callback(replica.end)
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield Cluster(replicas, upstream)


# What is measured


async def visible(replicas: Sequence[Replica], entries: int, at_once: int = 4) -> list[float]:
    """Seconds, one for each entry and each other replica."""
    waits: list[float] = []

    async def one(number: int) -> None:
        asked = f"Tell me fact {number} about visibility"
        asker, *others = (*replicas[number % len(replicas) :], *replicas[: number % len(replicas)])
        await asker.ask(asked)
        stored = monotonic()
        for other in others:
            while not await other.has(asked):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
            waits.append(monotonic() - stored)

    for start in range(0, entries, at_once):
        await asyncio.gather(*(one(number) for number in range(start, min(entries, start + at_once))))
    return waits


async def together(cluster: Cluster, questions: int, takes_s: float = 0.3) -> list[int]:
    """Calls that went up for each question that all replicas were asked at once."""
    cluster.upstream.takes_s, before = takes_s, cluster.upstream.takes_s
    went_up = []
    for number in range(questions):
        asked = f"Tell me fact {number} about togetherness"
        answers = await asyncio.gather(
            *(replica.ask(asked) for replica in cluster.replicas for _ in range(2))
        )
        assert all(status == 200 for status, _, _ in answers)
        went_up.append(cluster.upstream.calls[asked])
    cluster.upstream.takes_s = before
    return went_up


@dataclass
class Outage:
    calls: int = 0
    failed: int = 0
    restarts: int = 0
    slowest_s: float = 0.0


async def outage(cluster: Cluster, redis: Any, calls: int, restarts: int = 2, away_s: float = 1.0) -> Outage:
    """Callers ask without a pause while Redis is killed and comes back empty; then all are in contact."""
    found, random = Outage(), Random(1)
    over = asyncio.Event()

    async def caller() -> None:
        while found.calls < calls or not over.is_set():
            found.calls += 1
            started = monotonic()
            asked = question(1_000 + random.randrange(20 * QUESTIONS))
            try:
                status, _, body = await random.choice(cluster.replicas).ask(asked)
                found.failed += status != 200 or number_of(body, asked) is None
            except aiohttp.ClientError:
                found.failed += 1
            found.slowest_s = max(found.slowest_s, monotonic() - started)

    async def restart() -> None:
        for _ in range(restarts):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(redis.stop)
            await asyncio.sleep(away_s)
            await asyncio.to_thread(redis.start)
            found.restarts += 1
        over.set()

    await asyncio.gather(restart(), *(caller() for _ in range(CALLERS)))
    for replica in cluster.replicas:
        await replica.until(lambda state: state["replication"]["current"] and state["index"]["done"])
    return found


@dataclass
class Purges:
    calls: int = 0
    hits: int = 0
    purges: int = 0
    """Acknowledged."""
    refused: int = 0
    """Answered with 503, and not counted on."""
    stops: int = 0
    kills: int = 0
    slowest_purge_s: float = 0.0
    failed: int = 0
    torn: int = 0
    resurrected: int = 0


class Trial:
    """Callers, purges and trouble at all replicas."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.found = Purges()
        self._cluster = cluster
        self._random = Random(seed)
        self._asked: set[asyncio.Task[None]] = set()
        self._purged = dict.fromkeys(TOPICS, -1)
        """By tag: the last number given when a purge was sent that has been acknowledged."""

    async def run(self, seconds: float, trouble: bool = True) -> Purges:
        works = [self._call() for _ in range(CALLERS)] + [self._purge() for _ in range(PURGERS)]
        works += [self._trouble()] if trouble else []
        tasks = [asyncio.get_running_loop().create_task(work, name="trial") for work in works]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        for replica in self._cluster.replicas:
            replica.send(signal.SIGCONT)
        for outcome in await asyncio.gather(*tasks, *self._asked, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        return self.found

    async def _call(self) -> None:
        """A replica that is stopped is sent further calls, which it finds when it goes on."""
        while True:
            task = asyncio.get_running_loop().create_task(self._ask(), name="ask")
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
            await asyncio.wait([task], timeout=PATIENCE_S)

    async def _ask(self) -> None:
        asked = question(self._random.randrange(QUESTIONS))
        replica, floor = self._random.choice(self._cluster.replicas), self._purged[tag_of(asked)]
        try:
            status, outcome, body = await replica.ask(asked, **{"X-Nearhit-Tags": tag_of(asked)})
        except (aiohttp.ClientError, OSError):  # it was killed
            await asyncio.sleep(0.02)
            return
        self.found.calls += 1
        self.found.hits += outcome == "HIT"
        number = number_of(body, asked) if status == 200 else None
        self.found.failed += status != 200
        self.found.torn += status == 200 and number is None
        self.found.resurrected += number is not None and number <= floor

    async def _purge(self) -> None:
        while True:
            topic, given = self._random.choice(TOPICS[:TAGS]), self._cluster.upstream.given
            started = monotonic()
            with suppress(aiohttp.ClientError, OSError):
                if await self._random.choice(self._cluster.replicas).purge(tag=topic) == 200:
                    self.found.purges += 1
                    self.found.slowest_purge_s = max(self.found.slowest_purge_s, monotonic() - started)
                    self._purged[topic] = max(self._purged[topic], given)
                else:
                    self.found.refused += 1
            await asyncio.sleep(self._random.uniform(0.0, 0.3))

    async def _trouble(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.2, 2.0))
            replica = self._random.choice(self._cluster.replicas)
            if self._random.random() < 0.5:
                replica.send(signal.SIGSTOP)
                await asyncio.sleep(self._random.choice([0.5, 3.0, 7.0]))
                replica.send(signal.SIGCONT)
                self.found.stops += 1
            else:
                await replica.end(signal.SIGKILL)
                await replica.start()
                self.found.kills += 1


async def measure(documents: str, entries: int, seconds: float, seed: int) -> dict[str, Any]:
    sys.path.append(str(ROOT / "tests"))
    from redis_server import RedisServer

    store: Any = Postgres() if documents == "postgres" else RedisServer()
    with RedisServer() as redis, store, tempfile.TemporaryDirectory() as folder:
        async with cluster(Path(folder), store.url, redis.url) as replicas:
            waits = sorted(await visible(replicas.replicas, entries))
            went_up = await together(replicas, 30)
            away = await outage(replicas, redis, 3_000)
            purges = await Trial(replicas, seed).run(seconds)
    return {
        "visible": {
            "entries": entries,
            "p50_s": statistics.median(waits),
            "p99_s": waits[int(0.99 * len(waits))],
            "worst_s": waits[-1],
        },
        "together": {"questions": len(went_up), "calls": sum(went_up), "most": max(went_up)},
        "outage": asdict(away),
        "purges": asdict(purges),
    }


class Postgres:
    """A server of its own; `url` as `documents.url` wants it."""

    def __enter__(self) -> Postgres:
        import pgserver

        self._folder = tempfile.TemporaryDirectory(prefix="nearhit-postgres-", ignore_cleanup_errors=True)
        self._server = pgserver.get_server(self._folder.name)
        self.url = self._server.get_uri().replace("postgresql://postgres:@", "postgresql+asyncpg://postgres@")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()
        self._folder.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="Three replicas, and what each knows of the others.")
    parser.add_argument("--documents", choices=["postgres", "redis"], default="postgres")
    parser.add_argument("--entries", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(measure(given.documents, given.entries, given.seconds, given.seed))
    if given.json:
        print(json.dumps(found))
    else:
        for part, figures in found.items():
            print(part)
            for name, value in figures.items():
                print(f"  {name.replace('_', ' '):16} {value:10.4g}")
    wrong = [found["purges"][name] for name in ("failed", "torn", "resurrected")]
    sys.exit(1 if found["outage"]["failed"] or any(wrong) else 0)


if __name__ == "__main__":
    main()
