"""The real `openai` package against the other endpoints that it knows: completions and responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from four_ways import ASKED, REWORDED, cache_of, replayed
from world import World

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
FORCED: dict[str, Any] = {
    "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}],
    "tool_choice": "required",
}
SHAPED: dict[str, Any] = {"text": {"format": {"type": "json_schema", "name": "reply", "schema": SCHEMA}}}


@pytest.fixture
async def sdk(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one", max_retries=0) as client:
        yield client


async def responded(sdk: openai.AsyncOpenAI, asked: str = ASKED, **options: Any) -> tuple[str, Any]:
    raw = await sdk.responses.with_raw_response.create(model="demo-chat", input=asked, **options)
    return cache_of(raw.headers), raw.parse()


async def streamed(sdk: openai.AsyncOpenAI, asked: str = ASKED, **options: Any) -> tuple[str, Any]:
    """What the package itself makes of the events."""
    raw = await sdk.responses.with_raw_response.create(model="demo-chat", input=asked, stream=True, **options)
    events = [event async for event in raw.parse()]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text
    return cache_of(raw.headers), events[-1].response


@pytest.mark.parametrize("options", [{}, FORCED, SHAPED], ids=["text", "tool", "schema"])
@pytest.mark.parametrize("first", [responded, streamed])
@pytest.mark.parametrize("second", [responded, streamed])
async def test_responses_in_all_four_ways(
    sdk: openai.AsyncOpenAI, world: World, first: Any, second: Any, options: dict[str, Any]
) -> None:
    fresh = await replayed(world, sdk, first, second, lambda answer: answer.model_dump(), **options)
    assert fresh.usage.total_tokens > fresh.usage.input_tokens == 6


async def test_the_package_accumulates_a_replay(sdk: openai.AsyncOpenAI, world: World) -> None:
    for options in ({}, FORCED):
        _, fresh = await responded(sdk, **options)
        await world.settled()
        async with sdk.responses.stream(model="demo-chat", input=ASKED, **options) as running:
            whole = await running.get_final_response()
        assert [item.type for item in whole.output] == [item.type for item in fresh.output]
        assert (whole.id, whole.output_text) == (fresh.id, fresh.output_text)
        if options:
            assert whole.output[0].arguments == fresh.output[0].arguments


async def test_the_next_turn_goes_on_from_a_replayed_answer(sdk: openai.AsyncOpenAI, world: World) -> None:
    _, fresh = await responded(sdk)
    await world.settled()
    _, again = await responded(sdk)
    assert again.id == fresh.id
    _, after = await responded(sdk, "and tomorrow", previous_response_id=again.id)
    await world.settled()
    assert after.previous_response_id == fresh.id
    assert (await responded(sdk, "and tomorrow", previous_response_id=again.id))[0] == "HIT exact"
    assert (await responded(sdk, "and tomorrow"))[0] == "MISS"


async def test_a_cut_response_is_not_stored(sdk: openai.AsyncOpenAI, world: World) -> None:
    for ask in (responded, streamed):
        assert (await ask(sdk, max_output_tokens=2))[1].status == "incomplete"
        await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_errors_keep_their_type(sdk: openai.AsyncOpenAI, world: World) -> None:
    for ask in (responded, completed):
        with pytest.raises(openai.NotFoundError, match="unknown-model"):
            await sdk.responses.create(model="unknown-model", input="x")
        with pytest.raises(openai.RateLimitError):
            await ask(sdk, extra_headers={"X-Demo-Status": "429"})
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def completed(sdk: openai.AsyncOpenAI, asked: str = ASKED, **options: Any) -> tuple[str, Any]:
    raw = await sdk.completions.with_raw_response.create(model="demo-chat", prompt=asked, **options)
    made = raw.parse()
    return cache_of(raw.headers), ([choice.text for choice in made.choices], made.usage)


async def completed_in_pieces(sdk: openai.AsyncOpenAI, asked: str = ASKED, **options: Any) -> tuple[str, Any]:
    raw = await sdk.completions.with_raw_response.create(
        model="demo-chat", prompt=asked, stream=True, stream_options={"include_usage": True}, **options
    )
    chunks = [chunk async for chunk in raw.parse()]
    texts = [""] * options.get("n", 1)
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    return cache_of(raw.headers), (texts, chunks[-1].usage)


@pytest.mark.parametrize("options", [{}, {"n": 2}], ids=["one", "two"])
@pytest.mark.parametrize("first", [completed, completed_in_pieces])
@pytest.mark.parametrize("second", [completed, completed_in_pieces])
async def test_completions_in_all_four_ways(
    sdk: openai.AsyncOpenAI, world: World, first: Any, second: Any, options: dict[str, Any]
) -> None:
    fresh = await replayed(world, sdk, first, second, lambda answer: answer, **options)
    assert all(fresh[0])
    assert fresh[1].total_tokens > 6


async def test_usage_is_in_a_stream_of_text_for_who_asks_for_it(
    sdk: openai.AsyncOpenAI, world: World
) -> None:
    for _ in range(2):
        running = await sdk.completions.create(model="demo-chat", prompt=ASKED, stream=True)
        assert all([chunk.usage is None and chunk.choices async for chunk in running])
        await world.settled()


async def test_the_sync_client_too(world: World) -> None:
    def asked(text: str) -> list[str]:
        with openai.OpenAI(base_url=world.url + "/v1", api_key="one") as client:
            raw: list[Any] = [
                client.responses.with_raw_response.create(model="demo-chat", input=text),
                client.completions.with_raw_response.create(model="demo-chat", prompt=text),
            ]
            assert client.responses.create(model="demo-chat", input=text, stream=True).response.is_success
            return [cache_of(each.headers) for each in raw]

    assert await asyncio.to_thread(asked, ASKED) == ["MISS", "MISS"]
    await world.settled()
    assert await asyncio.to_thread(asked, ASKED) == ["HIT exact", "HIT exact"]
    assert await asyncio.to_thread(asked, REWORDED) == ["HIT semantic", "HIT semantic"]
