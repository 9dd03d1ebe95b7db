"""The simulator says of real questions what the proxy does with them on real sockets."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.agreement import compared
from proxy.simulation.trace import read_trace

REQUESTS = 350
REPEATED = 12
"""Only questions whose group comes so often: a few hundred of all hold hardly any hits."""


async def test_simulated_and_real_counts_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.environ.get("NEARHIT_DATA") or Path(__file__).parents[3] / "shared/data"
    source = Path(folder) / "stream_dev.jsonl.gz"
    if not source.is_file():
        pytest.skip(f"no labelled questions: {source} is not there; set NEARHIT_DATA")
    trace = await asyncio.to_thread(read_trace, source)
    often = Counter(request.group for request in trace)
    monkeypatch.chdir(tmp_path)
    rows = await compared([request for request in trace if often[request.group] >= REPEATED][:REQUESTS])
    assert rows["simulated"] == rows["on sockets"]
    row = rows["simulated"]
    assert min(row.exact, row.semantic, row.upstream_calls) > 20
