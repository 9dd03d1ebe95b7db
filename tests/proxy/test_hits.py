"""What callers are promised: who gets whose answer, and who never does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from doubles import Clock, WordEmbedder
from world import MakeWorld, World, open_world, upstream

from embeddings.remembered import Remembered
from policies.classifier import Classifier
from policies.guards import facts as guards_facts
from proxy.admin.explaining import explain
from proxy.admin.inputs import Explained
from proxy.demo.upstream import Behaviour, run_demo_upstream
from proxy.settings import Settings
from proxy.telemetry.report import for_browsers

ASKED = "how are you today my friend"
REWORDED = "how are you my friend"
"""Five of six words: a cosine of about 0.9."""


async def test_miss_then_exact_hit(world: World) -> None:
    first = await world.ask(ASKED)
    assert first.cache == "MISS"
    assert first.headers["Cache-Status"] == "nearhit; fwd=miss; stored"
    await world.settled()
    second = await world.ask(ASKED)
    assert second.cache == "HIT exact"
    assert second.body == first.body
    assert second.headers["Cache-Status"].startswith("nearhit; hit; ttl=3600; detail=exact")
    assert second.headers["X-Cache-Entry-Id"] == first.headers["X-Cache-Entry-Id"]
    assert await world.upstream_calls() == 1


async def test_a_paraphrase_is_a_semantic_hit(world: World) -> None:
    first = await world.ask(ASKED)
    await world.settled()
    second = await world.ask(REWORDED)
    assert second.cache == "HIT semantic"
    assert second.json == first.json
    assert second.headers["X-Cache-Category"] == "default"


async def test_a_page_may_read_what_comes_from_memory(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour(latency_s=0.1))
    page = {"headers": {"Origin": "https://app.example"}}
    for stream in (False, True):
        asked = [world.ask(f"{ASKED} {stream}", stream=stream, **page) for _ in range(2)]
        answers = await asyncio.gather(*asked)
        await world.settled()
        answers.append(await world.ask(f"{ASKED} {stream}", stream=stream, **page))
        hits = [answer for answer in answers if answer.cache != "MISS"]
        assert sorted(hit.cache for hit in hits) == ["HIT exact", "HIT inflight"]
        for hit in hits:
            assert hit.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert hit.headers["Vary"] == "Origin"
    elsewhere = await world.ask(f"{ASKED} False")
    assert elsewhere.cache == "HIT exact"
    assert "Access-Control-Allow-Origin" not in elsewhere.headers


async def test_a_page_that_did_not_have_to_ask_may_not_read(world: World) -> None:
    """Its browser sends plain text to whomever without a preflight: any page could look into a cache here."""
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": ASKED}]}
    sent = {"Authorization": "Bearer one", "Origin": "https://evil.example", "Content-Type": "text/plain"}
    for cache in ("MISS", "HIT exact"):
        answer = await world.post("/v1/chat/completions", data=json.dumps(body).encode(), headers=sent)
        assert answer.cache == cache
        assert "Access-Control-Allow-Origin" not in answer.headers
        await world.settled()


async def test_a_question_is_read_while_it_is_embedded(make_world: MakeWorld) -> None:
    embedder = WordEmbedder()
    world = await make_world(embedder=embedder)
    embedder.gate.clear()
    known = guards_facts._of_short.cache_info().misses
    asking = asyncio.create_task(world.ask("which of these was never read before"))
    while not embedder.asked:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    assert guards_facts._of_short.cache_info().misses == known + 1
    embedder.gate.set()
    assert (await asking).cache == "MISS"


async def test_a_text_that_nothing_will_be_compared_with_is_not_read(world: World) -> None:
    known = guards_facts._of_long.cache_info().misses
    assert (await world.ask("a long story " * 200)).cache == "MISS"
    assert guards_facts._of_long.cache_info().misses == known


@pytest.mark.parametrize("several", [False, True])
async def test_a_page_may_not_read_where_another_upstream_may_have_let_it(several: bool) -> None:
    sent = {"Origin": "https://app.example", "Content-Type": "application/json"}
    fleet: Any = SimpleNamespace(several=several)
    told = for_browsers(make_mocked_request("POST", "/", headers=sent), fleet)
    assert ("Access-Control-Allow-Origin" in told) == (not several)


async def test_something_else_is_a_miss(world: World) -> None:
    await world.ask(ASKED)
    await world.settled()
    assert (await world.ask("what is the capital of france")).cache == "MISS"


@pytest.mark.parametrize(
    ("asked", "then"),
    [
        ("convert 15 euros to dollars for me please", "convert 50 euros to dollars for me please"),
        ("how do i enable dark mode on my phone", "how do i disable dark mode on my phone"),
        ("should i drink coffee before the long run", "should i not drink coffee before the long run"),
    ],
)
async def test_a_guard_keeps_near_questions_apart(world: World, asked: str, then: str) -> None:
    await world.ask(asked)
    await world.settled()
    answer = await world.ask(then, headers={"X-Nearhit-Debug": "1"})
    assert answer.cache == "MISS"
    assert float(answer.headers["X-Cache-Similarity"]) > float(answer.headers["X-Cache-Threshold"])


async def test_tenants_do_not_share(world: World) -> None:
    await world.ask(ASKED, key="one")
    await world.settled()
    assert (await world.ask(ASKED, key="two")).cache == "MISS"
    assert (await world.ask(REWORDED, key="three")).cache == "MISS"


async def test_no_time_taken_tells_a_tenant_what_another_asked(make_world: MakeWorld) -> None:
    encoder = WordEmbedder()
    world = await make_world(embedder=Remembered(encoder, 100))
    cached_only = {"Cache-Control": "only-if-cached"}
    await world.ask(ASKED, key="one")
    await world.settled()
    for key, embedded in (("two", 2), ("two", 2), ("one", 2), ("three", 3)):
        assert (await world.ask(ASKED, key=key, n=2, headers=cached_only)).status == 504
        assert encoder.asked.count(ASKED) == embedded


async def test_tenants_share_where_the_category_says_so(world: World) -> None:
    await world.ask("common knowledge of the seven seas", key="one")
    await world.settled()
    assert (await world.ask("common knowledge of the seven seas", key="two")).cache == "HIT exact"
    assert (await world.ask("common knowledge of seven seas", key="three")).cache == "HIT semantic"


async def test_a_caller_who_names_another_category_is_not_served_from_the_shared_one(world: World) -> None:
    await world.ask("common knowledge of the seven seas", key="one")
    await world.settled()
    named = {"X-Nearhit-Category": "strict"}
    assert (await world.ask("common knowledge of the seven seas", key="two", headers=named)).cache == "MISS"


async def test_a_category_that_no_longer_shares_keeps_its_answers_apart(world: World) -> None:
    await world.ask("common knowledge of the seven seas", key="one")
    await world.settled()
    folder = world.app.settings.categories
    assert folder is not None
    file = folder / "common.yaml"
    file.write_text(file.read_text().replace("shared", "tenant"))
    await world.app.categories.reload()
    assert (await world.ask("common knowledge of the seven seas", key="two")).cache == "MISS"


@pytest.mark.parametrize(
    "change", [("scope: shared", "scope: tenant"), ("scope: shared", "scope: shared, cacheable: false")]
)
@pytest.mark.parametrize("asked", ["open knowledge of the seven seas", "common knowledge of the seven seas"])
async def test_what_a_category_no_longer_allows_is_not_found_through_another(
    world: World, change: tuple[str, str], asked: str
) -> None:
    await world.ask("common knowledge of the seven seas", key="one")
    await world.settled()
    folder = world.app.settings.categories
    assert folder is not None
    (folder / "common.yaml").write_text((folder / "common.yaml").read_text().replace(*change))
    await world.app.categories.reload()
    open_ = await world.ask(asked, key="two", headers={"X-Nearhit-Category": "open"})
    assert (open_.headers["X-Cache-Category"], open_.cache) == ("open", "MISS")


async def test_a_caller_without_identity_shares_nothing(world: World) -> None:
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": ASKED}]}
    for _ in range(2):
        answer = await world.post("/v1/chat/completions", json=body)
        assert answer.status == 200
        assert answer.cache == "BYPASS"
        assert answer.headers["X-Cache-Bypass-Reason"] == "anonymous"


async def test_anonymous_callers_may_share_if_settings_say_so(make_world: MakeWorld) -> None:
    world = await make_world(tenancy={"anonymous": "share"})
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": ASKED}]}
    await world.post("/v1/chat/completions", json=body)
    await world.settled()
    assert (await world.post("/v1/chat/completions", json=body)).cache == "HIT exact"
    assert (await world.ask(ASKED, key="one")).cache == "MISS"


@pytest.mark.parametrize(
    "other",
    [
        {"model": "demo-chat-large"},
        {"temperature": 0.1},
        {"max_tokens": 500},
        {"user": "x"},
        {"metadata": {"a": "b"}},
    ],
)
async def test_every_other_field_separates(world: World, other: dict[str, Any]) -> None:
    await world.ask(ASKED)
    await world.settled()
    assert (await world.ask(ASKED, **other)).cache == "MISS"


async def test_earlier_turns_must_match(world: World) -> None:
    def turns(language: str, last: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f"write a loop in {language}"},
            {"role": "assistant", "content": "here it is"},
            {"role": "user", "content": last},
        ]

    await world.ask(messages=turns("python", "and now make it fast please"))
    await world.settled()
    assert (await world.ask(messages=turns("rust", "and now make it fast please"))).cache == "MISS"
    await world.settled()
    assert (await world.ask(messages=turns("python", "now make it fast please"))).cache == "HIT semantic"


async def test_a_tool_result_matches_only_to_the_letter(world: World) -> None:
    def turns(result: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": ASKED}, {"role": "tool", "tool_call_id": "1", "content": result}]

    await world.ask(messages=turns("it is very warm here today"))
    await world.settled()
    assert (await world.ask(messages=turns("it is very warm here"))).cache == "MISS"
    assert (await world.ask(messages=turns("it is very warm here today"))).cache == "HIT exact"


async def test_a_text_longer_than_the_model_reads_matches_only_to_the_letter(world: World) -> None:
    long = "word " * 500
    await world.ask(long)
    await world.settled()
    assert (await world.ask(long + "and more")).cache == "MISS"
    assert (await world.ask(long)).cache == "HIT exact"


async def test_answers_grow_old(make_world: MakeWorld) -> None:
    clock = Clock()
    world = await make_world(clock=clock)
    await world.ask(ASKED)
    await world.settled()
    clock.now += 3000
    answer = await world.ask(REWORDED)
    assert (answer.cache, answer.headers["Age"]) == ("HIT semantic", "3000")
    assert "ttl=600" in answer.headers["Cache-Status"]
    clock.now += 700
    assert (await world.ask(ASKED)).cache == "MISS"


@pytest.mark.parametrize(
    ("told", "age", "ttl"),
    [
        ({"Age": "3000"}, "3010", "590"),
        ({"Age": "3000, 7"}, "3010", "590"),
        ({"Age": "soon"}, "10", "3590"),
        ({"Age": "-5"}, "10", "3590"),
        ({"Date": "Tue, 14 Nov 2023 21:00:00 GMT"}, "10", "3590"),  # as may be a clock that is wrong
    ],
)
async def test_an_answer_is_as_old_as_the_caches_before_say(
    make_world: MakeWorld, told: dict[str, str], age: str, ttl: str
) -> None:
    async with upstream(saying("hello", told)) as url:
        world = await make_world(clock=(clock := Clock()), upstream_url=url)
        first = await world.ask(ASKED)
        assert first.headers.get("Age") == told.get("Age")
        await world.settled()
        clock.now += 10
        again = await world.ask(ASKED)
    assert (again.cache, again.headers["Age"]) == ("HIT exact", age)
    assert f"ttl={ttl}" in again.headers["Cache-Status"]


@pytest.mark.parametrize("said", ["no-store", "private, max-age=0", "no-cache, no-store, must-revalidate"])
async def test_the_upstreams_cache_control_is_the_callers_to_read(make_world: MakeWorld, said: str) -> None:
    async with upstream(saying("hello", {"Cache-Control": said})) as url:
        world = await make_world(upstream_url=url)
        assert (await world.ask(ASKED)).headers["Cache-Control"] == said
        await world.settled()
        assert (await world.ask(ASKED)).cache == "HIT exact"


@pytest.mark.parametrize("age", ["7300", "9" * 5000])
async def test_one_that_comes_too_old_is_not_stored(make_world: MakeWorld, age: str) -> None:
    async with upstream(saying("hello", {"Age": age})) as url:
        world = await make_world(upstream_url=url)
        await world.ask(ASKED)
        await world.settled()
        assert not world.app.ledger.recent[-1].stored
        assert len(world.app.cache.entries) == 0


def saying(text: str, headers: dict[str, str]) -> Any:
    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return web.json_response({"choices": [choice]}, headers=headers)

    return answer


async def test_the_best_match_is_served_not_the_first(world: World) -> None:
    far = await world.ask("tell me about the history of rome in short words now")
    near = await world.ask("tell me all about the history of rome in few plain words")
    await world.settled()
    assert far.cache == near.cache == "MISS"
    answer = await world.ask("tell me all about the history of rome in plain words")
    assert answer.headers["X-Cache-Entry-Id"] == near.headers["X-Cache-Entry-Id"]


async def test_the_categorys_threshold_rules(world: World) -> None:
    await world.ask("strict rules for all the people in town")
    await world.settled()
    assert (await world.ask("strict rules for all people in town")).cache == "MISS"
    assert (await world.ask("strict rules for all the people in town")).cache == "HIT exact"


async def test_what_is_not_cacheable_is_bypassed(world: World) -> None:
    for _ in range(2):
        answer = await world.ask("never mind what i said")
        assert (answer.cache, answer.headers["X-Cache-Bypass-Reason"]) == ("BYPASS", "category")
        assert answer.headers["Cache-Status"] == "nearhit; fwd=bypass"


async def test_hits_go_on_without_the_embedder(world: World) -> None:
    await world.ask(ASKED)
    await world.settled()
    world.embedder.broken = True
    assert (await world.ask(ASKED)).cache == "HIT exact"
    assert (await world.ask(REWORDED)).cache == "MISS"
    await world.settled()
    assert (await world.ask(REWORDED)).cache == "HIT exact"
    assert world.app.ledger.recent[-2].degraded == "EmbedderFailed"


async def test_a_classifier_that_fails_costs_hits_and_no_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    await world.ask(ASKED)
    await world.settled()
    monkeypatch.setattr(Classifier, "classify", broken)
    assert (await world.ask(ASKED)).cache == "HIT exact"
    for path, body in (("/v1/chat/completions", REWORDED), ("/v1/embeddings", ASKED)):
        messages = [{"role": "user", "content": body}]
        asked = {"model": "demo-chat", "messages": messages, "input": body}
        for _ in range(2):
            answer = await world.send(path, asked)
            assert (answer.status, answer.cache) == (200, "BYPASS")
            assert answer.headers["X-Cache-Bypass-Reason"] == "unclassified"
    assert world.app.ledger.recent[-1].degraded == "classifier-failed"


async def test_an_sdks_default_call_is_cacheable(world: World) -> None:
    """No temperature given: most callers give none."""
    assert (await world.ask(ASKED)).headers["Cache-Status"].endswith("stored")


async def test_scores_only_on_request(world: World) -> None:
    await world.ask(ASKED)
    await world.settled()
    assert "X-Cache-Similarity" not in (await world.ask(REWORDED)).headers
    told = (await world.ask(REWORDED, headers={"X-Nearhit-Debug": "1"})).headers
    assert 0.8 <= float(told["X-Cache-Similarity"]) < 1
    assert float(told["X-Cache-Threshold"]) == 0.8


async def test_purged_answers_do_not_come_back_from_calls_on_their_way(world: World) -> None:
    world.embedder.gate.clear()
    asking = asyncio.gather(world.ask(ASKED))
    while not world.embedder.asked:
        await asyncio.sleep(0.01)
    world.app.cache.begin_purge()
    world.embedder.gate.set()
    await asking
    await world.settled()
    assert len(world.app.cache.entries) == 0


async def test_nothing_of_the_callers_key_is_kept(world: World) -> None:
    await world.ask(ASKED, key="sk-very-secret")
    await world.settled()
    (entry,) = world.app.cache.entries.select(lambda _: True)
    assert "sk-very-secret" not in json.dumps([str(getattr(entry, name)) for name in entry.__slots__])
    assert "sk-very-secret" not in repr(world.app.ledger.recent)


@asynccontextmanager
async def on_disk(folder: Path, categories: Path, upstream_url: str | None = None) -> AsyncIterator[World]:
    """With what an earlier one stored there; with the demo upstream where no other is set."""
    store = {"url": f"sqlite+aiosqlite:///{folder / 'nearhit.db'}"}
    chosen = {"documents": store, "categories": categories, "upstream": {"url": upstream_url}}
    settings = Settings.model_validate(chosen)
    async with open_world(settings, Behaviour(), WordEmbedder(), Clock(), upstream_url) as world:
        while not world.app.warm_up.done:
            await asyncio.sleep(0.01)
        yield world


async def found(world: World) -> list[str]:
    """The same call, one in other words, and a vector."""
    vector = await world.send("/v1/embeddings", {"model": "demo-embed", "input": ASKED})
    asked = (ASKED, REWORDED)
    return [*[(await world.ask(text)).cache for text in asked], vector.cache]


async def test_what_the_demo_upstream_said_is_never_a_real_answer_nor_the_other_way_round(
    tmp_path: Path, categories: Path
) -> None:
    everywhere = ["HIT exact", "HIT semantic", "HIT exact"]
    async with run_demo_upstream("127.0.0.1", 0) as real:
        for upstream_url in (None, real, None):
            async with on_disk(tmp_path, categories, upstream_url) as world:
                assert (await explain(world.app, Explained(text=ASKED)))["outcome"] == "MISS"
                assert (await world.ask(ASKED)).cache == "MISS"
                await world.settled()
                assert await found(world) == [*everywhere[:2], "MISS"]
                shown = {entry.provenance for entry in world.app.cache.entries.select(lambda entry: True)}
                assert shown == {"" if upstream_url else "simulated"}
            async with on_disk(tmp_path, categories, upstream_url) as world:
                assert await found(world) == everywhere
