"""Request controls as a caller sees them work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from doubles import Clock
from world import Answer, MakeWorld, World, upstream

from proxy.messages import tenant_digest

ASKED = "how are you today my friend"
REWORDED = "how are you my friend"


async def ask(world: World, text: str = ASKED, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await world.ask(text, headers=named)
    await world.settled()
    return answer


async def test_no_cache_renews_the_stored_answer(world: World) -> None:
    old = await ask(world)
    new = await ask(world, Cache_Control="no-cache")
    assert (new.cache, new.headers["X-Cache-Bypass-Reason"]) == ("BYPASS", "no-cache")
    assert new.headers["Cache-Status"] == "nearhit; fwd=request; stored"
    assert new.text != old.text
    assert (await ask(world)).text == new.text


async def test_no_store_reads_and_does_not_write(world: World) -> None:
    first = await ask(world, Cache_Control="no-store")
    assert first.cache == "MISS"
    assert "stored" not in first.headers["Cache-Status"]
    await ask(world)
    assert (await ask(world, Cache_Control="no-store")).cache == "HIT exact"


async def test_neither_read_nor_write(world: World) -> None:
    await ask(world)
    answer = await ask(world, Cache_Control="no-cache, no-store")
    assert (answer.cache, answer.headers["X-Cache-Bypass-Reason"]) == ("BYPASS", "no-store")
    assert answer.headers["Cache-Status"] == "nearhit; fwd=bypass"


async def test_only_if_cached(world: World) -> None:
    answer = await ask(world, Cache_Control="only-if-cached")
    assert (answer.status, answer.json["error"]["code"]) == (504, "not_cached")
    assert answer.cache == "MISS"
    assert await world.upstream_calls() == 0
    await ask(world)
    assert (await ask(world, REWORDED, Cache_Control="only-if-cached")).cache == "HIT semantic"


async def test_max_age(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    await ask(world)
    clock.now += 100
    assert (await ask(world, Cache_Control="max-age=200")).cache == "HIT exact"
    older = await ask(world, Cache_Control="max-age=50")
    assert (older.cache, older.headers["Cache-Status"]) == ("MISS", "nearhit; fwd=request; stored")


async def test_max_stale(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    await ask(world)
    clock.now += 3700
    answer = await ask(world, Cache_Control="max-stale=200")
    assert answer.cache == "STALE exact"
    assert answer.headers["Cache-Status"] == "nearhit; hit; ttl=-100; detail=exact"
    older = await ask(world, Cache_Control="max-stale=50")
    assert (older.cache, older.headers["Cache-Status"]) == ("MISS", "nearhit; fwd=stale; stored")


async def test_what_has_expired_waits_for_callers_who_would_still_take_it(make_world: MakeWorld) -> None:
    """The category says nothing of `stale`, and the sweep has been there."""
    clock = Clock()
    world = await make_world(clock=clock)
    await ask(world)
    clock.now += 3700
    world.app.cache.sweep(clock(), 500)
    assert (await ask(world, Cache_Control="max-stale=200")).cache == "STALE exact"
    failed = await ask(world, X_Demo_Status="500", Cache_Control="stale-if-error=600")
    assert failed.cache == "STALE exact"
    clock.now += 3600
    world.app.cache.sweep(clock(), 500)
    assert (await ask(world, Cache_Control="only-if-cached, max-stale")).status == 504


async def test_stale_while_revalidate(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    old = await ask(world, "brief me about it now")
    clock.now += 12
    stale = await ask(world, "brief me about it now")
    assert (stale.cache, stale.text) == ("STALE exact", old.text)
    await world.settled()
    fresh = await ask(world, "brief me about it now")
    assert fresh.cache == "HIT exact"
    assert fresh.text != old.text


@pytest.mark.parametrize("status", ["500", "503", "429"])
async def test_stale_if_error(make_world: MakeWorld, status: str) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    old = await ask(world, "brief me about it now")
    clock.now += 100
    answer = await ask(world, "brief me about it now", X_Demo_Status=status)
    assert (answer.status, answer.cache, answer.text) == (200, "STALE exact", old.text)
    assert answer.headers["Cache-Status"] == f"nearhit; fwd=stale; fwd-status={status}"
    refused = await ask(world, "brief me about it now", X_Demo_Status="400")
    assert refused.status == 400


async def test_stale_if_error_on_the_callers_word(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    await ask(world)
    clock.now += 3700
    assert (await ask(world, X_Demo_Status="500")).status == 500
    served = await ask(world, X_Demo_Status="500", Cache_Control="stale-if-error=600")
    assert (served.status, served.cache) == (200, "STALE exact")


async def test_ttl_is_clamped(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    await ask(world, X_Nearhit_TTL="60")
    assert "ttl=60;" in (await ask(world)).headers["Cache-Status"]
    clock.now += 61
    assert (await ask(world, X_Nearhit_TTL="30d")).cache == "MISS"
    assert "ttl=3600;" in (await ask(world)).headers["Cache-Status"]


async def test_thresholds_may_only_be_tightened(world: World) -> None:
    await ask(world, "strict rules for all the people in town")
    assert (
        await ask(world, "strict rules for all people in town", X_Nearhit_Threshold="0.5")
    ).cache == "MISS"
    await ask(world)
    assert (await ask(world, REWORDED, X_Nearhit_Threshold="0.99")).cache == "MISS"


async def test_namespaces_are_apart(world: World) -> None:
    await ask(world, X_Nearhit_Namespace="blue")
    assert (await ask(world, X_Nearhit_Namespace="green")).cache == "MISS"
    assert (await ask(world, X_Nearhit_Namespace="blue")).cache == "HIT exact"
    assert (await ask(world)).cache == "MISS"


async def test_the_category_may_be_named(world: World) -> None:
    answer = await ask(world, X_Nearhit_Category="strict")
    assert answer.headers["X-Cache-Category"] == "strict"
    assert (await ask(world, REWORDED, X_Nearhit_Category="strict")).cache == "MISS"


@pytest.mark.parametrize(
    "header",
    [
        {"cf-aig-skip-cache": "true"}, {"x-portkey-cache-force-refresh": "true"},
        {"Helicone-Cache-Enabled": "false"}, {"X-Cache-Control": "no-cache"},
    ],
)  # fmt: skip
async def test_other_gateways_ways_to_say_it(world: World, header: dict[str, Any]) -> None:
    await ask(world)
    answer = await world.ask(ASKED, headers=header)
    assert answer.cache == "BYPASS"
    await world.settled()


async def test_who_may_not_write_does_not_renew(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    await ask(world, "brief me about it now")
    clock.now += 12
    for _ in range(3):
        assert (await ask(world, "brief me about it now", Cache_Control="no-store")).cache == "STALE exact"
    assert await world.upstream_calls() == 1


@pytest.mark.parametrize(
    ("text", "controls"), [("never mind what i said", ""), ("how are you", ", no-cache, no-store")]
)
async def test_only_if_cached_never_goes_up(world: World, text: str, controls: str) -> None:
    answer = await ask(world, text, Cache_Control="only-if-cached" + controls)
    assert answer.status == 504
    anonymous = await world.ask(text, headers={"Authorization": "", "Cache-Control": "only-if-cached"})
    assert anonymous.status == 504
    assert await world.upstream_calls() == 0


async def test_a_fresh_answer_is_preferred_to_a_nearer_stale_one(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    await ask(world, "brief me about all of it right now please")
    clock.now += 12
    fresh = await ask(world, "brief me about most of it right now please", Cache_Control="no-cache")
    answer = await ask(world, "brief me about all of it right now please do")
    assert (answer.cache, answer.text) == ("HIT semantic", fresh.text)


async def test_what_callers_may_not_ask_for_is_ignored(make_world: MakeWorld) -> None:
    world = await make_world(controls={"allow": ["max-age", "debug"]})
    await ask(world)
    answer = await ask(
        world, REWORDED, Cache_Control="no-cache, only-if-cached", X_Nearhit_Namespace="blue",
        X_Nearhit_Debug="1",
    )  # fmt: skip
    assert answer.cache == "HIT semantic"
    assert "X-Cache-Similarity" in answer.headers
    anonymous = await world.ask(headers={"Authorization": "", "Cache-Control": "only-if-cached"})
    assert anonymous.status == 200


async def test_litellms_members_are_bounded_too(make_world: MakeWorld) -> None:
    world = await make_world(controls={"allow": []})
    await ask(world)
    answer = await world.ask(ASKED, cache={"no-cache": True, "namespace": "mine"})
    assert answer.cache == "HIT exact"


@pytest.mark.parametrize("cache", [b'{"no-store": true}', b'"v1"'])
@pytest.mark.parametrize(
    ("reason", "key", "rest"),
    [
        ("anonymous", "", b'"messages": [{"role": "user", "content": "\xc3\xbc"}]'),
        ("not-understood", "Bearer one", b'"messages": []'),
    ],
)
async def test_litellms_members_end_here_where_the_cache_is_bypassed(
    make_world: MakeWorld, cache: bytes, reason: str, key: str, rest: bytes
) -> None:
    came = []

    async def handle(request: web.BaseRequest) -> web.Response:
        came.append(await request.read())
        return web.json_response({})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        plain, asked = b'{"model": "m", %b}' % rest, b'{"model": "m", %b, "cache": %b}' % (rest, cache)
        for body in (plain, asked):
            answer = await world.post("/v1/chat/completions", data=body, headers={"Authorization": key})
            assert answer.headers["X-Cache-Bypass-Reason"] == reason
    assert came[0] == plain
    assert (json.loads(came[1]) == json.loads(plain)) if cache[:1] == b"{" else (came[1] == asked)


async def test_our_own_headers_win_over_litellms_members(world: World) -> None:
    theirs = {"namespace": "theirs", "ttl": 1000}
    ours = {"X-Nearhit-Namespace": "ours", "X-Nearhit-TTL": "100"}
    await world.ask(ASKED, headers=ours, cache=theirs)
    await world.settled()
    answer = await world.ask(ASKED, headers={"X-Nearhit-Namespace": "ours"})
    assert answer.headers["Cache-Status"] == "nearhit; hit; ttl=100; detail=exact"


async def test_trusted_callers_may(make_world: MakeWorld) -> None:
    trusted = tenant_digest("Authorization: Bearer operator")[:12]
    world = await make_world(controls={"allow": [], "trusted": [trusted]})
    for key, expected in (("operator", "BYPASS"), ("one", "HIT exact")):
        await world.ask(ASKED, key)
        await world.settled()
        assert (await world.ask(ASKED, key, headers={"Cache-Control": "no-cache"})).cache == expected


async def test_a_cache_key_of_another_gateway_keeps_answers_apart(world: World) -> None:
    await ask(world, x_bf_cache_key="session-1")
    assert (await ask(world, x_bf_cache_key="session-2")).cache == "MISS"
    assert (await ask(world, REWORDED, x_bf_cache_key="session-1")).cache == "HIT semantic"
    assert (
        await ask(world, REWORDED + " and", x_bf_cache_key="session-1", x_bf_cache_type="direct")
    ).cache == "MISS"


@pytest.mark.parametrize("key", ["cf_aig_cache_key", "Helicone_Cache_Seed", "x_portkey_cache_namespace"])
async def test_each_of_several_keys_of_other_gateways_keeps_answers_apart(world: World, key: str) -> None:
    def keys(mine: str) -> dict[str, str]:
        return {key: mine, "x_bf_cache_key": "app"}

    await ask(world, **keys("user-1"))
    assert (await ask(world, **keys("user-2"))).cache == "MISS"
    assert (await ask(world, **keys("user-1"))).cache == "HIT exact"


async def test_a_ttl_may_not_go_beyond_the_category(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    await ask(world, cf_aig_cache_ttl="31536000")
    clock.now += 3601
    assert (await ask(world)).cache == "MISS"
