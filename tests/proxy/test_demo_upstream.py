from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from yarl import URL

from proxy.demo.upstream import Behaviour, run_demo_upstream

CHAT = "/v1/chat/completions"
HELLO = {"model": "demo-chat", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"enum": ["C", "F"]},
            },
        },
    },
}


@asynccontextmanager
async def demo(behaviour: Behaviour | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    async with run_demo_upstream("127.0.0.1", 0, behaviour) as url, aiohttp.ClientSession(url) as session:
        yield session


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with demo() as session:
        yield session


@pytest.fixture
async def sdk() -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        run_demo_upstream("127.0.0.1", 0) as url,
        openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


async def post(client: aiohttp.ClientSession, path: str, body: Any, **headers: str) -> Any:
    async with client.post(path, json=body, headers=headers) as response:
        return await response.json()


async def events(client: aiohttp.ClientSession, path: str, body: Any) -> list[tuple[str | None, Any]]:
    """(event name, data) of every event of the stream."""
    async with client.post(path, json={**body, "stream": True}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        blocks = (await response.text()).split("\n\n")
    assert blocks.pop() == ""
    return [parsed(block) for block in blocks]


def parsed(block: str) -> tuple[str | None, Any]:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    data = fields["data"]
    return fields.get("event"), data if data == "[DONE]" else json.loads(data)


async def stats(client: aiohttp.ClientSession) -> dict[str, int]:
    async with client.get("/demo/stats") as response:
        return await response.json()


# --------------------------------------------------------------------------------------- chat completions


async def test_an_answer_has_the_shape_of_a_chat_completion_and_says_that_it_is_simulated(client):
    async with client.post(CHAT, json=HELLO) as response:
        answer = await response.json()
        assert response.headers.getall("Server") == ["nearhit-demo-upstream"]
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert "imulated" in choice["message"]["content"]
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 10


async def test_each_call_has_its_number_and_nothing_else_changes(client):
    first, second = [(await post(client, CHAT, HELLO))["choices"][0]["message"]["content"] for _ in range(2)]
    assert "answer no. 1," in first
    assert first.replace("no. 1,", "no. 2,") == second
    other = {**HELLO, "messages": [{"role": "user", "content": "How tall is a giraffe?"}]}
    assert (await post(client, CHAT, other))["choices"][0]["message"]["content"][70:] != first[70:]


async def test_a_stream_says_what_the_document_says(client):
    whole = await post(client, CHAT, HELLO)
    chunks = [data for _, data in await events(client, CHAT, HELLO)]
    assert chunks.pop() == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    text = "".join(delta.get("content", "") for delta in deltas)
    assert text == whole["choices"][0]["message"]["content"].replace("no. 1,", "no. 2,")
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    assert all("usage" not in chunk for chunk in chunks)


async def test_include_usage_adds_a_last_chunk_and_a_null_in_the_others(client):
    body = {**HELLO, "stream_options": {"include_usage": True}}
    chunks = [data for _, data in await events(client, CHAT, body)][:-1]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == len(chunks) - 3


async def test_choices_differ_and_stream_side_by_side(client):
    body = {**HELLO, "n": 3}
    whole = await post(client, CHAT, body)
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert len(set(texts)) == 3
    streamed = ["", "", ""]
    for _, chunk in (await events(client, CHAT, body))[:-1]:
        choice = chunk["choices"][0]
        streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == [text.replace("no. 1,", "no. 2,") for text in texts]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_of_tokens_cuts_the_answer(client, limit):
    choice = (await post(client, CHAT, {**HELLO, limit: 5}))["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"].split()) == 5


async def test_json_modes_answer_in_json(client):
    text = (await post(client, CHAT, {**HELLO, "response_format": {"type": "json_object"}}))["choices"][0]
    assert json.loads(text["message"]["content"])["simulated"] is True
    schema = {"type": "object", "properties": {"cause": {"type": "string"}, "sure": {"type": "boolean"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text = (await post(client, CHAT, {**HELLO, "response_format": wanted}))["choices"][0]
    assert json.loads(text["message"]["content"]).keys() == {"cause", "sure"}


@pytest.mark.parametrize(
    ("choice", "finish"),
    [("required", "tool_calls"), ({"type": "function", "function": {"name": "look_up"}}, "stop")],
)
async def test_a_demanded_tool_is_called_in_json_and_in_a_stream(client, choice, finish):
    body = {**HELLO, "tools": [TOOL], "tool_choice": choice}
    whole = (await post(client, CHAT, body))["choices"][0]
    assert whole["finish_reason"] == finish
    assert whole["message"]["content"] is None
    function = whole["message"]["tool_calls"][0]["function"]
    assert function["name"] == "look_up"
    assert json.loads(function["arguments"]) == {"city": "Why is the sky blue?", "days": 1, "unit": "C"}

    chunks = [data for _, data in await events(client, CHAT, body)][:-1]
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert calls[0]["function"] == {"name": "look_up", "arguments": ""}
    assert len(calls) > 3
    assert "".join(call["function"]["arguments"] for call in calls) == function["arguments"]
    assert chunks[-1]["choices"][0]["finish_reason"] == finish


async def test_a_tool_that_may_be_called_is_not(client):
    answer = await post(client, CHAT, {**HELLO, "tools": [TOOL], "tool_choice": "auto"})
    assert answer["choices"][0]["message"]["content"]


# ---------------------------------------------------------------------------------------- the other shapes


async def test_the_openai_sdk_understands_every_shape(sdk):
    messages: Any = HELLO["messages"]
    chat = await sdk.chat.completions.create(model="demo-chat", messages=messages)
    assert "answer no. 1," in (chat.choices[0].message.content or "")
    streamed = await sdk.chat.completions.create(model="demo-chat", messages=messages, stream=True)
    assert [chunk.choices[0].finish_reason async for chunk in streamed][-1] == "stop"
    completion = await sdk.completions.create(model="demo-chat", prompt="Once")
    assert "Once" in completion.choices[0].text
    vectors = await sdk.embeddings.create(model="demo-embedding", input=["a", "b"], dimensions=32)
    assert [len(item.embedding) for item in vectors.data] == [32, 32]
    response = await sdk.responses.create(model="demo-chat", input="Why?")
    assert response.status == "completed"
    assert "Why?" in response.output_text
    names = [event.type async for event in await sdk.responses.create(model="m", input="Why?", stream=True)]
    assert names[0] == "response.created"
    assert names[-1] == "response.completed"
    assert "demo-chat" in [model.id async for model in sdk.models.list()]
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.chat.completions.create(model="unknown-model", messages=messages)
    assert missing.value.code == "model_not_found"


async def test_embeddings_follow_from_the_text_alone(client):
    async def vectors(**more: Any) -> list[Any]:
        answer = await post(client, "/v1/embeddings", {"model": "m", "input": ["a", "b"], **more})
        return [item["embedding"] for item in answer["data"]]

    one, two = await vectors()
    assert [one, two] == await vectors()
    assert one != two
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    packed = base64.b64decode((await vectors(encoding_format="base64"))[0])
    assert np.frombuffer(packed, np.float32) == pytest.approx(one, abs=1e-6)


async def test_a_messages_stream_has_the_events_of_anthropic_and_says_what_the_document_says(client):
    body = {**HELLO, "max_tokens": 1000}
    whole = await post(client, "/v1/messages", body)
    assert whole["stop_reason"] == "end_turn"
    streamed = await events(client, "/v1/messages", body)
    names = [name for name, _ in streamed]
    assert names == [data["type"] for _, data in streamed]
    assert list(dict.fromkeys(names)) == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(data["delta"]["text"] for name, data in streamed if name == "content_block_delta")
    assert text == whole["content"][0]["text"].replace("no. 1,", "no. 2,")
    assert streamed[-2][1]["usage"] == {"output_tokens": whole["usage"]["output_tokens"]}


async def test_a_cut_response_is_incomplete_in_both_forms(client):
    body = {"model": "m", "input": [{"role": "user", "content": "Why?"}], "max_output_tokens": 3}
    whole = await post(client, "/v1/responses", body)
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    name, last = (await events(client, "/v1/responses", body))[-1]
    assert name == "response.incomplete"
    assert last["response"]["output"][0]["content"][0]["text"].split() == ["Simulated", "answer", "no."]


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "m"}, 400, "messages"),
        ({"model": "m", "messages": []}, 400, "messages"),
        ({"model": "m", "messages": "hello"}, 400, "messages"),
        ({"model": "m", "messages": [3]}, 400, "messages[0]"),
        ({"model": "m", "messages": [{"role": "user", "content": 3}]}, 400, "messages[0].content"),
        ({"messages": HELLO["messages"]}, 400, "model"),
        ({**HELLO, "model": 3}, 400, "model"),
        ({**HELLO, "temperature": "hot"}, 400, "temperature"),
        ({**HELLO, "n": True}, 400, "n"),
        ({**HELLO, "n": 0}, 400, "n"),
        ({**HELLO, "stream": "yes"}, 400, "stream"),
        ({**HELLO, "tools": [3]}, 400, None),
        ({**HELLO, "model": "unknown-model"}, 404, "model"),
        ([], 400, None),
        (None, 400, None),
    ],
)
async def test_a_wrong_body_is_an_error_in_the_shape_of_openai(client, body, status, param):
    async with client.post(CHAT, json=body) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_not_json_is_a_400(client, raw):
    async with client.post(CHAT, data=raw) as response:
        assert response.status == 400
        assert "error" in await response.json()


