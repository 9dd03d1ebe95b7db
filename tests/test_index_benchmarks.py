"""The benchmarks of the index run, at a small size."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks import million, remote
from storage.vectors import partitions, segments


@pytest.mark.parametrize("count", [1, 40])
async def test_the_index_under_load(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(segments, "SEALED_AT", 400)
    monkeypatch.setattr(partitions, "TEND_EVERY_S", 0.01)
    monkeypatch.setattr(million, "SETTLED_S", 0.3)
    monkeypatch.setattr(million, "BASELINE_S", 0.1)
    monkeypatch.setattr(million, "QUERIES", 200)
    queries, stored = million.clustered(3_000, 64)
    figures = await million.Bench(queries, stored, count).run()
    assert figures["recall@1"] >= 0.95
    assert figures["then"]["recall@1"] >= 0.95
    assert figures["index bytes per entry"] > 4 * 64
    million.show(figures)


@pytest.mark.skipif(importlib.util.find_spec("pgserver") is None, reason="no PostgreSQL here")
async def test_a_search_in_postgresql_finds_what_the_local_one_finds() -> None:
    queries, stored = million.clustered(400, 32)
    figures = await remote.compare(queries[:60], queries[60:80], stored, 4)
    assert figures["local"]["recall"] == 1.0
    assert figures["one at a time"]["recall"] >= 0.9
    remote.show({"vectors": "test", "entries": 400, "partitions": 4, **figures})
