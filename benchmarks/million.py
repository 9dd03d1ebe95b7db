"""A million entries in one partition, and the same number in many: search, inserts, delays, memory.

    python -m benchmarks.million [--entries 1000000] [--partitions 1] [--clusters] [--json]

Entries, index and its upkeep are the proxy's own, on an event loop. Vectors are those of the labelled
questions; beyond their number, each is repeated with noise at a cosine of 0.89, as its paraphrases may lie
(`--clusters`: noise around random centres instead). Half of the queries are real questions that are not
stored, half are moved copies of stored ones.

A prober searches every few milliseconds all the while and notes how late the loop lets it run. What other
processes take shows in wall-clock time; the lateness before any upkeep is given for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import perf_counter, thread_time
from typing import Any

import numpy as np

from benchmarks.search import COUNT, QUERIES, Rows, jitter, load_vectors, resident_bytes
from policies.eviction import over
from storage.base import Entry
from storage.index.entries import Entries
from storage.vectors.memory import MemoryVectors

PROBE_EVERY_S = 0.003
BASELINE_S = 5.0
BREATH = 8
"""Entries added between two turns of the loop, as when an index is loaded."""
SETTLED_S = 4.0
"""Without anything due: all graphs are built."""
LONGEST_S = 3_600.0
PURGED = 0.3
CHUNK = 50_000

Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the index at a million entries.")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--clusters", action="store_true", help="noise around random centres")
    parser.add_argument("--vectors", type=Path, help="unit rows as .npy, instead of the labelled questions")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    queries, stored = clustered(given.entries) if given.clusters else real(given.entries, given.vectors)
    figures = asyncio.run(Bench(queries, stored, given.partitions).run())
    print(json.dumps(figures, indent=1)) if given.json else show(figures)


def real(size: int, file: Path | None) -> tuple[Rows, Rows]:
    _, rows = load_vectors(file)
    rows = rows[np.random.default_rng(0).permutation(len(rows))].astype(np.float32)
    asked, base = rows[: QUERIES // 2], rows[QUERIES // 2 :]
    stored = np.empty((size, rows.shape[1]), np.float32)
    for seed, start in enumerate(range(0, size, len(base))):
        part = base[: size - start]
        stored[start : start + len(part)] = jitter(part, 0.5, seed) if seed else part
    return np.concatenate([asked, jitter(base[: QUERIES - len(asked)], 0.5, 10_000)]), stored


def clustered(size: int, dimensions: int = 384) -> tuple[Rows, Rows]:
    """Twenty to a centre, at a cosine of 0.8 to each other."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(max(1, size // 20), dimensions)).astype(np.float32)
    rows = np.empty((size + QUERIES, dimensions), np.float32)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        noise = random.normal(size=part.shape).astype(np.float32)
        part[:] = centres[random.integers(0, len(centres), len(part))] + 0.5 * noise
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows[:QUERIES], rows[QUERIES:]


