"""Questions that are asked while the same is on its way up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from world import Answer, MakeWorld, World, upstream

from proxy.demo.upstream import Behaviour
from proxy.flights import Flight
from proxy.messages import Question

ASKED = "how are you today my friend"
REWORDED = "how are you my friend"
SLOW = Behaviour(latency_s=0.3)


def reports(answers: list[Answer]) -> list[str]:
    return sorted(answer.cache for answer in answers)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_question_goes_up_once(make_world: MakeWorld, stream: bool) -> None:
    world = await make_world(SLOW)
    answers = await asyncio.gather(*[world.ask(ASKED, stream=stream) for _ in range(20)])
    assert reports(answers) == ["HIT inflight"] * 19 + ["MISS"]
    assert len({answer.body for answer in answers}) == 1
    assert await world.upstream_calls() == 1
    follower = next(answer for answer in answers if answer.cache == "HIT inflight")
    assert follower.headers["Cache-Status"] == "nearhit; fwd=miss; collapsed"
    assert follower.headers["Age"] == "0"
    assert not any("Age" in answer.headers for answer in answers if answer.cache == "MISS")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_comes_old_is_as_old_for_all(make_world: MakeWorld, stream: bool) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.3)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}}
        return web.json_response({"id": "x", "choices": [choice]}, headers={"Age": "100"})

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        answers = await asyncio.gather(world.ask(ASKED, stream=stream), world.ask(ASKED, stream=stream))
    assert reports(list(answers)) == ["HIT inflight", "MISS"]
    assert [answer.headers["Age"] for answer in answers] == ["100", "100"]


async def test_streaming_and_not_share_one_call(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    asked = [world.ask(ASKED, stream=stream) for stream in (False, True, False, True)]
    answers = await asyncio.gather(*asked)
    assert await world.upstream_calls() == 1
    assert answers[0].json["choices"][0]["message"] == answers[2].json["choices"][0]["message"]
    assert b"[DONE]" in answers[1].body


async def test_an_alike_question_goes_up_once(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    answers = await asyncio.gather(world.ask(ASKED), world.ask(REWORDED))
    assert reports(list(answers)) == ["HIT inflight", "MISS"]
    assert answers[0].json == answers[1].json


async def test_what_has_no_text_goes_up_once_for_all_who_share(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    begun = [{"role": "user", "content": "common words"}, {"role": "assistant", "content": "They"}]
    common = {"X-Nearhit-Category": "common"}
    calls = [world.ask(key=key, messages=begun, headers=dict(common)) for key in ("one", "two")]
    assert reports(list(await asyncio.gather(*calls))) == ["HIT inflight", "MISS"]


async def test_guards_and_tenants_hold_in_the_air_too(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    answers = await asyncio.gather(
        world.ask("convert 15 euros to dollars for me please"),
        world.ask("convert 50 euros to dollars for me please"),
        world.ask("convert 15 euros to dollars for me please", key="two"),
    )
    assert reports(list(answers)) == ["MISS"] * 3


async def test_followers_survive_a_leader_that_leaves(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    leader = asyncio.ensure_future(world.ask(ASKED))
    await asyncio.sleep(0.1)
    follower = asyncio.ensure_future(world.ask(ASKED))
    await asyncio.sleep(0.1)
    leader.cancel()
    answer = await follower
    assert (answer.status, answer.cache) == (200, "HIT inflight")
    assert await world.upstream_calls() == 1
    await world.settled()
    assert (await world.ask(ASKED)).cache == "HIT exact"


async def test_a_call_nobody_waits_for_is_given_up(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour(latency_s=30))
    leader = asyncio.ensure_future(world.ask(ASKED))
    await asyncio.sleep(0.1)
    assert len(world.app.forwarder.flights) == 1
    leader.cancel()
    await world.settled()


class Leased:
    """Every lease is for us; those on `late` questions come when `gate` opens."""

    def __init__(self, late: str) -> None:
        self.late = late
        self.gate = asyncio.Event()
        self.kept: list[str | None] = []
        self.given_back: list[str | None] = []

    async def ask(self, question: Question) -> str:
        if question.call.text == self.late:
            await self.gate.wait()
        return "mine"

    def keep(self, flight: Flight) -> None:
        self.kept.append(flight.question.call.text)

    def yield_up(self, question: Question) -> None:
        self.given_back.append(question.call.text)


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_rides_along_after_all_gives_its_lease_back(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    world = await make_world(SLOW)
    leased = Leased(REWORDED)
    monkeypatch.setattr(world.app.data_plane._exchange, "_sharing", leased)
    follower = asyncio.ensure_future(world.ask(REWORDED))
    await asyncio.sleep(0.1)
    leader = asyncio.ensure_future(world.ask(ASKED))
    await asyncio.sleep(0.1)
    leased.gate.set()
    await asyncio.sleep(0.1)
    if leaves:
        follower.cancel()
    else:
        assert (await follower).cache == "HIT inflight"
    assert (await leader).cache == "MISS"
    await world.settled()
    assert (leased.kept, leased.given_back) == ([ASKED], [REWORDED])


@pytest.mark.parametrize("stream", [False, True])
async def test_followers_of_a_failure_try_for_themselves(make_world: MakeWorld, stream: bool) -> None:
    world = await make_world(SLOW)
    failing = world.ask(ASKED, stream=stream, headers={"X-Demo-Status": "500"})
    answers = await asyncio.gather(failing, *[world.ask(ASKED, stream=stream) for _ in range(5)])
    assert [answer.status for answer in answers] == [500] + [200] * 5
    assert await world.upstream_calls() <= 3


async def test_followers_of_a_broken_json_answer_try_for_themselves(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    breaking = {"headers": {"X-Demo-Break": "after-1-chunks"}}
    first, *others = await asyncio.gather(
        world.ask(ASKED, **breaking), *[world.ask(ASKED) for _ in range(3)], return_exceptions=True
    )
    assert isinstance(first, Exception)
    assert [other.status for other in others if isinstance(other, Answer)] == [200] * 3


@pytest.mark.parametrize("control", ["no-cache", "no-store"])
async def test_who_wants_a_fresh_or_private_answer_gets_its_own(make_world: MakeWorld, control: str) -> None:
    world = await make_world(SLOW)
    own: dict[str, Any] = {"headers": {"Cache-Control": control}}
    await asyncio.gather(*[world.ask(ASKED, **own) for _ in range(3)])
    assert await world.upstream_calls() == 3


async def test_who_wants_only_what_is_cached_does_not_wait_for_it(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    asking = asyncio.ensure_future(world.ask(ASKED))
    while not world.app.forwarder.flights:
        await asyncio.sleep(0.01)
    assert (await world.ask(ASKED, headers={"Cache-Control": "only-if-cached"})).status == 504
    assert (await asking).cache == "MISS"


async def test_the_door(make_world: MakeWorld) -> None:
    world: World = await make_world(SLOW, limits={"in_flight": 2})
    texts = ("first of all", "second best choice", "third time lucky here")
    answers = await asyncio.gather(*[world.ask(text) for text in texts])
    assert sorted(answer.status for answer in answers) == [200, 200, 429]
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["Retry-After"] == "1"
    assert refused.json["error"]["type"] == "rate_limit_error"


async def test_followers_hear_only_what_is_for_everybody(make_world: MakeWorld) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.3)
        body = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
        own = {"Set-Cookie": "of=the-first", "x-request-id": "1", "Content-Type": "text/event-stream"}
        return web.Response(body=body, headers=own)

    async with upstream(handle) as url:
        world = await make_world(upstream_url=url)
        answers = await asyncio.gather(*[world.ask(ASKED, stream=True) for _ in range(2)])
    leader, follower = sorted(answers, key=lambda answer: answer.cache, reverse=True)
    assert (leader.cache, follower.cache) == ("MISS", "HIT inflight")
    assert leader.headers["Set-Cookie"] == "of=the-first"
    assert not {"Set-Cookie", "x-request-id"} & set(follower.headers)
    assert follower.headers["Content-Type"] == "text/event-stream"


async def test_followers_of_a_stream_that_breaks_before_its_first_byte(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    breaking = world.ask(ASKED, stream=True, headers={"X-Demo-Break": "after-0-chunks"})
    first, *others = await asyncio.gather(
        breaking, *[world.ask(ASKED, stream=True) for _ in range(3)], return_exceptions=True
    )
    assert isinstance(first, Exception)
    assert [isinstance(other, Answer) and other.status for other in others] == [200] * 3


async def test_nobody_boards_a_flight_from_before_a_purge(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    before = asyncio.ensure_future(world.ask(ASKED))
    await asyncio.sleep(0.1)
    world.app.cache.begin_purge()
    after = await world.ask(ASKED)
    assert after.cache == "MISS"
    assert after.text != (await before).text


async def test_what_was_asked_before_a_purge_is_not_stored_after_it(make_world: MakeWorld) -> None:
    world = await make_world(SLOW)
    before = asyncio.ensure_future(world.ask(ASKED))
    while not world.app.forwarder.flights:
        await asyncio.sleep(0.01)
    world.app.cache.begin_purge()
    assert (await before).cache == "MISS"
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_a_slow_call_does_not_overwrite_a_newer_answer(make_world: MakeWorld) -> None:
    world = await make_world(clock=time.time)
    slow = asyncio.ensure_future(world.ask(ASKED, headers={"X-Demo-Latency": "1.5"}))
    await asyncio.sleep(0.1)
    newer = await world.ask(ASKED, headers={"Cache-Control": "no-cache"})
    await slow
    await world.settled()
    assert (await world.ask(ASKED)).text == newer.text


async def test_a_category_that_is_not_cached_boards_nothing(make_world: MakeWorld, categories: Path) -> None:
    live = "name: live\ndescription: Never stored\ncacheable: false\nthreshold: 0.9\nttl: 1h\n"
    (categories / "live.yaml").write_text(live)
    world = await make_world(SLOW)
    leader = asyncio.ensure_future(world.ask(ASKED))
    await asyncio.sleep(0.1)
    other = await world.ask(ASKED, headers={"X-Nearhit-Category": "live"})
    assert (other.cache, other.headers["X-Cache-Category"]) == ("BYPASS", "live")
    assert other.text != (await leader).text


@pytest.mark.parametrize("change", [("shared", "tenant"), ("shared", "shared, cacheable: false")])
@pytest.mark.parametrize("asked", ["open knowledge of the seven seas", "common knowledge of the seven seas"])
async def test_what_a_category_no_longer_allows_is_not_joined_through_another(
    make_world: MakeWorld, categories: Path, change: tuple[str, str], asked: str
) -> None:
    world = await make_world(SLOW)
    leader = asyncio.ensure_future(world.ask("common knowledge of the seven seas", key="one"))
    while not world.app.forwarder.flights:
        await asyncio.sleep(0.01)
    (categories / "common.yaml").write_text((categories / "common.yaml").read_text().replace(*change))
    await world.app.categories.reload()
    other = await world.ask(asked, key="two", headers={"X-Nearhit-Category": "open"})
    assert (other.headers["X-Cache-Category"], other.cache) == ("open", "MISS")
    assert (await leader).cache == "MISS"


async def test_a_category_that_was_closed_meanwhile_shares_no_flight(
    make_world: MakeWorld, categories: Path
) -> None:
    world = await make_world(SLOW)
    leader = asyncio.ensure_future(world.ask("strict words about it"))
    while not world.app.forwarder.flights:
        await asyncio.sleep(0.01)
    strict = categories / "strict.yaml"
    strict.write_text(strict.read_text().replace("ttl: 1h", "ttl: 1h, cacheable: false"))
    await world.app.categories.reload()
    assert (await world.ask("strict words about it")).cache == "BYPASS"
    assert (await leader).cache == "MISS"


async def test_a_made_up_category_makes_no_new_one(make_world: MakeWorld) -> None:
    """Names in counts and metrics are those of the book, whatever a caller writes."""
    world = await make_world(SLOW)
    leader = asyncio.ensure_future(world.ask(ASKED))
    await asyncio.sleep(0.1)
    follower = await world.ask(ASKED, headers={"X-Nearhit-Category": "made-up"})
    assert (follower.cache, follower.headers["X-Cache-Category"]) == ("HIT inflight", "default")
    await leader
    assert set(world.app.ledger.tallies) == {"default"}
