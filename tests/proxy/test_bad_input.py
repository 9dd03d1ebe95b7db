"""Mistakes of the caller: told clearly, in its own dialect or by the upstream itself; never a 500, never
stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import MakeWorld, World, upstream

KEY = {"Authorization": "Bearer one", "Content-Type": "application/json"}
PATH = "/v1/chat/completions"


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b'{"a": NaN}', b"\xff\x00"])
async def test_malformed_json(world: World, body: bytes) -> None:
    answer = await world.post(PATH, data=body, headers=KEY)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert "not valid JSON" in answer.json["error"]["message"]
    assert await world.upstream_calls() == 0


@pytest.mark.parametrize(
    "body",
    [
        [], "text", 1, None, {}, {"model": "demo-chat"}, {"model": "demo-chat", "messages": []}, {"model":
        "demo-chat", "messages": "hello"}, {"model": 5, "messages": [{"role": "user", "content": "x"}]},
        {"model": "demo-chat", "messages": [{"role":
        "user", "content": 7}]}, {"model": "unknown-model", "messages": [{"role": "user", "content": "x"}]},
    ],
)  # fmt: skip
async def test_wrong_shapes_are_answered_by_the_upstream(world: World, body: Any) -> None:
    direct = await world.session.post(world.upstream_url + PATH, data=json.dumps(body), headers=KEY)
    answer = await world.post(PATH, data=json.dumps(body), headers=KEY)
    assert answer.status == direct.status < 500
    if direct.status != 200:
        assert answer.body == await direct.read()
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_unknown_fields_go_up(world: World) -> None:
    answer = await world.ask("does this field matter", something_new={"deep": [1, None]})
    assert answer.status == 200


async def test_a_body_of_ten_megabytes_is_served(world: World) -> None:
    text = "word " * 2_000_000
    answer = await world.ask(text)
    assert (answer.status, answer.headers["X-Cache-Bypass-Reason"]) == (200, "large-body")


async def test_a_body_over_the_limit(make_world: MakeWorld) -> None:
    world = await make_world(limits={"body_bytes": 1000})
    answer = await world.ask("x" * 2000)
    assert answer.status == 413
    assert "1000" in answer.json["error"]["message"]

    async def parts() -> Any:
        for _ in range(30):
            yield b"x" * 100

    answer = await world.post(PATH, data=parts(), headers=KEY)
    assert answer.status == 413


async def test_doubled_members_are_passed_on_and_not_cached(world: World) -> None:
    body = b'{"model": "x", "model": "demo-chat", "messages": [{"role": "user", "content": "who am i"}]}'
    for _ in range(2):
        answer = await world.post(PATH, data=body, headers=KEY)
        assert answer.status == 200
        assert answer.headers["X-Cache-Bypass-Reason"] == "ambiguous-json"


async def test_strange_texts(world: World) -> None:
    for text in ("\ud800 half a pair", "\0", "🎈" * 500, "‮right to left", "a\r\nX-Injected: 1"):
        first = await world.post(PATH, data=json.dumps(chat(text)), headers=KEY)
        assert first.status == 200
        assert "X-Injected" not in first.headers


async def test_a_category_that_does_not_exist(world: World) -> None:
    answer = await world.ask("what category is this then", headers={"X-Nearhit-Category": "nonsense\t"})
    assert answer.status == 200
    assert answer.headers["X-Cache-Category"] == "default"


def chat(text: Any) -> dict[str, Any]:
    return {"model": "demo-chat", "messages": [{"role": "user", "content": text}]}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(
    ["model", "messages", "stream", "stream_options", "n", "tools", "temperature", "cache", "response_format"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(members, json_values, max_size=4))
async def test_whatever_the_members_no_call_ends_in_our_own_500(world: World, odd: dict[str, Any]) -> None:
    body = chat("whatever this may be") | odd
    direct = await world.session.post(world.upstream_url + PATH, data=json.dumps(body), headers=KEY)
    answer = await world.post(PATH, data=json.dumps(body), headers=KEY)
    assert answer.status == direct.status
    await direct.release()


async def test_json_nested_deeper_than_we_compare_is_the_upstreams_to_judge(world: World) -> None:
    for depth in (900, 980, 100_000):
        nested = b"[" * depth + b"1" + b"]" * depth
        body = json.dumps(chat("how deep is it")).encode()[:-1] + b', "x": ' + nested + b"}"
        direct = await world.session.post(world.upstream_url + PATH, data=body, headers=KEY)
        answer = await world.post(PATH, data=body, headers=KEY)
        assert answer.status == direct.status
        await direct.release()


async def test_a_number_beyond_what_we_read_is_the_upstreams_to_judge(make_world: MakeWorld) -> None:
    """JSON bounds no number (RFC 8259, section 6)."""
    came = []

    async def fine(request: web.BaseRequest) -> web.Response:
        came.append(await request.read())
        return web.json_response({"is": "fine"})

    async with upstream(fine) as url:
        world = await make_world(upstream_url=url)
        for odd in (b"9" * 5000, b"-1e999", b"[" * 100_000 + b"]" * 100_000):
            body = (
                json.dumps(chat("how long is it") | {"stream": True}).encode()[:-1] + b', "x": ' + odd + b"}"
            )
            answer = await world.post(PATH, data=body, headers=KEY)
            assert (answer.status, answer.headers["X-Cache-Bypass-Reason"]) == (200, "ambiguous-json")
            assert came.pop() == body


@pytest.mark.parametrize("nobody", ["", "Bearer", "Bearer ", "basic"])
async def test_an_empty_key_is_nobodys(world: World, nobody: str) -> None:
    answer = await world.post(PATH, json=chat("who am i"), headers={"Authorization": nobody})
    assert answer.headers["X-Cache-Bypass-Reason"] == "anonymous"


async def test_a_bad_streaming_request_goes_up_once(world: World) -> None:
    await world.ask("this one is good", stream=True)
    before = await world.upstream_calls()
    answer = await world.ask("is this any good", stream=True, headers={"X-Demo-Status": "400"})
    assert answer.status == 400
    assert await world.upstream_calls() == before + 1