class Bench:
    def __init__(self, queries: Rows, stored: Rows, partitions: int) -> None:
        self._queries, self._stored, self._partitions = queries, stored, partitions
        self._names = [number.to_bytes(16, "big") for number in range(partitions)]
        self._late: list[float] = []
        self._vectors = MemoryVectors(stored.shape[1])
        self._entries = Entries(
            self._vectors, len(stored), worth=lambda *_: 0.0, guaranteed=dict, over=over, random=Random(0)
        )

    async def run(self) -> Figures:
        loop = asyncio.get_running_loop()
        probing = loop.create_task(self._probe(), name="probe")
        await asyncio.sleep(BASELINE_S)
        figures: Figures = {"entries": len(self._stored), "partitions": self._partitions}
        figures["before, loop late, ms"] = self._lateness()
        tending = loop.create_task(self._vectors.tend(), name="tend")
        figures |= await self._fill()
        figures |= await self._search()
        await asyncio.sleep(10 * PROBE_EVERY_S)  # what the exact search made late is noted, and thrown away
        self._lateness()
        figures["insert when full, ms"] = await self._timed(self._insert_more, QUERIES)
        figures["while full, loop late, ms"] = self._lateness()
        figures |= await self._thin_out()
        for task in (probing, tending):
            task.cancel()
        await asyncio.wait([probing, tending])
        return figures

    async def _probe(self) -> None:
        number = 0
        while True:
            started = perf_counter()
            await asyncio.sleep(PROBE_EVERY_S)
            self._late.append(1000 * (perf_counter() - started - PROBE_EVERY_S))
            number = (number + 1) % len(self._queries)
            self._find(number)

    def _find(self, number: int) -> list[tuple[float, Entry]]:
        return self._vectors.find(self._names[number % self._partitions], self._queries[number], COUNT)

    def _lateness(self) -> Figures:
        late, self._late = np.array(self._late), []
        return {
            "p99": float(np.percentile(late, 99)),
            "p99.9": float(np.percentile(late, 99.9)),
            "worst": float(late.max()),
        }

    def _entry(self, number: int) -> Entry:
        """With strings of its own, as an entry has that was read from a store."""
        return Entry(
            id=f"{number:024d}",
            exact=number.to_bytes(16, "big"),
            partition=(number % self._partitions).to_bytes(16, "big"),
            fingerprint="".join(("bench", "mark")),
            category="".join(("def", "ault")),
            text=f"What is the capital of country number {number}, and since when?",
            created=float(number),
            dialect="".join(("open", "ai")),
            model="".join(("de", "mo")),
            tenant="".join(("sha", "red")),
        )

    async def _fill(self) -> Figures:
        """Memory is what the process grew by: vectors are copied, so it holds the index's and all else."""
        gc.collect()
        gc.freeze()
        before, started = resident_bytes(), perf_counter()

        def add(number: int) -> None:
            self._entries.add(self._entry(number), self._stored[number], 0.0)

        figures: Figures = {"insert, ms": await self._timed(add, len(self._stored))}
        figures["inserted, s"] = perf_counter() - started
        figures["while inserting, loop late, ms"] = self._lateness()
        await self._settled()
        figures["all graphs built, s"] = perf_counter() - started
        figures["while building, loop late, ms"] = self._lateness()
        gc.collect()
        resident = (resident_bytes() - before) / len(self._stored)
        figures["resident bytes per entry"] = resident
        figures["of these beside the vector"] = resident - 4 * self._stored.shape[1]
        figures["index bytes per entry"] = self._vectors.index.nbytes / len(self._stored)
        return figures

    async def _timed(self, step: Callable[[int], object], count: int) -> Figures:
        """Of each step: milliseconds of wall-clock and of CPU time."""
        wall, cpu = np.empty(count), np.empty(count)
        for number in range(count):
            started, worked = perf_counter(), thread_time()
            step(number)
            cpu[number], wall[number] = thread_time() - worked, perf_counter() - started
            if number % BREATH == 0:
                await asyncio.sleep(0)
            if number % 10_000 == 0:
                gc.freeze()
        return {
            "p50": 1000 * float(np.median(wall)),
            "p99": 1000 * float(np.percentile(wall, 99)),
            "worst": 1000 * float(wall.max()),
            "p99 of CPU": 1000 * float(np.percentile(cpu, 99)),
            "worst of CPU": 1000 * float(cpu.max()),
        }

    async def _settled(self) -> None:
        indexes = self._vectors.index.large()
        async with asyncio.timeout(LONGEST_S):
            quiet = perf_counter()
            while perf_counter() - quiet < SETTLED_S:
                await asyncio.sleep(0.2)
                if any(index.busy or index.due() for index in indexes):
                    quiet = perf_counter()

    async def _search(self) -> Figures:
        figures = {"search, ms": await self._timed(self._find, len(self._queries))}
        return {**figures, **self._recall()}

    def _recall(self) -> Figures:
        """Of queries of which half are unlike all that is stored, and of those with a neighbour that could be
        a hit (cosine 0.8)."""
        best, found = np.empty(len(self._queries)), np.empty(len(self._queries))
        live = np.array(sorted(int(entry.id) for entry in self._entries.select(lambda entry: True)))
        for number in range(len(best)):
            near = self._find(number)
            found[number] = near[0][0] if near else -1.0
        for part in range(self._partitions) if self._partitions <= 10 else range(200):
            rows = live[live % self._partitions == part]
            asked = np.arange(part, len(self._queries), self._partitions)
            best[asked] = -1.0
            for start in range(0, len(rows), CHUNK):
                scores = (
                    self._queries[asked] @ self._stored[rows[start : start + CHUNK] % len(self._stored)].T
                )
                best[asked] = np.maximum(best[asked], scores.max(axis=1))
        known = np.arange(len(best)) % self._partitions < (200 if self._partitions > 10 else 10)
        right, alike = found >= best - 1e-4, best >= 0.8
        return {"recall@1": float(right[known].mean()), "of the alike": float(right[known & alike].mean())}

    def _insert_more(self, number: int) -> None:
        number += len(self._stored)
        self._entries.add(self._entry(number), self._stored[number % len(self._stored)], 0.0)

    async def _thin_out(self) -> Figures:
        """Removes a part at random; what is left is found, and graphs are built anew."""
        chance = Random(1)
        for number, id in enumerate(self._entries.ids()):
            if chance.random() < PURGED:
                self._entries.remove(id)
            if number % 64 == 0:
                await asyncio.sleep(0)
        await self._settled()
        late = self._lateness()
        return {
            "search when thinned out, ms": await self._timed(self._find, len(self._queries)),
            "meanwhile, loop late, ms": late,
            "then": self._recall(),
        }


def show(figures: Figures) -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"{name:34}" + "  ".join(f"{key} {number:.3f}" for key, number in value.items()))
        else:
            print(f"{name:34}{value:,.3f}" if isinstance(value, float) else f"{name:34}{value:,}")


if __name__ == "__main__":
    main()
