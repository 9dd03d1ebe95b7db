"""`log.trace`: calls as `nearhit simulate` reads them, for those who asked for it and nobody else."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from doubles import Clock, WordEmbedder
from world import MakeWorld, World, open_world

from proxy.demo.upstream import Behaviour
from proxy.settings import Settings
from proxy.simulation.trace import read_trace
from proxy.telemetry import recording
from proxy.telemetry.recording import Recorder

QUESTION = "how do I bake a plain white bread"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


async def recorded(file: Path, ask: Any, categories: Path) -> list[dict[str, Any]]:
    """The rows that are in the file once the proxy is gone."""
    settings = Settings.model_validate(
        {"documents": {"url": "memory"}, "categories": categories, "log": {"trace": file}}
    )
    async with AsyncExitStack() as stack:
        world = open_world(settings, Behaviour(), WordEmbedder(), Clock())
        await ask(await stack.enter_async_context(world))
    text = await asyncio.to_thread(_read, file)
    return [json.loads(line) for line in text.splitlines()]


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def test_a_miss_and_a_hit_are_rows_that_the_simulator_reads(file: Path, categories: Path) -> None:
    async def ask(world: World) -> None:
        for now in (10.0, 20.0):
            world.clock.now = now
            await world.ask(QUESTION)
            await world.settled()

    miss, hit = await recorded(file, ask, categories)
    assert (miss["t"], hit["t"]) == (10.0, 20.0)
    assert miss["query"] == hit["query"] == QUESTION
    assert miss["tokens_out"] == hit["tokens_out"] > 0
    assert {name: miss[name] for name in ("tenant", "context")} == {
        name: hit[name] for name in ("tenant", "context")
    }
    mode = (await asyncio.to_thread(file.stat)).st_mode
    assert stat.S_IMODE(mode) == 0o600
    trace = await asyncio.to_thread(read_trace, file)
    assert [request.model for request in trace] == ["demo-chat"] * 2


async def test_whatever_differs_beside_the_question_differs_in_the_context(
    file: Path, categories: Path
) -> None:
    async def ask(world: World) -> None:
        await world.ask(QUESTION)
        await world.ask(QUESTION, temperature=0.5)
        await world.ask(QUESTION, key="another")

    plain, warm, others = await recorded(file, ask, categories)
    assert plain["context"] != warm["context"]
    assert plain["context"] == others["context"]
    assert plain["tenant"] != others["tenant"]
    assert "another" not in json.dumps(others)


async def test_what_nobody_may_store_is_not_recorded(file: Path, categories: Path) -> None:
    async def ask(world: World) -> None:
        await world.ask(QUESTION, headers={"Cache-Control": "no-store"})

    assert await recorded(file, ask, categories) == []


async def test_nothing_is_recorded_unless_asked_for(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await make_world()
    await world.ask(QUESTION)
    assert world.app.recorder is None


async def test_a_file_that_cannot_be_written_costs_rows_and_no_call(
    tmp_path: Path, categories: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = []

    async def ask(world: World) -> None:
        answers.append(await world.ask(QUESTION))

    assert await recorded(tmp_path / "no" / "folder.jsonl", ask, categories) == []
    assert answers[0].status == 200
    assert "1 calls were not written" in caplog.text
    assert QUESTION not in caplog.text


async def test_rows_that_wait_are_bounded(file: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "WAITING", 2)
    recorder = Recorder(file, lambda id: None)
    world.app.data_plane._record = recorder.note
    for number in range(5):
        await world.ask(f"number {number}")
    assert recorder.dropped == 3
