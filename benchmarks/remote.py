"""A search in the process against one in PostgreSQL with pgvector, on the same machine and the same vectors.

    python -m benchmarks.remote [--entries 100000] [--partitions 1] [--vectors FILE.npy] [--json]

Both as the proxy does them: `MemoryVectors`, and `RemoteVectors` over a real server (pgserver, which carries
pgvector), reached by its Unix socket: what a network adds comes on top. A search is timed from the call to
the entries, one caller at a time and eight at once. Break-even hit rates are those of `policies.economics`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from sqlalchemy.engine import make_url

from benchmarks.search import COUNT, Rows, load_vectors, make_entry, resident_bytes, split
from policies.economics import break_even
from policies.eviction import over
from storage.base import Entry, Vectors
from storage.index.entries import Entries
from storage.vectors.memory import MemoryVectors
from storage.vectors.pgvector import PgVectors
from storage.vectors.remote import RemoteVectors

AT_ONCE = 8
WARMING = 200
RECALLED = 500
"""Queries whose best neighbour is checked against an exact search."""
UPSTREAMS_MS = (150.0, 200.0, 1_000.0, 3_800.0)
DEADLINE_S = 30.0
SENT_AT_ONCE = 1_000

Find = Callable[[int], Awaitable[list[tuple[float, Entry]]]]
Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a local search with one in PostgreSQL.")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--vectors", type=Path, help="unit rows as .npy")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    kind, rows = load_vectors(given.vectors)
    figures = asyncio.run(compare(*split(rows, given.entries), given.partitions))
    figures = {"vectors": kind, "entries": given.entries, "partitions": given.partitions, **figures}
    print(json.dumps(figures, indent=1)) if given.json else show(figures)


async def compare(queries: Rows, fresh: Rows, stored: Rows, partitions: int) -> Figures:
    memory = await resident(stored, partitions)
    entries = [entry_of(number, partitions) for number in range(len(stored) + len(fresh))]
    local = await measure_local(queries, stored, entries, partitions)
    with tempfile.TemporaryDirectory(prefix="nearhit-remote-", ignore_cleanup_errors=True) as folder:
        remote = await measure_remote(folder, queries, fresh, stored, entries, partitions)
    even = {
        f"{upstream:.0f} ms": {
            name: break_even(figures["p50_ms"], upstream, 0.0)
            for name, figures in (("local", local), ("remote", remote["one at a time"]))
        }
        for upstream in UPSTREAMS_MS
    }
    return {"local": local, **remote, "break-even": even, "resident": memory}


async def resident(stored: Rows, partitions: int) -> Figures:
    """Bytes per entry, all that memory knows of it included. Both are kept until the end: what one gave back
    the other would take unseen."""
    dimensions = stored.shape[1]
    table = PgVectors(make_url("postgresql://"), dimensions, "never asked")
    remote, local = RemoteVectors(table, dimensions, _no_documents, DEADLINE_S), MemoryVectors(dimensions)
    figures, kept = {}, list[Entries]()
    for name, vectors in (("remote", remote), ("local", local)):
        gc.collect()
        before = resident_bytes()
        kept.append(filled(vectors, stored, partitions))
        figures[name] = (resident_bytes() - before) / len(stored)
    await remote.close()
    return figures


def filled(vectors: Vectors, stored: Rows, partitions: int) -> Entries:
    entries = Entries(vectors, len(stored), worth=lambda entry, demand, now: 0.0, guaranteed=dict, over=over)
    for number, vector in enumerate(stored):
        entries.add(entry_of(number, partitions), vector, 0.0, known=True)
    return entries


def entry_of(number: int, partitions: int) -> Entry:
    exact = blake2b(f"entry {number}".encode(), digest_size=16).digest()
    return replace(make_entry(number), exact=exact, partition=partition_of(number, partitions))


def partition_of(number: int, partitions: int) -> bytes:
    return blake2b(f"{number % partitions}".encode(), digest_size=16).digest()


def finding(vectors: Vectors, queries: Rows, partitions: int) -> Find:
    return lambda number: vectors.nearest(partition_of(number, partitions), queries[number], COUNT)


async def measure_local(queries: Rows, stored: Rows, entries: Sequence[Entry], partitions: int) -> Figures:
    vectors = MemoryVectors(stored.shape[1])
    for entry, vector in zip(entries, stored, strict=False):
        vectors.add(entry, vector)
    return await timed(finding(vectors, queries, partitions), queries, stored, partitions, 1)


async def measure_remote(
    folder: str, queries: Rows, fresh: Rows, stored: Rows, entries: Sequence[Entry], partitions: int
) -> dict[str, Figures]:
    async with serve(folder) as url:
        table = PgVectors(make_url(url), stored.shape[1], "benchmark")
        vectors = RemoteVectors(table, stored.shape[1], _no_documents, DEADLINE_S)
        try:
            built = await fill(table, vectors, stored, entries)
            find = finding(vectors, queries, partitions)
            await timed(find, queries[:WARMING], stored, partitions, 1)
            return {
                "one at a time": await timed(find, queries, stored, partitions, 1),
                f"{AT_ONCE} at once": await timed(find, queries, stored, partitions, AT_ONCE),
                "remote store": {**built, **await inserts(table, vectors, fresh, entries[len(stored) :])},
            }
        finally:
            await vectors.close()


async def _no_documents(ids: Sequence[str]) -> list[Any]:
    return []


@asynccontextmanager
async def serve(folder: str) -> AsyncIterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pgserver
    server = pgserver.get_server(folder)
    server.psql("ALTER SYSTEM SET maintenance_work_mem = '1GB'; SELECT pg_reload_conf();")
    try:
        yield server.get_uri().replace("postgresql://postgres:@", "postgresql+asyncpg://postgres@")
    finally:
        server.cleanup()


async def fill(table: PgVectors, vectors: RemoteVectors, stored: Rows, entries: Sequence[Entry]) -> Figures:
    started = perf_counter()
    for first in range(0, len(stored), SENT_AT_ONCE):
        rows = stored[first : first + SENT_AT_ONCE]
        some = entries[first : first + len(rows)]
        await table.put(list(zip(some, rows, strict=True)))
        for entry, vector in zip(some, rows, strict=True):
            vectors.add(entry, vector, known=True)
    sent = perf_counter()
    await table.build_graph()
    size = (await table._fetch("size", "SELECT pg_total_relation_size('nearhit_vectors')"))[0][0]
    return {
        "sent, s": sent - started,
        "graph built, s": perf_counter() - sent,
        "bytes per entry": size / len(stored),
    }


async def inserts(table: PgVectors, vectors: RemoteVectors, fresh: Rows, entries: Sequence[Entry]) -> Figures:
    """Milliseconds of the writer's statement for one vector, and per vector in its batches."""
    waits = []
    for entry, vector in zip(entries[:500], fresh[:500], strict=True):
        started = perf_counter()
        await table.put([(entry, vector)])
        waits.append(1000 * (perf_counter() - started))
    some = list(zip(entries[500:1500], fresh[500:1500], strict=False))
    started = perf_counter()
    for entry, vector in some:
        vectors.add(entry, vector)
    await vectors.flush(600)
    return {
        "insert p50, ms": float(np.median(waits)),
        "insert p99, ms": float(np.percentile(waits, 99)),
        "in batches, ms each": 1000 * (perf_counter() - started) / max(1, len(some)),
    }


