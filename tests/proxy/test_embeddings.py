"""Embeddings: each item of a batch is remembered by itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from world import Answer, MakeWorld, World, upstream

from proxy.dialects import openai_embeddings as dialect
from proxy.dialects.base import dump

PATH = "/v1/embeddings"


async def embed(world: World, given_input: Any, key: str = "one", **more: Any) -> Answer:
    headers = more.pop("headers", {})
    answer = await world.send(PATH, {"model": "m", "input": given_input, **more}, key, **headers)
    await world.settled()
    return answer


async def straight(world: World, given_input: Any, **more: Any) -> Any:
    """What the upstream says itself."""
    body = {"model": "m", "input": given_input, **more}
    async with world.session.post(world.upstream_url + PATH, json=body) as response:
        return await response.json()


def known(answer: Answer) -> tuple[str, str]:
    return answer.cache, answer.headers["X-Cache-Items"]


@pytest.mark.parametrize("more", [{}, {"encoding_format": "base64"}, {"dimensions": 8}])
async def test_only_unknown_items_go_up_and_order_and_usage_are_right(
    world: World, more: dict[str, Any]
) -> None:
    first = await embed(world, ["a b c", "d"], **more)
    assert known(first) == ("MISS", "0/2")
    mixed = ["e f", "d", "a b c", "g", "d"]
    partly = await embed(world, mixed, **more)
    assert known(partly) == ("MISS", "3/5")
    whole = await embed(world, mixed, **more)
    assert known(whole) == ("HIT exact", "5/5")
    expected = await straight(world, mixed, **more)
    assert partly.json["data"] == whole.json["data"] == expected["data"]
    assert whole.json["usage"] == partly.json["usage"]
    assert {**whole.json, "usage": expected["usage"]} == expected
    assert first.json["usage"]["prompt_tokens"] == 4


async def test_the_parts_of_a_batch_add_up(world: World) -> None:
    first = await embed(world, ["a b c", "d", "e f g h i"])
    again = await embed(world, ["e f g h i", "a b c", "d"])
    assert again.json["usage"] == first.json["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert (await embed(world, "j k")).json["usage"]["total_tokens"] == 2
    assert (await embed(world, "j k")).json["usage"]["total_tokens"] == 2


async def test_a_batch_is_one_call_at_most(world: World) -> None:
    await embed(world, ["a", "b"])
    await embed(world, ["b", "c", "a", "d"])
    assert await world.upstream_calls() == 2
    await embed(world, "c")
    assert await world.upstream_calls() == 2


async def test_tokens_are_no_text(world: World) -> None:
    assert known(await embed(world, [1, 2])) == ("MISS", "0/1")
    assert known(await embed(world, [[1, 2], [3]])) == ("MISS", "1/2")
    assert known(await embed(world, "[1,2]")) == ("MISS", "0/1")
    assert known(await embed(world, ["1", "2"])) == ("MISS", "0/2")
    assert known(await embed(world, [[3], [1, 2]])) == ("HIT exact", "2/2")


async def test_no_other_text_and_no_other_circumstances(world: World) -> None:
    await embed(world, "how are you today my friend")
    for change in ({"dimensions": 8}, {"encoding_format": "base64"}, {"model": "n"}, {"user": "u"}):
        assert known(await embed(world, "how are you today my friend", **change)) == ("MISS", "0/1")
    assert known(await embed(world, "how are you my friend")) == ("MISS", "0/1")
    assert known(await embed(world, "how are you today my friend", key="two")) == ("MISS", "0/1")
    assert world.embedder.asked == []


async def test_controls(world: World) -> None:
    await embed(world, "a")
    assert known(await embed(world, "a", headers={"Cache-Control": "no-cache"})) == ("BYPASS", "0/1")
    none = await embed(world, ["a", "b"], headers={"Cache-Control": "only-if-cached"})
    assert none.status == 504
    assert (await embed(world, "a", headers={"Cache-Control": "only-if-cached"})).cache == "HIT exact"
    await embed(world, "c", headers={"Cache-Control": "no-store"})
    assert (await embed(world, "c")).cache == "MISS"
    world.clock.now += 30
    aged = await embed(world, ["a", "c"])
    assert aged.headers["Age"] == "30"
    assert (await embed(world, "a", headers={"Cache-Control": "max-age=10"})).cache == "MISS"
    world.clock.now += 4000
    assert (await embed(world, "c")).cache == "MISS"


async def test_vectors_are_as_old_as_the_caches_before_say(make_world: MakeWorld) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        data = [{"index": 0, "embedding": [1.0]}]
        return web.json_response({"data": data, "usage": {}}, headers={"Age": "3000"})

    async with upstream(answer) as url:
        world = await make_world(upstream_url=url)
        await embed(world, "a")
        world.clock.now += 10
        again = await embed(world, "a")
    assert (again.cache, again.headers["Age"]) == ("HIT exact", "3010")


async def test_a_category_that_is_not_cached(world: World) -> None:
    for _ in range(2):
        answer = await embed(world, "a", headers={"X-Nearhit-Category": "never"})
        assert answer.cache == "BYPASS"
    assert len(world.app.cache.entries) == 0


async def test_a_category_that_is_only_tried(make_world: MakeWorld, categories: Path) -> None:
    (categories / "trial.yaml").write_text("{name: trial, threshold: 0.8, ttl: 1h, mode: shadow}")
    world, trial = await make_world(), {"headers": {"X-Nearhit-Category": "trial"}}
    assert known(await embed(world, ["a", "b"], **trial)) == ("MISS", "0/2")
    for _ in range(2):
        tried = await embed(world, ["b", "a"], **trial)
        assert known(tried) == ("SHADOW exact", "0/2")
        assert "Age" not in tried.headers
    assert known(await embed(world, ["a", "c"], **trial)) == ("MISS", "0/2")
    assert await world.upstream_calls() == 4


async def test_a_shared_category_shares_vectors(world: World) -> None:
    common = {"headers": {"X-Nearhit-Category": "common"}}
    await embed(world, "a", **common)
    assert (await embed(world, "a", key="two", **common)).cache == "HIT exact"


async def test_what_is_no_call_for_embeddings_goes_up_as_it_is(world: World) -> None:
    for odd in ([], {}, None, [1, "a"], [{"image": "x"}], [[1], ["a"]], [[]], [1.5], [True], ["a", [1]]):
        answer = await embed(world, odd)
        assert answer.headers["X-Cache-Bypass-Reason"] == "not-understood"


async def test_an_error_passes_through_and_is_not_stored(world: World) -> None:
    await embed(world, "a")
    failed = await embed(world, ["a", "b"], headers={"X-Demo-Status": "429"})
    assert (failed.status, failed.cache) == (429, "MISS")
    assert failed.json["error"]["type"] == "requests"
    assert (await embed(world, "b")).cache == "MISS"


async def test_a_broken_answer_is_not_stored(world: World) -> None:
    for given_input in ("a", ["a", "b"]):
        with pytest.raises(aiohttp.ClientError):
            await embed(world, given_input, headers={"X-Demo-Break": "after-0-chunks"})
        await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_an_answer_that_nobody_can_take_apart_counts_as_stored_nowhere(make_world: MakeWorld) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        return web.json_response({"data": "none"})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        await embed(world, ["a", "b"])
        assert [report.stored for report in world.app.ledger.recent] == [False]


@pytest.mark.parametrize("odd", [b"[0.5, NaN]", b"[-Infinity]", b'[0.5], "x": NaN'])
async def test_vectors_that_are_no_json_are_relayed_and_not_stored(make_world: MakeWorld, odd: bytes) -> None:
    body = b'{"object": "list", "model": "m", "data": [{"index": 0, "embedding": %b}], "usage": {}}' % odd

    async def handle(request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        for _ in range(2):
            answer = await embed(world, "a b c")
            assert (answer.cache, answer.body) == ("MISS", body)
        assert len(world.app.cache.entries) == 0


async def test_a_lost_document_goes_up_again(world: World) -> None:
    first = await embed(world, ["a", "b"])
    gone = (await embed(world, "a")).headers["X-Cache-Entry-Id"]
    world.app.cache.documents.forget([gone])
    again = await embed(world, ["a", "b"])
    assert known(again) == ("MISS", "1/2")
    assert again.json["data"] == first.json["data"]


async def test_a_large_batch_does_not_drown_a_slow_store(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(documents={"url": "memory", "hot_bytes": 1})
    store, turn = world.app.cache.documents._documents, asyncio.Semaphore(4)

    def slow(load: Any) -> Any:
        async def loaded(wanted: Any) -> Any:
            async with turn:
                await asyncio.sleep(0.05)
                return await load(wanted)

        return loaded

    for name in ("load", "load_many"):
        monkeypatch.setattr(store, name, slow(getattr(store, name)))
    monkeypatch.setattr(world.app.cache.documents, "_deadline", 0.5)
    texts = [f"text {number}" for number in range(100)]
    await embed(world, texts)
    await world.app.cache.documents.flush()
    assert known(await embed(world, texts)) == ("HIT exact", "100/100")
    assert world.app.cache.documents.stats()["failures"] == 0


async def test_an_upstream_that_counts_otherwise_is_asked_for_everything(make_world: MakeWorld) -> None:
    """Its answer has fewer vectors than were asked for: what is known cannot be put among them."""
    asked: list[Any] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        given_input = json.loads(await request.read())["input"]
        asked.append(given_input)
        texts = [text for text in given_input if text != "odd"]
        data = [{"index": i, "embedding": [0.1], "text": text} for i, text in enumerate(texts)]
        return web.json_response({"data": data, "usage": {"prompt_tokens": 3}})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        await embed(world, ["a"])
        answer = await embed(world, ["a", "odd", "b"])
        assert asked == [["a"], ["odd", "b"], ["a", "odd", "b"]]
        assert [each["text"] for each in answer.json["data"]] == ["a", "b"]


async def test_a_purge_while_it_is_on_its_way(world: World) -> None:
    asking = asyncio.gather(embed(world, "a", headers={"X-Demo-Latency": "0.2"}))
    await asyncio.sleep(0.05)
    world.app.cache.begin_purge()
    await asking
    assert len(world.app.cache.entries) == 0


# The package itself


@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_the_openai_sdk(world: World, encoding: Any) -> None:
    options = {"encoding_format": encoding} if encoding else {}
    async with openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one", max_retries=0) as sdk:

        async def made(given_input: Any) -> tuple[str, Any]:
            raw = await sdk.embeddings.with_raw_response.create(model="m", input=given_input, **options)
            await world.settled()
            return raw.headers["x-cache"], raw.parse()

        cache, first = await made(["a", "b c"])
        assert cache == "MISS"
        cache, again = await made(["b c", "a"])
        assert cache == "HIT"
        assert [each.embedding for each in again.data] == [each.embedding for each in reversed(first.data)]
        assert [each.index for each in again.data] == [0, 1]
        assert again.usage == first.usage
        with pytest.raises(openai.NotFoundError):
            await sdk.embeddings.create(model="unknown-model", input="a")

    def in_sync() -> str:
        with openai.OpenAI(base_url=world.url + "/v1", api_key="one") as client:
            raw = client.embeddings.with_raw_response.create(model="m", input="a", **options)
            cache: str = raw.headers["x-cache"]
            return cache

    assert await asyncio.to_thread(in_sync) == "HIT"


# Taking apart and putting together

numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5)
vectors = st.lists(numbers | st.text(max_size=9), min_size=1, max_size=5)


@given(vectors, st.integers(0, 1000), st.booleans(), st.randoms())
def test_an_answer_is_the_sum_of_its_parts(data: list[Any], tokens: int, spaced: bool, random: Any) -> None:
    items = [{"object": "embedding", "index": i, "embedding": each} for i, each in enumerate(data)]
    random.shuffle(items)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": items, "model": 'an "embedding":[1] model', "usage": usage}
    body = json.dumps(answer, indent=1).encode() if spaced else dump(answer)
    parts = dialect.parts(body, [random.randint(1, 9) for _ in data])
    assert parts is not None
    items.sort(key=lambda item: item["index"])  # type: ignore[arg-type, return-value]
    assert json.loads(dialect.joined(parts)) == answer
    alone = [dialect.parts(dialect.joined([part]), [1]) for part in parts]
    assert [each[0] for each in alone if each] == parts


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"data":[]}', b'{"data":[{"index":1,"embedding":[1]}]}', b'{"data":[{"index":0}]}',
     b'{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1]}]}', b'{"data":"x"}', b'{"data":[1]}',
     b'{"data":[{"index":0,"embedding":[1]}],"error":{"code":502}}'],
)  # fmt: skip
def test_what_is_no_answer_to_a_call_for_one(body: bytes) -> None:
    assert dialect.parts(body, [1]) is None


def test_digits_stay_as_they_are_written() -> None:
    body = (
        b'{"data":[{"index":0,"embedding":[1e-05, 0.10000000149011612,-1.50]}],"usage":{"prompt_tokens":1}}'
    )
    parts = dialect.parts(body, [1])
    assert parts is not None
    assert b"[1e-05, 0.10000000149011612,-1.50]" in dialect.joined(parts)
