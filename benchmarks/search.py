"""Finds among 1,000, 10,000 and 100,000 entries of one partition: time, recall, inserts, memory.

    python -m benchmarks.search [--json] [--sizes 1000,10000] [--vectors FILE.npy]

Vectors are those of the labelled questions (NEARHIT_DATA or ../shared/data, embedded once and kept under
data/), and noise around random centres where there are none. Above the number of questions, some are repeated
with noise, as paraphrases would lie. Wall-clock time includes what other processes take; CPU time does not.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from policies.eviction import over
from storage.base import Entry
from storage.index.entries import Entries
from storage.vectors.memory import MemoryVectors

BAR_US = 2_000.0
QUERIES = 2_000
COUNT = 4
"""Neighbours asked for, as a call does."""
ALIKE = 0.8
"""Cosine from which on a neighbour could be a hit."""
CACHE = Path("data/search-vectors.npy")
PARTITION = bytes(16)
FILES = {"stream_dev": ("query",), "pairs_dev": ("a", "b"), "hard_negatives_dev": ("a", "b")}

Rows = NDArray[np.float32]


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.search", description=__doc__.splitlines()[0]
    )
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--sizes", default="1000,10000,100000")
    arguments.add_argument(
        "--vectors", type=Path, help="unit rows as .npy, instead of the labelled questions"
    )
    options = arguments.parse_args()
    kind, rows = load_vectors(options.vectors)
    sizes = [int(size) for size in options.sizes.split(",")]
    results = [{"vectors": kind, **measure(rows, size)} for size in sizes]
    print(json.dumps(results, indent=1)) if options.json else show(kind, results)


def measure(rows: Rows, size: int) -> dict[str, Any]:
    queries, fresh, stored = split(rows, size)
    vectors = MemoryVectors(rows.shape[1])
    entries = Entries(vectors, size, worth=lambda entry, demand, now: 0.0, guaranteed=dict, over=over)
    made = [make_entry(number) for number in range(size)]
    before = resident_bytes()
    insert = timed(lambda number: entries.add(made[number], stored[number], 0.0), size)
    memory = (resident_bytes() - before) / size
    find = timed(lambda number: vectors.find(PARTITION, queries[number], COUNT), len(queries))
    full = timed(lambda number: entries.add(make_entry(size + number), fresh[number], 0.0), len(fresh))
    return {
        "entries": size,
        "find": find,
        "recall": recall(entries, vectors, queries, np.concatenate([stored, fresh])),
        "insert": insert,
        "insert_when_full": full,
        "bytes_per_entry": round(memory),
        "within_bar": find["cpu_p99_us"] <= BAR_US,
    }


def timed(step: Callable[[int], object], count: int) -> dict[str, float]:
    """Microseconds of wall-clock and CPU time per step."""
    wall, cpu = np.empty(count), np.empty(count)
    for number in range(count):
        started, worked = time.perf_counter(), time.thread_time()
        step(number)
        cpu[number] = time.thread_time() - worked
        wall[number] = time.perf_counter() - started
    return {
        "p50_us": round(float(np.median(wall)) * 1e6, 1),
        "p99_us": round(float(np.percentile(wall, 99)) * 1e6, 1),
        "worst_us": round(float(wall.max()) * 1e6, 1),
        "cpu_p99_us": round(float(np.percentile(cpu, 99)) * 1e6, 1),
        "cpu_worst_us": round(float(cpu.max()) * 1e6, 1),
    }


def recall(entries: Entries, vectors: MemoryVectors, queries: Rows, rows: Rows) -> dict[str, float]:
    """Share of queries for which the best that is found is the best there is: of all, and of those that
    have a neighbour near enough to be a hit. `rows` by entry id, those of evicted entries included."""
    kept = rows[sorted(int(entry.id) for entry in entries.select(lambda entry: True))]
    best = np.concatenate([(part @ kept.T).max(axis=1) for part in np.array_split(queries, 40)])
    found = np.array([vectors.find(PARTITION, query, COUNT)[0][0] for query in queries])
    right, alike = found >= best - 1e-5, best >= ALIKE
    return {"all": round(float(right.mean()), 4), "alike": round(float(right[alike].mean()), 4)}


def split(rows: Rows, size: int) -> tuple[Rows, Rows, Rows]:
    """Queries that are never stored, rows to store in a full index, and rows to fill it with."""
    chosen = rows[np.random.default_rng(0).permutation(len(rows))]
    queries, fresh, stored = np.split(chosen, [QUERIES, 2 * QUERIES])
    copies = [jitter(stored, 0.5, seed) for seed in range(1, -(-size // len(stored)))]
    return queries, fresh, np.concatenate([stored, *copies])[:size]


def jitter(rows: Rows, length: float, seed: int) -> Rows:
    """Unit rows beside the given ones: at 0.5, their cosine to them is 0.89."""
    noise = np.random.default_rng(seed).normal(size=rows.shape).astype(np.float32)
    moved = rows + noise * np.float32(length / rows.shape[1] ** 0.5)
    unit: Rows = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit


def make_entry(number: int) -> Entry:
    return Entry(
        id=str(number),
        exact=number.to_bytes(16, "big"),
        partition=PARTITION,
        fingerprint="benchmark",
        category="default",
        text="What is the capital of France, and since when?",
        created=0.0,
        dialect="openai",
        model="demo",
        tenant="shared",
    )


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def load_vectors(file: Path | None) -> tuple[str, Rows]:
    if file or CACHE.exists():
        return "labelled questions", np.load(file or CACHE)
    folder = Path(os.environ.get("NEARHIT_DATA", "../shared/data"))
    texts = sorted(
        {text for name, fields in FILES.items() for text in read(folder / f"{name}.jsonl.gz", fields)}
    )
    if not texts:
        return "noise around random centres", clusters(100_000, 384)
    rows = asyncio.run(embed(texts))
    CACHE.parent.mkdir(exist_ok=True)
    np.save(CACHE, rows)
    return "labelled questions", rows


def read(path: Path, fields: tuple[str, ...]) -> list[str]:
    if not path.exists():
        return []
    with gzip.open(path, "rt") as lines:
        return [row[field] for row in map(json.loads, lines) for field in fields]


async def embed(texts: list[str]) -> Rows:
    from embeddings.opening import open_embedder

    embedder = await asyncio.to_thread(open_embedder)
    try:
        return await embedder.embed_many(texts)
    finally:
        await embedder.close()


def clusters(count: int, dimensions: int) -> Rows:
    random = np.random.default_rng(0)
    centres = random.normal(size=(count // 20, dimensions))
    rows = centres[random.integers(0, len(centres), count)] + 0.5 * random.normal(size=(count, dimensions))
    unit: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def show(kind: str, results: list[dict[str, Any]]) -> None:
    print(f"Search in one partition, µs; {kind}")
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in (
        "entries",
        "find",
        "p99",
        "CPU p99",
        "recall",
        "near",
        "insert",
        "worst",
        "full",
        "B/entry",
        "bar",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in results:
        find, insert, found = row["find"], row["insert"], row["recall"]
        cells = [
            row["entries"],
            find["p50_us"],
            find["p99_us"],
            find["cpu_p99_us"],
            found["all"],
            found["alike"],
        ]
        cells += [insert["p50_us"], insert["cpu_worst_us"], row["insert_when_full"]["p50_us"]]
        cells += [row["bytes_per_entry"], "held" if row["within_bar"] else "missed"]
        table.add_row(
            *(f"{cell:.0f}" if isinstance(cell, float) and cell > 10 else str(cell) for cell in cells)
        )
    Console().print(table)
    print(f"near: recall where a neighbour has cosine {ALIKE} or more; worst: of the inserts, in CPU time;")
    print("full: an insert that evicts; bar: CPU p99 within 2,000")


if __name__ == "__main__":
    main()