async def timed(find: Find, queries: Rows, stored: Rows, partitions: int, at_once: int) -> Figures:
    """Milliseconds from call to answer, and this process's CPU time per search."""
    waits, found = np.zeros(len(queries)), list[list[int]]([[]] * len(queries))

    async def caller(first: int) -> None:
        for number in range(first, len(queries), at_once):
            started = perf_counter()
            near = await find(number)
            waits[number] = 1000 * (perf_counter() - started)
            found[number] = [int(entry.id) for _, entry in near]

    worked = process_time()
    await asyncio.gather(*(caller(first) for first in range(at_once)))
    return {
        "p50_ms": float(np.median(waits)),
        "p99_ms": float(np.percentile(waits, 99)),
        "cpu_ms": 1000 * (process_time() - worked) / len(queries),
        "recall": recall(found, queries, stored, partitions),
    }


def recall(found: list[list[int]], queries: Rows, stored: Rows, partitions: int) -> float:
    """Share of queries of which the best neighbour in the partition is among those found."""
    right = 0
    checked = min(RECALLED, len(queries))
    for number in range(checked):
        rows = stored[number % partitions :: partitions]
        best = float((rows @ queries[number]).max())
        right += bool(found[number]) and float((stored[found[number]] @ queries[number]).max()) >= best - 1e-5
    return right / checked


def show(figures: Figures) -> None:
    print(f"{figures['entries']:,} entries in {figures['partitions']} partitions; {figures['vectors']}")
    print(f"{'search, ms':18} {'p50':>8} {'p99':>8} {'own CPU':>8} {'recall':>8}")
    for name in ("local", "one at a time", f"{AT_ONCE} at once"):
        row = figures[name]
        print(f"{name:18}" + "".join(f" {row[key]:8.3f}" for key in ("p50_ms", "p99_ms", "cpu_ms", "recall")))
    for name, value in figures["remote store"].items():
        print(f"{name:24} {value:12,.2f}")
    for name, value in figures["resident"].items():
        print(f"resident per entry, {name}: {value:,.0f} bytes")
    for upstream, even in figures["break-even"].items():
        print(f"break-even at {upstream}: local {even['local']:.3%}, remote {even['remote']:.3%}")


if __name__ == "__main__":
    main()
