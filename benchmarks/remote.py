"""A search in the process against one in PostgreSQL with pgvector, on the same machine and the same vectors.

    python -m benchmarks.remote [--entries 100000] [--partitions 1] [--vectors FILE.npy] [--json]

The server is a real one (pgserver, which carries pgvector), reached by its Unix socket: what a network adds
comes on top. The remote search is timed from the call to the rows, one caller at a time and eight at once.
Break-even hit rates are those of `policies.economics`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import tempfile
import warnings
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search import COUNT, Rows, load_vectors, split
from policies.economics import break_even
from storage.partitions import Partitions

AT_ONCE = 8
RECALLED = 500
"""Queries whose best neighbour is checked against an exact search."""
UPSTREAMS_MS = (150.0, 200.0, 1_000.0, 3_800.0)

TABLE = "CREATE TABLE vectors (key bigint PRIMARY KEY, partition bytea NOT NULL, vector vector({}) NOT NULL)"
GRAPH = "CREATE INDEX ON vectors USING hnsw (vector vector_ip_ops) WITH (m = 16, ef_construction = 100)"
SEARCH = f"""SELECT key, -(vector <#> $1) AS cosine FROM vectors WHERE partition = $2
             ORDER BY vector <#> $1 LIMIT {COUNT}"""
INSERT = "INSERT INTO vectors VALUES ($1, $2, $3)"

Find = Callable[[int], Awaitable[list[int]]]
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
    local = await measure_local(queries, stored, partitions)
    with tempfile.TemporaryDirectory(prefix="nearhit-remote-", ignore_cleanup_errors=True) as folder:
        remote = await measure_remote(folder, queries, fresh, stored, partitions)
    even = {
        f"{upstream:.0f} ms": {
            name: break_even(figures["p50_ms"], upstream, 0.0)
            for name, figures in (("local", local), ("remote", remote["one at a time"]))
        }
        for upstream in UPSTREAMS_MS
    }
    return {"local": local, **remote, "break-even": even}


def partition_of(key: int, partitions: int) -> bytes:
    return blake2b(f"{key % partitions}".encode(), digest_size=16).digest()


async def measure_local(queries: Rows, stored: Rows, partitions: int) -> Figures:
    index = Partitions(stored.shape[1])
    for key, vector in enumerate(stored):
        index.add(partition_of(key, partitions), key, vector)

    async def find(number: int) -> list[int]:
        partition = partition_of(number, partitions)
        return [key for _, key in index.nearest(partition, queries[number], COUNT)]

    return await timed(find, queries, stored, partitions, 1)


async def measure_remote(
    folder: str, queries: Rows, fresh: Rows, stored: Rows, partitions: int
) -> dict[str, Figures]:
    server = serve(folder)
    pool = await open_pool(server, stored.shape[1])
    try:
        built = await fill(pool, stored, partitions)

        async def find(number: int) -> list[int]:
            found = await pool.fetch(SEARCH, queries[number], partition_of(number, partitions))
            return [row["key"] for row in found]

        await timed(find, queries[:200], stored, partitions, 1)
        return {
            "one at a time": await timed(find, queries, stored, partitions, 1),
            f"{AT_ONCE} at once": await timed(find, queries, stored, partitions, AT_ONCE),
            "remote store": {**built, **await inserts(pool, fresh, len(stored), partitions)},
        }
    finally:
        await pool.close()
        server.cleanup()


def serve(folder: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pgserver
    return pgserver.get_server(folder)


async def open_pool(server: Any, dimensions: int) -> Any:
    import asyncpg

    url = server.get_uri()
    first = await asyncpg.connect(url)
    await first.execute("CREATE EXTENSION vector")
    await first.execute(TABLE.format(dimensions))
    await first.close()

    async def prepare(connection: Any) -> None:
        await connection.set_type_codec("vector", encoder=packed, decoder=unpacked, format="binary")
        await connection.execute("SET hnsw.ef_search = 100")

    return await asyncpg.create_pool(url, min_size=AT_ONCE, max_size=AT_ONCE, init=prepare)


def packed(vector: NDArray[np.float32]) -> bytes:
    return struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()


def unpacked(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, ">f4", offset=4).astype(np.float32)


async def fill(pool: Any, stored: Rows, partitions: int) -> Figures:
    rows = ((key, partition_of(key, partitions), vector) for key, vector in enumerate(stored))
    started = perf_counter()
    async with pool.acquire() as connection:
        await connection.execute("SET maintenance_work_mem = '1GB'")
        await connection.copy_records_to_table("vectors", records=rows)
        await connection.execute("CREATE INDEX ON vectors (partition)", timeout=600)
        await connection.execute(GRAPH, timeout=3_600)
        await connection.execute("ANALYZE vectors", timeout=600)
    size = await pool.fetchval("SELECT pg_total_relation_size('vectors')")
    return {"loaded and indexed, s": perf_counter() - started, "bytes per entry": size / len(stored)}


async def inserts(pool: Any, fresh: Rows, first: int, partitions: int) -> Figures:
    waits = []
    for key, vector in enumerate(fresh[:500], start=first):
        started = perf_counter()
        await pool.execute(INSERT, key, partition_of(key, partitions), vector)
        waits.append(1000 * (perf_counter() - started))
    return {"insert p50, ms": float(np.median(waits)), "insert p99, ms": float(np.percentile(waits, 99))}


async def timed(find: Find, queries: Rows, stored: Rows, partitions: int, at_once: int) -> Figures:
    """Milliseconds from call to answer, and this process's CPU time per search."""
    waits, found = np.zeros(len(queries)), list[list[int]]([[]] * len(queries))

    async def caller(first: int) -> None:
        for number in range(first, len(queries), at_once):
            started = perf_counter()
            found[number] = await find(number)
            waits[number] = 1000 * (perf_counter() - started)

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
    for upstream, even in figures["break-even"].items():
        print(f"break-even at {upstream}: local {even['local']:.3%}, remote {even['remote']:.3%}")


if __name__ == "__main__":
    main()
