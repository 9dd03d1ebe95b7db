"""Answers that must not be kept, or not be given: found by attacking the proxy."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from world import MakeWorld, World, upstream

from proxy import dialects
from proxy.messages import read_call

PATH = "/v1/embeddings"
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
VECTORS = json.dumps({"object": "list", "data": [VECTOR], "model": "m", "usage": {"prompt_tokens": 1}})


@pytest.mark.parametrize("known", [False, True])
async def test_a_purge_while_vectors_arrive(make_world: MakeWorld, known: bool) -> None:
    half, go_on = asyncio.Event(), asyncio.Event()
    go_on.set()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        reply = web.StreamResponse()
        await reply.prepare(request)
        await reply.write(VECTORS[:20].encode())
        half.set()
        await go_on.wait()
        await reply.write(VECTORS[20:].encode())
        return reply

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        if known:
            await world.send(PATH, {"model": "m", "input": ["before"]})
        half.clear()
        go_on.clear()
        texts = ["before", "meanwhile"] if known else ["meanwhile"]
        call = asyncio.create_task(world.send(PATH, {"model": "m", "input": texts}))
        await half.wait()
        await asyncio.sleep(0.05)  # the head has gone on to the caller
        world.app.cache.begin_purge()
        go_on.set()
        assert (await call).status == 200
        await world.settled()
        again = await world.send(PATH, {"model": "m", "input": ["meanwhile"]})
        assert again.cache == "MISS"


@pytest.mark.parametrize(
    "header",
    [
        "x-goog-api-key",
        "x-portkey-api-key",
        "x-litellm-api-key",
        "helicone-auth",
        "cf-aig-authorization",
        "ocp-apim-subscription-key",
        "x-bf-vk",
    ],
)
async def test_a_key_in_another_header_is_a_tenant_of_its_own(make_world: MakeWorld, header: str) -> None:
    world = await make_world(tenancy={"anonymous": "share"})
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": "what did I order"}]}

    async def ask(key: str) -> str:
        data = json.dumps(body).encode()
        answer = await world.post("/v1/chat/completions", data=data, headers={header: key})
        await world.settled()
        return answer.cache

    assert [await ask("one"), await ask("two"), await ask("one")] == ["MISS", "MISS", "HIT exact"]


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key"])
async def test_each_of_several_keys_in_one_header_tells_whose_call_it_is(world: World, header: str) -> None:
    async def ask(*keys: str) -> str:
        headers = CIMultiDict((header, key) for key in keys)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "what did I order"}]})
        answer = await world.post("/v1/chat/completions", data=body.encode(), headers=headers)
        await world.settled()
        return answer.cache

    assert await ask("ours", "one") == "MISS"
    assert await ask("ours", "two") == "MISS"
    assert await ask("ours", "one") == "HIT exact"
    assert await ask("ours") == "MISS"
    assert await ask("", "two") == "MISS"
    assert await ask("", "one") == "MISS"


_TURNS = [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "e"}}]}]
_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": _TURNS, "stream_options": {}, "tools": [{"type": "function"}]},
    "/v1/completions": {"prompt": "hi", "stream_options": {}},
    "/v1/responses": {"input": _TURNS, "stream_options": {}},
    "/v1/messages": {"messages": _TURNS, "system": _TURNS[0]["content"], "tools": [{"name": "a"}]},
    "/v1/embeddings": {"input": ["a", "b"]},
    "/api/chat": {"messages": [{"role": "user", "content": "hi"}], "options": {"num_ctx": 1}},
    "/api/generate": {"prompt": "hi", "options": {"num_ctx": 1}},
    "/v1beta/models/m:streamGenerateContent?alt=sse": {
        "contents": [{"parts": [{"text": "hi"}]}],
        "tools": [],
    },
}


@pytest.mark.parametrize("path", _BODIES)
def test_what_is_remembered_of_a_body_is_not_changed_by_those_who_use_it(path: str) -> None:
    dialect = dialects.of("POST", path)
    assert dialect is not None
    asked = {"ttl": 7, "namespace": "n"}
    body = json.dumps({"model": "m", "stream": True, "cache": asked, **_BODIES[path]}).encode()

    def read() -> Any:
        return read_call(dialect, path, CIMultiDictProxy(CIMultiDict()), body, "t")

    first = read()
    before = copy.deepcopy((first.fields, first.reading.identity))
    dialect.enrichment.enrich(first.fields)
    for answer in (
        {"choices": []}, {"content": [], "usage": {}}, {"output": [], "status": "completed"},
        {"candidates": []},
    ):  # fmt: skip
        try:
            list(dialect.scatter(dict(answer), first.fields))
        except KeyError:
            pass  # an answer of another API
    second = read()
    assert second.fields is first.fields
    assert (second.fields, second.reading.identity) == before
    assert (second.identity, second.body, second.controls) == (first.identity, first.body, first.controls)
