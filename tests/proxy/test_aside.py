"""What would hold up the loop is done on a thread, or with pauses."""

from __future__ import annotations

import asyncio
import json
from time import perf_counter
from typing import Any

import pytest
from world import MakeWorld, World

from proxy import aside as module
from proxy.aside import LARGE, aside, loaded
from proxy.dialects import openai_embeddings
from storage.breath import Breath


@pytest.fixture
def aside_was(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """Everything is large; what was done on a thread."""
    done = set[Any]()

    async def to_thread(work: Any, *given: Any, **more: Any) -> Any:
        done.add(work)
        return await asyncio.to_thread(work, *given, **more)

    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "to_thread", to_thread)
    return done


async def longest_pause(done: asyncio.Event) -> float:
    """Seconds for which nobody else ran."""
    longest, now = 0.0, perf_counter()
    while not done.is_set():
        await asyncio.sleep(0)
        longest, now = max(longest, perf_counter() - now), perf_counter()
    return longest


async def test_others_run_while_much_is_read() -> None:
    much = [{"token": "word", "bytes": [1, 2, 3]}] * 100_000
    body, done = json.dumps(much).encode(), asyncio.Event()
    pause = asyncio.create_task(longest_pause(done))
    await asyncio.sleep(0)
    began = perf_counter()
    assert await loaded(body) == much
    took = perf_counter() - began
    done.set()
    assert await pause < took / 2


async def test_what_is_small_is_done_at_once(aside_was: set[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", LARGE)
    assert await loaded(b'{"a": 1}') == await aside(LARGE, json.loads, b'{"a": 1}') == {"a": 1}
    assert not aside_was
    await aside(LARGE + 1, json.loads, b"{}")
    assert aside_was == {json.loads}


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
async def test_what_cannot_be_read(body: bytes, aside_was: set[Any]) -> None:
    with pytest.raises((ValueError, RecursionError)):
        await loaded(body)


async def test_large_questions_and_answers_hold_up_nobody(world: World, aside_was: set[Any]) -> None:
    first = await world.ask()
    await world.settled()
    stream = await world.ask(stream=True)
    assert stream.cache == "HIT exact"
    again = await world.ask()
    assert again.body == first.body
    assert {getattr(work, "__name__", "") for work in aside_was} == {"read_call", "loads", "list"}


async def test_batches_of_embeddings_hold_up_nobody(
    make_world: MakeWorld, aside_was: set[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, breaths = await make_world(), list[Breath]()
    monkeypatch.setattr(Breath, "take", lambda breath: breathed(breaths, breath))
    body = {"model": "m", "input": ["a", "b", "c"]}
    first = await world.send("/v1/embeddings", body)
    await world.settled()
    assert len(breaths) == 3
    assert openai_embeddings.parts in aside_was
    again = await world.send("/v1/embeddings", body)
    assert len(breaths) == 6
    assert again.headers["X-Cache-Items"] == "3/3"
    assert again.json["data"] == first.json["data"]


async def breathed(breaths: list[Breath], breath: Breath) -> None:
    breaths.append(breath)
