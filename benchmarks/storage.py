"""What the documents cost: writing them, starting with them, deleting them for good.

    python -m benchmarks.storage [--entries 100000] [--json]

The store is a SQLite file with vectors of 384 dimensions and answers of 1.5 KB in fifty partitions. For the
start the real `python -m proxy serve` is run on it with its default encoder. Its first question is the oldest
entry of all, so its answer is the last that is loaded; the last question is the newest entry.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from time import perf_counter, time

import aiohttp
import numpy as np
from aiohttp import web

from benchmarks.kills import Proxy, Upstream
from storage.base import Document, Entry
from storage.documents.buffered import BufferedDocuments
from storage.opening import open_documents

DIMENSIONS, PARTITIONS = 384, 50
AT_ONCE = 64
"""As the proxy writes them under load."""
PURGED = 1_000
LONGEST_S = 300.0
OLDEST, NEWEST, REWORDED = (
    "How do I mend a cracked violin bridge?",
    "Why do glaciers look blue from a distance?",
    "How can I mend a cracked violin bridge?",
)

Figures = dict[str, float]


def store_url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'data' / 'nearhit.db'}"


# Writing and deleting


def documents(like: Entry, count: int) -> Iterator[list[Document]]:
    """Batches of entries of the same vector space and category as `like`."""
    random = np.random.default_rng(0)
    body = os.urandom(750) + b"a" * 750
    for start in range(0, count, AT_ONCE):
        rows = random.normal(size=(min(AT_ONCE, count - start), DIMENSIONS)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        yield [Document(filler(like, start + at, len(body)), vector, body) for at, vector in enumerate(rows)]


def filler(like: Entry, number: int, size: int) -> Entry:
    return replace(
        like,
        id=f"{number:024x}",
        exact=digest(f"exact {number}"),
        partition=digest(f"partition {number % PARTITIONS}"),
        text=f"Which way did the caravan number {number} take through the desert last year?",
        created=time(),
        size=size,
    )


def digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


async def write(folder: Path, count: int) -> Figures:
    store = await open_documents(store_url(folder))
    [(like, _)] = [found async for batch in store.scan() for found in batch]
    spent, slowest = 0.0, 0.0
    for batch in documents(like, count):
        started = perf_counter()
        await store.save(batch)
        spent, slowest = spent + perf_counter() - started, max(slowest, perf_counter() - started)
    await store.close()
    size = sum(file.stat().st_size for file in (folder / "data").iterdir())
    return {
        "written per second": count / spent,
        "slowest batch of 64, ms": 1000 * slowest,
        "bytes on disk per entry": size / count,
    }


async def purge(folder: Path) -> Figures:
    kept = BufferedDocuments(await open_documents(store_url(folder)))
    started = perf_counter()
    kept.forget([f"{number:024x}" for number in range(PURGED)])
    await kept.settle_deletions()
    took = perf_counter() - started
    await kept.close()
    return {f"purging {PURGED} for good, s": took}


# Starting


async def ask(proxy: Proxy, session: aiohttp.ClientSession, text: str, **headers: str) -> str:
    """How it was answered: `HIT exact`, `MISS`."""
    headers = {"Authorization": "Bearer caller", "X-Nearhit-Category": "tech_docs", **headers}
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    async with session.post(proxy.url, json=body, headers=headers) as answer:
        await answer.read()
        return f"{answer.headers.get('X-Cache')} {answer.headers.get('X-Cache-Tier', '')}".strip()


async def until_hit(proxy: Proxy, session: aiohttp.ClientSession, text: str, wanted: str) -> None:
    """Asks for what is stored only, so that nothing is stored."""
    only = {"Cache-Control": "only-if-cached"}
    async with asyncio.timeout(LONGEST_S):
        while await ask(proxy, session, text, **only) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(proxy: Proxy, session: aiohttp.ClientSession) -> AsyncIterator[None]:
    process = await proxy.start()
    try:
        if await proxy.ready(session) is None:
            raise ChildProcessError((proxy.folder / "proxy.log").read_text()[-2000:])
        yield
    finally:
        process.terminate()
        await process.wait()


async def warm_start(proxy: Proxy, session: aiohttp.ClientSession) -> Figures:
    """Seconds from the start of the process."""
    started, figures, waits = perf_counter(), dict[str, float](), list[float]()
    async with running(proxy, session):
        figures["ready, s"] = perf_counter() - started
        probing = asyncio.get_running_loop().create_task(probe(proxy, session, waits), name="probe")
        for name, text, wanted in (
            ("hit on the newest, s", NEWEST, "HIT exact"),
            ("hit on the oldest, s", OLDEST, "HIT exact"),
            ("hit alike to the oldest, s", REWORDED, "HIT semantic"),
        ):
            await until_hit(proxy, session, text, wanted)
            figures[name] = perf_counter() - started
        probing.cancel()
        await asyncio.wait([probing])
    figures["call to the proxy meanwhile, p99, ms"] = 1000 * float(np.percentile(waits, 99))
    figures["call to the proxy meanwhile, worst, ms"] = 1000 * max(waits)
    return figures


async def probe(proxy: Proxy, session: aiohttp.ClientSession, waits: list[float]) -> None:
    while True:
        started = perf_counter()
        async with session.get(f"{proxy.admin}/healthz") as answer:
            await answer.read()
        waits.append(perf_counter() - started)
        await asyncio.sleep(0.002)


async def measure(folder: Path, count: int) -> Figures:
    upstream = web.ServerRunner(web.Server(Upstream().answer))
    await upstream.setup()
    await web.TCPSite(upstream, "127.0.0.1", 0).start()
    proxy = Proxy(folder, f"http://127.0.0.1:{upstream.addresses[0][1]}", entries=2 * count)
    try:
        async with aiohttp.ClientSession() as session:
            async with running(proxy, session):
                await ask(proxy, session, OLDEST)
            figures = await write(folder, count)
            async with running(proxy, session):
                await ask(proxy, session, NEWEST)
            return figures | await warm_start(proxy, session) | await purge(folder)
    finally:
        await upstream.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the documents: writing, starting, deleting.")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder), given.entries))
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:42} {value:12,.2f}")


if __name__ == "__main__":
    main()
