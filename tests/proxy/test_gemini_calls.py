"""Calls in Gemini's API through the whole proxy: every form replayed as every other, and where a key may
not be seen."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gemini import ARRAY, ASKED, EVENTS, FORMS, MODEL, REWORDED, WHOLE, asking, speaking, turn
from streams import gathered
from world import Answer, MakeWorld, World, upstream
from yarl import URL

# As callers see it

OPTIONS: dict[str, dict[str, Any]] = {
    "text": {},
    "two": {"generationConfig": {"candidateCount": 2}},
    "thoughts": {"generation_config": {"thinking_config": {"includeThoughts": True}}},
    "call": {
        "tools": [
            {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {}}}]}
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    },
}


def whole(target: str, answer: Answer) -> Any:
    return answer.json if target == WHOLE else gathered(speaking(target), answer.body)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("first", FORMS)
async def test_each_form_is_replayed_as_each_other(world: World, first: str, options: dict[str, Any]) -> None:
    fresh = await world.send(first, asking(**options))
    await world.settled()
    assert (fresh.status, fresh.cache) == (200, "MISS")
    for target, content_type in FORMS.items():
        for text, cache in ((ASKED, "HIT exact"), (REWORDED, "HIT semantic")):
            again = await world.send(target, asking(text, **options))
            assert (again.cache, again.headers["Content-Type"]) == (cache, content_type)
            assert whole(target, again) == whole(first, fresh)
            told = json.dumps(whole(target, again))
            assert '"finishReason": "STOP"' in told
            assert "usageMetadata" in told
    assert await world.upstream_calls() == 1


@pytest.mark.parametrize("first", [EVENTS, ARRAY])
@pytest.mark.parametrize("second", FORMS)
async def test_who_rides_along_has_the_form_that_was_asked_for(world: World, first: str, second: str) -> None:
    leader = asyncio.create_task(world.send(first, asking(), **{"X-Demo-Latency": "0.2"}))
    while not len(world.app.forwarder.flights):
        await asyncio.sleep(0.01)
    rider = await world.send(second, asking())
    fresh = await leader
    assert (fresh.cache, rider.cache) == ("MISS", "HIT inflight")
    assert rider.headers["Content-Type"] == FORMS[second]
    assert whole(second, rider) == whole(first, fresh)
    assert await world.upstream_calls() == 1


async def test_no_comments_in_a_stream_that_waits(make_world: MakeWorld) -> None:
    """Google's own client takes every line that is no data for the beginning of an error."""
    world = await make_world(upstream={"limit": 1, "queue_timeout": 5.0, "queue_keep_alive": 0.02})
    busy = asyncio.create_task(world.send(EVENTS, asking("something else"), **{"X-Demo-Latency": "0.3"}))
    while not len(world.app.forwarder.flights):
        await asyncio.sleep(0.01)
    waiting = await world.send(EVENTS, asking())
    assert (await busy).status == waiting.status == 200
    assert waiting.body.startswith(b"data: {")


async def test_models_and_versions_are_apart(world: World) -> None:
    await world.send(WHOLE, asking())
    await world.settled()
    for target in (WHOLE.replace("demo-chat", "demo-chat-large"), WHOLE.replace("v1beta", "v1")):
        assert (await world.send(target, asking())).cache == "MISS"


async def test_earlier_turns_are_apart(world: World) -> None:
    before = turn("user", {"text": "I speak of Rome"}), turn("model", {"text": "Yes."})
    await world.send(WHOLE, asking(ASKED, *before))
    await world.settled()
    assert (await world.send(WHOLE, asking(REWORDED))).cache == "MISS"
    assert (await world.send(WHOLE, asking(REWORDED, *before))).cache == "HIT semantic"


@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize("target", FORMS)
async def test_an_error_passes_and_is_not_stored(world: World, target: str, status: int) -> None:
    failed = await world.send(target, asking(), **{"X-Demo-Status": str(status)})
    assert (failed.status, failed.json["error"]["code"]) == (status, status)
    await world.settled()
    assert len(world.app.cache.entries) == 0


