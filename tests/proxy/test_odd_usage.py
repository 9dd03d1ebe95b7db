"""What upstreams count wrongly costs no call, and what callers name at length no memory."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from world import MakeWorld, World, upstream

from proxy.dialects.base import Usage


@pytest.mark.parametrize("count", [-1, 10**30, 10**400, "7", None, 1.5])
async def test_a_hit_on_an_answer_with_an_odd_count(make_world: MakeWorld, count: Any) -> None:
    async def odd(request: web.BaseRequest) -> web.StreamResponse:
        usage = {"prompt_tokens": count, "completion_tokens": count}
        if request.path.endswith("embeddings"):
            return web.json_response({"data": [{"index": 0, "embedding": [1.0]}], "usage": usage})
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}
        return web.json_response({"choices": [choice], "usage": usage})

    async with upstream(odd) as url:
        world = await make_world(upstream_url=url)
        for expected in ("MISS", "HIT exact"):
            assert (await world.ask()).cache == expected
            await world.settled()
        for expected in ("MISS", "HIT exact"):
            answer = await world.send("/v1/embeddings", {"model": "m", "input": "a"})
            assert (answer.status, answer.cache) == (200, expected)
        entries = world.app.cache.entries.select(lambda entry: True)
        assert entries
        assert all(each.tokens_in == each.tokens_out == 0 for each in entries)


@pytest.mark.parametrize("usage", [[], [1], "7", 7, None])
async def test_usage_that_is_no_object_costs_no_hit(make_world: MakeWorld, usage: Any) -> None:
    async def odd(request: web.BaseRequest) -> web.StreamResponse:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}
        return web.json_response({"choices": [choice], "usage": usage})

    async with upstream(odd) as url:
        world = await make_world(upstream_url=url)
        for expected in ("MISS", "HIT exact"):
            assert (await world.ask()).cache == expected
            await world.settled()


def test_what_counts_as_a_count() -> None:
    assert Usage.told(5, 0) == Usage(5, 0)
    assert Usage.told(2**31, -5) == Usage()


async def test_a_name_as_long_as_a_book_is_not_remembered(world: World) -> None:
    answer = await world.ask(model="m" * 100_000)
    assert answer.headers["X-Cache-Bypass-Reason"] == "not-understood"
    assert all(len(each.model) < 1000 for each in world.app.ledger.recent)
    assert world.app.fleet.of.cache_info().currsize <= 1
