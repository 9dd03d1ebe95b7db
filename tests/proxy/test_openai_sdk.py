"""The real `openai` package as the client: only its base URL is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from four_ways import ASKED, REWORDED, cache_of
from world import World

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def sdk(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one", max_retries=0) as client:
        yield client


def chat(text: str, **options: Any) -> dict[str, Any]:
    return {"model": "demo-chat", "messages": [{"role": "user", "content": text}], **options}


async def complete(sdk: openai.AsyncOpenAI, text: str = ASKED, **options: Any) -> tuple[str, Any]:
    raw = await sdk.chat.completions.with_raw_response.create(**chat(text, **options))
    return cache_of(raw.headers), raw.parse()


async def stream(sdk: openai.AsyncOpenAI, text: str = ASKED, **options: Any) -> tuple[str, list[Any]]:
    raw = await sdk.chat.completions.with_raw_response.create(**chat(text, stream=True, **options))
    chunks = [chunk async for chunk in raw.parse()]
    return cache_of(raw.headers), chunks


def text_of(chunks: list[Any], index: int = 0) -> str:
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(delta.content or "" for delta in deltas)


async def test_json_then_json(sdk: openai.AsyncOpenAI, world: World) -> None:
    _, first = await complete(sdk)
    await world.settled()
    cache, second = await complete(sdk, REWORDED)
    assert cache == "HIT semantic"
    assert second == first
    assert second.usage.total_tokens > 0


async def test_stream_then_stream(sdk: openai.AsyncOpenAI, world: World) -> None:
    _, first = await stream(sdk)
    await world.settled()
    cache, second = await stream(sdk, REWORDED)
    assert cache == "HIT semantic"
    assert text_of(second) == text_of(first) != ""
    assert {chunk.id for chunk in second} == {chunk.id for chunk in first}
    assert [c.choices[0].finish_reason for c in second if c.choices][-1] == "stop"
    assert all(chunk.usage is None for chunk in [*first, *second])


async def test_stream_then_json(sdk: openai.AsyncOpenAI, world: World) -> None:
    _, first = await stream(sdk)
    await world.settled()
    cache, second = await complete(sdk)
    assert cache == "HIT exact"
    assert second.object == "chat.completion"
    assert second.choices[0].message.content == text_of(first)
    assert second.choices[0].finish_reason == "stop"
    assert second.usage.total_tokens == second.usage.prompt_tokens + second.usage.completion_tokens > 0


async def test_json_then_stream(sdk: openai.AsyncOpenAI, world: World) -> None:
    _, first = await complete(sdk)
    await world.settled()
    cache, second = await stream(sdk, stream_options={"include_usage": True})
    assert cache == "HIT exact"
    assert text_of(second) == first.choices[0].message.content
    assert second[-1].usage == first.usage
    assert second[-1].choices == []


async def test_usage_is_in_the_stream_for_who_asks_for_it(sdk: openai.AsyncOpenAI, world: World) -> None:
    _, first = await stream(sdk, stream_options={"include_usage": True})
    await world.settled()
    _, second = await stream(sdk, stream_options={"include_usage": True})
    assert second[-1].usage == first[-1].usage is not None
    _, third = await stream(sdk)
    assert all(chunk.usage is None for chunk in third)


async def test_tool_calls_in_all_four_ways(sdk: openai.AsyncOpenAI, world: World) -> None:
    forced: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required"}
    _, first = await complete(sdk, **forced)
    await world.settled()
    cache, chunks = await stream(sdk, **forced)
    assert cache == "HIT exact"
    (call,) = first.choices[0].message.tool_calls
    pieces = [each for chunk in chunks for choice in chunk.choices for each in choice.delta.tool_calls or ()]
    assert pieces[0].id == call.id
    assert "".join(piece.function.arguments or "" for piece in pieces) == call.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"

    _, chunks = await stream(sdk, "what is it like outside in rome", **forced)
    await world.settled()
    cache, second = await complete(sdk, "what is it like outside in rome", **forced)
    assert cache == "HIT exact"
    pieces = [each for chunk in chunks for choice in chunk.choices for each in choice.delta.tool_calls or ()]
    (call,) = second.choices[0].message.tool_calls
    assert "".join(piece.function.arguments or "" for piece in pieces) == call.function.arguments


async def test_several_choices(sdk: openai.AsyncOpenAI, world: World) -> None:
    _, first = await complete(sdk, n=3)
    await world.settled()
    cache, chunks = await stream(sdk, n=3)
    assert cache == "HIT exact"
    assert [text_of(chunks, i) for i in range(3)] == [choice.message.content for choice in first.choices]
    _, chunks = await stream(sdk, "say it in three ways for me", n=3)
    await world.settled()
    cache, second = await complete(sdk, "say it in three ways for me", n=3)
    assert cache == "HIT exact"
    assert [choice.message.content for choice in second.choices] == [text_of(chunks, i) for i in range(3)]


async def test_a_truncated_answer_is_not_stored(sdk: openai.AsyncOpenAI, world: World) -> None:
    _, first = await complete(sdk, max_tokens=2)
    assert first.choices[0].finish_reason == "length"
    await world.settled()
    assert (await complete(sdk, max_tokens=2))[0] == "MISS"


async def test_errors_keep_their_type(sdk: openai.AsyncOpenAI, world: World) -> None:
    with pytest.raises(openai.NotFoundError, match="unknown-model"):
        await complete(sdk, model="unknown-model")
    for status, kind in (
        (400, openai.BadRequestError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ):
        with pytest.raises(kind):
            await complete(sdk, extra_headers={"X-Demo-Status": str(status)})
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_a_stream_that_breaks_is_an_error_and_is_not_stored(
    sdk: openai.AsyncOpenAI, world: World
) -> None:
    with pytest.raises((openai.APIError, httpx.TransportError)):
        await stream(sdk, extra_headers={"X-Demo-Break": "after-3-chunks"})
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_the_first_byte_is_not_held_back(world: World) -> None:
    """The first chunk arrives long before the last is made."""
    headers = {"X-Demo-Hang": "after-2-chunks"}
    async with openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one") as client:
        running = await client.chat.completions.create(**chat(ASKED, stream=True), extra_headers=headers)
        async with asyncio.timeout(5):
            assert (await anext(aiter(running))).choices[0].delta.role == "assistant"
        await running.close()


async def test_the_sync_client_too(world: World) -> None:
    def twice() -> list[str]:
        with openai.OpenAI(base_url=world.url + "/v1", api_key="one") as client:
            raw = [client.chat.completions.with_raw_response.create(**chat(ASKED)) for _ in range(2)]
            return [each.headers["x-cache"] for each in raw]

    first, second = await asyncio.to_thread(twice)
    assert (first, second) in {("MISS", "HIT"), ("MISS", "MISS")}
    await world.settled()
    assert (await asyncio.to_thread(twice)) == ["HIT", "HIT"]


async def test_other_endpoints_pass_through(sdk: openai.AsyncOpenAI) -> None:
    assert "demo-chat" in [model.id async for model in sdk.models.list()]
    made = await sdk.embeddings.create(model="demo-embedding", input=["a", "b"])
    assert len(made.data) == 2
    assert (await sdk.responses.create(model="demo-chat", input="hello")).output_text


async def test_a_broken_stream_leaves_no_traceback(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one", max_retries=0) as client:
        with pytest.raises((openai.APIError, httpx.TransportError)):
            await stream(client, extra_headers={"X-Demo-Break": "after-3-chunks"})
    await world.settled()
    assert not [record for record in caplog.records if record.exc_info]
    assert world.app.ledger.recent[-1].error == "upstream_unreachable"


# Azure's older paths


@pytest.fixture
async def azure(world: World) -> AsyncIterator[openai.AsyncAzureOpenAI]:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=world.url, api_key="one", api_version="2024-10-21", max_retries=0
    ) as client:
        yield client


async def test_a_deployment_is_a_model(azure: openai.AsyncAzureOpenAI, world: World) -> None:
    cache, whole = await complete(azure)
    assert (cache, whole.model) == ("MISS", "demo-chat")
    await world.settled()
    assert (await complete(azure, REWORDED))[0] == "HIT semantic"
    cache, chunks = await stream(azure, REWORDED)
    assert (cache, text_of(chunks)) == ("HIT semantic", whole.choices[0].message.content)
    completed = [
        await azure.completions.with_raw_response.create(model="demo-chat", prompt=ASKED) for _ in "ab"
    ]
    assert [each.headers["x-cache"] for each in completed] == ["MISS", "HIT"]
    assert world.app.ledger.recent[-1].model == "demo-chat"
    with pytest.raises(openai.NotFoundError):
        await complete(azure, model="unknown-model")


async def test_a_deployment_counts_whatever_the_body_says(world: World) -> None:
    body = {"messages": [{"role": "user", "content": ASKED}]}

    async def sent(deployment: str, version: str = "2024-10-21", **more: str) -> tuple[str, str]:
        path = f"/openai/deployments/{deployment}/chat/completions?api-version={version}"
        answer = await world.post(path, json={**body, **more}, headers={"api-key": "one"})
        await world.settled()
        return answer.cache, answer.json["model"]

    assert await sent("demo-chat") == ("MISS", "demo-chat")
    assert await sent("demo-chat-large") == ("MISS", "demo-chat-large")
    assert await sent("demo-chat", version="2025-01-01") == ("MISS", "demo-chat")
    assert await sent("demo-chat", model="demo-chat-large") == ("MISS", "demo-chat")
    assert [await sent(name) for name in ("demo-chat", "demo-chat-large")] == [
        ("HIT exact", "demo-chat"), ("HIT exact", "demo-chat-large"),
    ]  # fmt: skip


async def test_what_is_not_cached_is_asked_for_once(sdk: openai.AsyncOpenAI, world: World) -> None:
    """And not again, as the SDK does after a 504 of others."""
    asking = sdk.with_options(max_retries=2, default_headers={"Cache-Control": "only-if-cached"})
    with pytest.raises(openai.InternalServerError) as refused:
        await complete(asking, "what nobody has asked before")
    assert refused.value.status_code == 504
    assert world.app.ledger.published == 1