async def test_half_a_surrogate_pair_is_answered(client):
    body = json.dumps({**HELLO, "messages": [{"role": "user", "content": "\ud800 why?"}]})
    async with client.post(CHAT, data=body) as response:
        assert response.status == 200


async def test_an_anthropic_error_has_the_shape_of_anthropic(client):
    assert await post(client, "/v1/messages", HELLO) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "max_tokens: Field required"},
    }


# ---------------------------------------------------------------------------------------- load and steering


async def test_calls_beyond_capacity_wait_and_calls_beyond_the_queue_are_turned_away():
    async with demo(Behaviour(capacity=1, queue=1)) as client:
        held = spawn(post(client, CHAT, HELLO, **{"X-Demo-Latency": "0.5"}))
        await until(client, in_flight=1)
        waiting = spawn(post(client, CHAT, HELLO))
        await until(client, in_flight=1, queued=1)
        async with client.get("/metrics") as response:
            text = await response.text()
        assert 'vllm:num_requests_running{model_name="demo-chat"} 1.0' in text
        assert 'vllm:num_requests_waiting{model_name="demo-chat"} 1.0' in text
        async with client.post(CHAT, json=HELLO) as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) > 0
        assert not waiting.done()
        answers = await asyncio.gather(held, waiting)
        assert ["choices" in answer for answer in answers] == [True, True]
        assert await stats(client) == {"calls": 2, "in_flight": 0, "queued": 0, "rejected": 1, "errors": 0}


def spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def until(client: aiohttp.ClientSession, **wanted: int) -> None:
    async with asyncio.timeout(5):
        while not wanted.items() <= (await stats(client)).items():
            await asyncio.sleep(0.005)


async def test_a_caller_who_leaves_the_queue_frees_the_place():
    async with demo(Behaviour(capacity=1, queue=1)) as client:
        held = spawn(post(client, CHAT, HELLO, **{"X-Demo-Hang": "yes"}))
        await until(client, in_flight=1)
        waiting = spawn(post(client, CHAT, HELLO))
        await until(client, queued=1)
        waiting.cancel()
        await until(client, queued=0)
        held.cancel()
        await until(client, in_flight=0)
        assert "choices" in await post(client, CHAT, HELLO)


async def test_tokens_come_at_their_rate():
    async with demo(Behaviour(latency_s=0.05, tokens_per_s=200)) as client:
        started = asyncio.get_running_loop().time()
        document = await post(client, CHAT, HELLO)
        took = asyncio.get_running_loop().time() - started
        assert took >= 0.05 + document["usage"]["completion_tokens"] / 200
        started = asyncio.get_running_loop().time()
        await events(client, CHAT, HELLO)
        assert asyncio.get_running_loop().time() - started >= took * 0.8


async def test_errors_come_at_their_rate_and_repeat_with_the_seed():
    async def statuses(seed: int) -> list[int]:
        async with demo(Behaviour(error_rate=0.3, seed=seed)) as client:
            answers = [await post(client, CHAT, HELLO) for _ in range(60)]
        return [500 if "error" in answer else 200 for answer in answers]

    first = await statuses(1)
    assert 5 < first.count(500) < 35
    assert first == await statuses(1) != await statuses(2)


async def test_a_header_asks_for_an_error(client):
    async with client.post(CHAT, json=HELLO, headers={"X-Demo-Status": "503"}) as response:
        assert response.status == 503
        assert "Retry-After" in response.headers
    assert (await post(client, CHAT, HELLO, **{"X-Demo-Latency": "soon"}))["error"]["message"]


async def test_a_header_breaks_the_stream_after_so_many_chunks(client):
    body = {**HELLO, "stream": True}
    received = b""
    async with client.post(CHAT, json=body, headers={"X-Demo-Break": "after-3-chunks"}) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            async for piece in response.content.iter_any():
                received += piece
    assert received.count(b"data: ") == 3


async def test_a_header_breaks_a_document_in_its_middle(client):
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(client, CHAT, HELLO, **{"X-Demo-Break": "yes"})


async def test_a_header_makes_the_stream_fall_silent(client):
    headers = {"X-Demo-Hang": "after-2-chunks"}
    async with client.post(CHAT, json={**HELLO, "stream": True}, headers=headers) as response:
        for _ in range(2):
            assert (await response.content.readuntil(b"\n\n")).startswith(b"data: ")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await response.content.readany()


# --------------------------------------------------------------------------------------- pass-through aids


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_echo_tells_what_arrived(client, method):
    headers = {"X-Thing": "1", "X-Demo-Status": "207"}
    url = client._base_url.origin().join(URL("/echo/a%20b?x=1&x=%2F", encoded=True))
    async with client.request(method, url, data=b"\x00\xff", headers=headers) as response:
        assert response.status == 207
        assert response.headers.getall("Set-Cookie") == ["first=1", "second=2"]
        seen = await response.json()
    assert (seen["method"], seen["path"], seen["query"]) == (method, "/echo/a%20b", "x=1&x=%2F")
    assert ["X-Thing", "1"] in seen["headers"]
    assert seen["body_base64"] == "AP8="


async def test_bytes_health_and_models(client):
    async with client.get("/bytes/1000") as response:
        body = await response.read()
    assert len(body) == 1000
    assert set(body) == set(range(256))
    for path in ("/health", "/v1/models/demo-chat"):
        async with client.get(path) as response:
            assert response.status == 200
