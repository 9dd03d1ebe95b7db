"""The real `anthropic` package as the client: only its base URL is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import pytest
from four_ways import ASKED, REWORDED, cache_of, replayed
from world import World

TOOL: dict[str, Any] = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    },
}
FORCED: dict[str, Any] = {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather"}}
THINKING: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}


@pytest.fixture
async def sdk(world: World) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=world.url, api_key="one", max_retries=0) as client:
        yield client


def asking(text: str, **options: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": text}]
    return {"model": "demo-chat", "max_tokens": 500, "messages": turns, **options}


async def create(sdk: anthropic.AsyncAnthropic, text: str = ASKED, **options: Any) -> tuple[str, Any]:
    raw = await sdk.messages.with_raw_response.create(**asking(text, **options))
    return cache_of(raw.headers), await parsed(raw)


async def parsed(raw: Any) -> Any:
    made = raw.parse()
    return await made if asyncio.iscoroutine(made) else made


async def stream(sdk: anthropic.AsyncAnthropic, text: str = ASKED, **options: Any) -> tuple[str, Any]:
    """What the package itself makes of the events."""
    async with sdk.messages.stream(**asking(text, **options)) as running:
        whole = await running.get_final_message()
        return cache_of(running.response.headers), whole


def plain(message: Any) -> Any:
    """Without what the package puts into its snapshots."""
    made = message.model_dump(exclude_none=True)
    for block in made["content"]:
        block.pop("parsed_output", None)
        if block.get("citations") == []:
            del block["citations"]
    return made


@pytest.mark.parametrize("options", [{}, FORCED, THINKING], ids=["text", "tool", "thinking"])
@pytest.mark.parametrize("first", [create, stream])
@pytest.mark.parametrize("second", [create, stream])
async def test_all_four_ways(
    sdk: anthropic.AsyncAnthropic, world: World, first: Any, second: Any, options: dict[str, Any]
) -> None:
    fresh = await replayed(world, sdk, first, second, plain, **options)
    assert fresh.usage.input_tokens == 6
    assert fresh.usage.output_tokens > 1


async def test_tools_and_thinking_are_what_was_asked_for(sdk: anthropic.AsyncAnthropic) -> None:
    _, called = await stream(sdk, **FORCED)
    assert called.content[0].input == {"city": ASKED, "days": 1}
    assert called.stop_reason == "tool_use"
    _, thought = await stream(sdk, **THINKING)
    assert [block.type for block in thought.content] == ["thinking", "text"]
    assert thought.content[0].signature


async def test_raw_events_of_a_replay(sdk: anthropic.AsyncAnthropic, world: World) -> None:
    await create(sdk)
    await world.settled()
    events = [event async for event in await sdk.messages.create(**asking(ASKED, stream=True))]
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


async def test_a_truncated_answer_is_not_stored(sdk: anthropic.AsyncAnthropic, world: World) -> None:
    _, first = await create(sdk, max_tokens=2)
    assert first.stop_reason == "max_tokens"
    await world.settled()
    assert (await create(sdk, max_tokens=2))[0] == "MISS"


async def test_errors_keep_their_type(sdk: anthropic.AsyncAnthropic, world: World) -> None:
    with pytest.raises(anthropic.NotFoundError, match="unknown-model"):
        await create(sdk, model="unknown-model")
    for status, kind in (
        (400, anthropic.BadRequestError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
    ):
        with pytest.raises(kind):
            await create(sdk, extra_headers={"X-Demo-Status": str(status)})
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_a_stream_that_breaks_is_not_stored(sdk: anthropic.AsyncAnthropic, world: World) -> None:
    with pytest.raises((anthropic.APIError, httpx2.TransportError)):
        await stream(sdk, extra_headers={"X-Demo-Break": "after-4-chunks"})
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_the_sync_client_too(world: World) -> None:
    def asked(text: str) -> tuple[list[str], list[str]]:
        with anthropic.Anthropic(base_url=world.url, api_key="one") as client:
            raw = client.messages.with_raw_response.create(**asking(text))
            with client.messages.stream(**asking(text)) as running:
                said = running.get_final_text()
                headers = [raw.headers, running.response.headers]
            return [cache_of(each) for each in headers], [raw.parse().content[0].text, said]

    await asyncio.to_thread(asked, ASKED)
    await world.settled()
    assert (await asyncio.to_thread(asked, ASKED))[0] == ["HIT exact", "HIT exact"]
    caches, (one, two) = await asyncio.to_thread(asked, REWORDED)
    assert caches == ["HIT semantic", "HIT semantic"]
    assert one == two


async def test_other_endpoints_pass_through(sdk: anthropic.AsyncAnthropic) -> None:
    counted = await sdk.messages.count_tokens(**{k: v for k, v in asking("a b").items() if k != "max_tokens"})
    assert counted.input_tokens == 2