@pytest.mark.parametrize("target", FORMS)
async def test_our_own_errors_have_its_shape(world: World, target: str) -> None:
    missed = await world.send(target, asking(), **{"Cache-Control": "only-if-cached"})
    told = missed.json[0] if target == ARRAY else missed.json
    assert (missed.status, told["error"]["code"], told["error"]["status"]) == (504, 504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("body", [b"{contents: 1}", b'{"contents": [1,],}', b""])
async def test_what_is_no_json_to_us_goes_up_as_it_came(make_world: MakeWorld, body: bytes) -> None:
    """Google's servers read more than JSON."""
    seen: list[bytes] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(await request.read())
        return web.json_response({})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        answer = await world.post(WHOLE, data=body, headers={"x-goog-api-key": "one"})
    assert (answer.status, answer.headers["X-Cache-Bypass-Reason"]) == (200, "not-understood")
    assert seen == [body]


@pytest.mark.parametrize(
    ("path", "google"),
    [("/v1beta/files", True), ("/v1beta/openai/chat/completions", False), ("/v1/models", False)],
)
async def test_so_have_those_on_its_other_paths(make_world: MakeWorld, path: str, google: bool) -> None:
    world = await make_world(upstream_url="http://127.0.0.1:9")
    told = (await world.call("GET", path)).json["error"]
    assert (told.get("status") == "UNAVAILABLE", "type" in told) == (google, not google)


async def test_a_cut_stream_is_not_stored(world: World) -> None:
    await world.send(EVENTS, asking(generationConfig={"maxOutputTokens": 2}))
    for target in (EVENTS, ARRAY):
        with pytest.raises(aiohttp.ClientError):
            await world.send(target, asking(), **{"X-Demo-Break": "after-4-chunks"})
    await world.settled()
    assert len(world.app.cache.entries) == 0


# Its key


async def ask_with(world: World, query: str = "", **headers: str) -> str:
    answer = await world.post(WHOLE + query, json=asking(), headers=headers)
    await world.settled()
    return answer.cache


async def test_keys_in_header_and_query_separate_tenants(make_world: MakeWorld) -> None:
    world = await make_world(tenancy={"anonymous": "share"})
    assert await ask_with(world) == "MISS"
    assert await ask_with(world, "?key=one") == "MISS"
    assert await ask_with(world, "?key=two") == "MISS"
    assert await ask_with(world, "?a&%6Bey=three") == "MISS"
    assert await ask_with(world, "?a&%6Bey=four") == "MISS"
    assert await ask_with(world, "?key=one") == "HIT exact"
    assert await ask_with(world, **{"x-goog-api-key": "three"}) == "MISS"
    assert await ask_with(world, "?access_token=one") == "MISS"
    assert await ask_with(world, "?oauth_token=one") == "MISS"
    assert await ask_with(world, "?key=one", Authorization="Bearer one") == "MISS"
    assert await ask_with(world) == "HIT exact"


async def test_a_key_in_the_query_is_an_identity_and_an_empty_one_is_none(make_world: MakeWorld) -> None:
    world = await make_world(tenancy={"anonymous": "bypass"})
    assert await ask_with(world, "?key=") == "BYPASS"
    assert await ask_with(world, "?key=one") == "MISS"
    assert await ask_with(world, "?oauth_token=one") == "MISS"


async def test_with_a_header_of_its_own_for_tenants_a_key_separates_nobody(make_world: MakeWorld) -> None:
    world = await make_world(tenancy={"header": "X-Team"})
    assert await ask_with(world, "?key=one") == "BYPASS"
    assert await ask_with(world, "?key=one", **{"X-Team": "a"}) == "MISS"
    assert await ask_with(world, "?key=two", **{"X-Team": "a"}) == "HIT exact"


@pytest.mark.parametrize("path", [WHOLE, EVENTS, ARRAY, f"{MODEL}:countTokens"])
async def test_a_key_in_the_query_is_kept_and_shown_nowhere(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    tmp_path: Path, path: str,
) -> None:  # fmt: skip
    logged: list[logging.LogRecord] = []
    kept, logger = logging.Handler(), logging.getLogger("nearhit")
    monkeypatch.setattr(kept, "emit", logged.append)
    monkeypatch.setattr(logger, "handlers", [kept])
    monkeypatch.setattr(logger, "propagate", False)
    caplog.set_level("DEBUG", "nearhit")
    documents = {"url": f"sqlite+aiosqlite:///{tmp_path}/documents.db"}
    world = await make_world(documents=documents)
    target = f"{path}{'&' if '?' in path else '?'}key=sesame"
    for body in (asking(), {"contents": 5}):
        for status in ("500", "200"):
            await world.send(target, body, **({"X-Demo-Status": status} if status == "500" else {}))
    await world.post(target, data=b"{")
    await world.settled()
    recent = [repr(each) for each in world.app.ledger.recent]
    assert len(recent) == (0 if "count" in path else 5)
    assert not any("sesame" in each for each in recent)
    assert logged or "count" in path
    assert not any("sesame" in f"{record.__dict__}" for record in logged)
    await world.app.cache.documents.flush()
    files = await asyncio.to_thread(lambda: [file.read_bytes() for file in tmp_path.glob("*.db*")])
    assert any(b"SQLite" in each for each in files)
    assert not any(b"sesame" in each for each in files)


async def test_our_key_takes_the_place_of_one_in_the_query(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "ours")
    seen: list[Any] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.raw_path, request.headers.get("x-goog-api-key"), await request.text()))
        return web.json_response({})

    async with upstream(handle) as url:
        aliases = {"asked": "models/served"}
        google = {"name": "g", "url": url, "key_env": "SOME_KEY", "aliases": aliases}
        world = await make_world(upstreams=[google, {"name": "other", "url": url, "models": ["x"]}])
        for call in (":generateContent?a=%20&key=mine&b", ":countTokens?key=mine", "%3AgenerateContent"):
            headers = {"x-goog-api-key": "mine"}
            target = URL(f"{world.url}/v1beta/models/asked{call}", encoded=True)
            async with world.session.post(target, json={"contents": [{"parts": []}]}, headers=headers):
                pass
    (whole, counted, quoted), body = seen, '{"contents": [{"parts": []}]}'
    assert quoted == ("/v1beta/models/models%2Fserved:generateContent", "ours", body)
    assert whole == ("/v1beta/models/models%2Fserved:generateContent?a=%20&b", "ours", body)
    assert counted == ("/v1beta/models/models%2Fserved:countTokens", "ours", body)
