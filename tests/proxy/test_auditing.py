"""Hits that are checked against fresh answers, and what comes of it: on real sockets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from doubles import Clock
from test_admin import Plane, plane_of
from world import MakeWorld, World, upstream

from embeddings.base import EmbedderFailed
from policies.audit import EVIDENCE
from proxy import auditing
from proxy.demo.upstream import Behaviour
from proxy.judge import MOST_ANSWER, MOST_TEXT, Judge
from proxy.settings import Judge as Chosen

ASKED = "audited how are you today my dear friend"
REWORDED = "audited how are you today my friend"
WORDS = "use the revert command and then push what you have to the shared branch again"
OTHER_WORDS = WORDS.replace("use", "take").replace("shared", "common").replace("again", "twice")


@pytest.fixture
def categories(categories: Path) -> Path:
    write(categories)
    return categories


def write(folder: Path, audit: str = "{share: 1, per_hour: 100}", more: str = "") -> None:
    (folder / "audited.yaml").write_text(
        f"{{name: audited, threshold: 0.8, ttl: 1h, match: {{patterns: ['^audited']}}, guards: [],"
        f" audit: {audit} {more}}}"
    )


@pytest.fixture
async def plane(world: World) -> AsyncIterator[Plane]:
    async with plane_of(world) as plane:
        yield plane


@dataclass
class Model:
    """An upstream, or a judge, that says what a test wants. Calls are counted from 1."""

    says: Callable[[int, Any], str | int]
    """Text of the answer, or the status of an error."""
    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Authorization", ""))
        said = self.says(len(self.bodies), self.bodies[-1])
        if isinstance(said, int):
            return web.json_response({"error": {"message": "no"}}, status=said)
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"id": str(len(self.bodies)), "choices": [choice]})


@asynccontextmanager
async def running(model: Model) -> AsyncIterator[Model]:
    async with upstream(model.handle) as model.url:
        yield model


Run = Callable[..., Any]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    async with AsyncExitStack() as stack:

        async def start(*answers: str | int) -> Model:
            """The last answer is repeated."""
            model = Model(lambda number, _: answers[min(number, len(answers)) - 1])
            return await stack.enter_async_context(running(model))

        yield start


async def settled(world: World) -> None:
    for _ in range(500):
        await world.settled()
        if not world.app.forwarder.under_way and not world.app.auditor._running:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("audits are still running")


async def hit(world: World, **options: Any) -> Any:
    """A stored answer, and a hit on it."""
    await world.ask(ASKED, **options)
    await settled(world)
    answer = await world.ask(REWORDED, **options)
    await settled(world)
    return answer


def verdicts(world: World) -> dict[str, int]:
    return {verdict: count for (_, verdict), count in world.app.cache.audits.verdicts.items()}


@pytest.mark.parametrize(
    ("fresh", "verdict", "kept"),
    [
        (WORDS, "right", 1),
        (OTHER_WORDS, "unsure", 1),
        ("the moon is what makes tides rise", "wrong", 1),
    ],
)
async def test_a_served_hit_is_checked(
    make_world: MakeWorld, run: Run, fresh: str, verdict: str, kept: int
) -> None:
    upstream = await run(WORDS, fresh)
    world = await make_world(upstream_url=upstream.url)
    answer = await hit(world)
    assert (answer.cache, answer.text) == ("HIT semantic", WORDS)
    assert verdicts(world) == {verdict: 1}
    assert len(world.app.cache.entries) == kept
    assert len(upstream.bodies) == 2
    assert upstream.bodies[1]["messages"][0]["content"] == REWORDED
    assert upstream.keys == ["Bearer one"] * 2


async def test_another_number_makes_it_wrong_and_the_entry_goes(make_world: MakeWorld, run: Run) -> None:
    upstream = await run("that makes 16 dollars", "that makes 54 dollars")
    world = await make_world(upstream_url=upstream.url)
    await hit(world)
    assert verdicts(world) == {"wrong": 1}
    assert len(world.app.cache.entries) == 0
    assert (await world.ask(REWORDED)).cache == "MISS"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_demo_upstream_is_audited(world: World, stream: bool) -> None:
    """It counts its answers, and each says its own number."""
    assert (await hit(world, stream=stream)).cache == "HIT semantic"
    assert await world.upstream_calls() == 2
    assert sum(verdicts(world).values()) == 1


async def test_repeats_to_the_letter_are_not_audited(world: World) -> None:
    for _ in range(3):
        await world.ask(ASKED)
        await settled(world)
    assert await world.upstream_calls() == 1


async def test_not_for_callers_who_want_nothing_kept(world: World) -> None:
    await world.ask(ASKED)
    await settled(world)
    assert (await world.ask(REWORDED, headers={"Cache-Control": "no-store"})).cache == "HIT semantic"
    await settled(world)
    assert await world.upstream_calls() == 1


async def test_the_budget_holds_per_hour(make_world: MakeWorld, categories: Path) -> None:
    write(categories, "{share: 1, per_hour: 2}")
    clock = Clock()
    world = await make_world(clock=clock)
    await hit(world)
    for _ in range(4):
        await world.ask(REWORDED)
        await settled(world)
    assert await world.upstream_calls() == 3
    clock.now += 3601
    await world.ask(ASKED)
    await settled(world)
    await world.ask(REWORDED)
    await settled(world)
    assert await world.upstream_calls() == 5


async def test_each_category_has_a_budget_of_its_own(world: World, categories: Path) -> None:
    write(categories, "{share: 1, per_hour: 1}")
    other = "{name: other, threshold: 0.8, ttl: 1h, match: {patterns: ['^other']}, guards: []"
    (categories / "other.yaml").write_text(other + ", audit: {share: 1, per_hour: 1}}")
    await world.app.categories.reload()
    for text in (ASKED, REWORDED, "other words for a long walk home", "other words for a walk home"):
        await world.ask(text)
        await settled(world)
    assert world.app.cache.audits.verdicts.total() == 2


async def test_an_audit_takes_no_place_for_which_others_would_wait(make_world: MakeWorld) -> None:
    world = await make_world(upstream={"limit": 1})
    await world.ask(ASKED)
    await settled(world)
    busy = asyncio.ensure_future(world.ask("something else entirely", headers={"X-Demo-Latency": "0.5"}))
    admission = world.app.fleet.first.admission
    assert admission is not None
    while not admission.in_use:
        await asyncio.sleep(0.01)
    assert (await world.ask(REWORDED)).cache == "HIT semantic"
    await busy
    await settled(world)
    assert (admission.refused, verdicts(world)) == ({"background": 1}, {})


async def test_an_audit_without_vectors_is_unsure(
    make_world: MakeWorld, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def embed_many(texts: Any) -> Any:
        raise EmbedderFailed("broken on purpose")

    upstream = await run(WORDS, OTHER_WORDS)
    world = await make_world(upstream_url=upstream.url)
    monkeypatch.setattr(world.embedder, "embed_many", embed_many)
    await hit(world)
    assert verdicts(world) == {"unsure": 1}


def test_a_verdict_on_a_category_that_is_gone_counts_for_nothing(world: World) -> None:
    world.app.auditor.told("gone", 0.9, "wrong")
    assert verdicts(world) == {}


async def test_only_the_share_is_audited(world: World, categories: Path) -> None:
    write(categories, "{share: 0.25, per_hour: 100}")
    await world.app.categories.reload()
    drawn = iter([0.1, 0.3, 0.24, 0.9, 0.25])
    world.app.auditor._draw = lambda: next(drawn)
    await world.ask(ASKED)
    await settled(world)
    for _ in range(5):
        await world.ask(REWORDED)
        await settled(world)
    assert await world.upstream_calls() == 3


async def test_a_hit_does_not_wait_for_its_audit(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour())
    await world.ask(ASKED)
    await settled(world)
    answer = await world.ask(REWORDED, headers={"X-Demo-Hang": "1"})
    assert answer.cache == "HIT semantic"
    assert world.app.auditor._running == 1
    assert world.app.forwarder.under_way == 1


@pytest.mark.parametrize(("times", "on_the_loop"), [(1, True), (2_000, False)])
async def test_large_answers_are_read_beside_the_loop(
    make_world: MakeWorld, run: Run, monkeypatch: pytest.MonkeyPatch, times: int, on_the_loop: bool
) -> None:
    seen: list[bool] = []

    def loads(body: bytes) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        return json.loads(body)

    monkeypatch.setattr(auditing, "json", SimpleNamespace(loads=loads))
    upstream = await run(" ".join([WORDS] * times))
    world = await make_world(upstream_url=upstream.url)
    await hit(world)
    assert verdicts(world) == {"right": 1}
    assert seen == [on_the_loop] * 2


async def test_an_audit_has_a_deadline(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "DEADLINE_S", 0.1)
    world = await make_world()
    await world.ask(ASKED)
    await settled(world)
    await world.ask(REWORDED, headers={"X-Demo-Hang": "1"})
    await settled(world)
    assert verdicts(world) == {}


async def test_audits_at_once_are_bounded(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "AT_ONCE", 2)
    world = await make_world()
    await world.ask(ASKED)
    await settled(world)
    for _ in range(5):
        assert (await world.ask(REWORDED, headers={"X-Demo-Latency": "0.3"})).cache == "HIT semantic"
    assert world.app.auditor._running == 2
    await settled(world)


async def test_an_audit_that_fails_says_nothing(world: World) -> None:
    await world.ask(ASKED)
    await settled(world)
    answer = await world.ask(REWORDED, headers={"X-Demo-Status": "500"})
    await settled(world)
    assert (answer.status, answer.cache, verdicts(world)) == (200, "HIT semantic", {})
    assert await world.upstream_calls() == 2


async def test_no_audit_while_the_upstream_is_under_pressure(world: World) -> None:
    await world.ask(ASKED)
    await settled(world)
    world.app.cache.pressure = lambda model: 0.1
    await world.ask(REWORDED)
    await settled(world)
    assert await world.upstream_calls() == 1
    world.app.cache.pressure = lambda model: 0.0
    await world.ask(REWORDED)
    await settled(world)
    assert await world.upstream_calls() == 2


# A judge


@pytest.mark.parametrize(
    ("judged", "found"),
    [
        ("SAME", {"right": 1}),
        ("DIFFERENT", {"wrong": 1}),
        ("It depends.", {"unsure": 1}),
        (500, {"unsure": 1}),
    ],
)
async def test_a_judge_decides_when_it_says_one_of_two_words(
    make_world: MakeWorld, run: Run, judged: str | int, found: dict[str, int]
) -> None:
    upstream, judge = await run(WORDS, OTHER_WORDS), await run(judged)
    chosen = {"url": judge.url, "model": "umpire", "key": "s3cret", "timeout": 5}
    world = await make_world(upstream_url=upstream.url, judge=chosen)
    await hit(world)
    assert verdicts(world) == found
    assert (judge.bodies[0]["model"], judge.keys) == ("umpire", ["Bearer s3cret"])
    shown = json.loads(judge.bodies[0]["messages"][1]["content"])
    assert shown == {"question": REWORDED, "a": WORDS, "b": OTHER_WORDS}
    assert len(world.app.cache.entries) == (0 if "wrong" in found else 1)


async def test_the_judge_is_not_asked_about_the_same_words(make_world: MakeWorld, run: Run) -> None:
    upstream, judge = await run(WORDS, WORDS.replace(" ", "\n")), await run("DIFFERENT")
    world = await make_world(upstream_url=upstream.url, judge={"url": judge.url})
    await hit(world)
    assert (verdicts(world), judge.bodies) == ({"right": 1}, [])


async def test_the_judge_is_asked_for_little_and_directly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    model = await run("SAME")
    assert await asked(model.url) is True
    assert 0 < model.bodies[0]["max_tokens"] <= 32
    assert (model.bodies[0]["temperature"], model.keys) == (0, [""])


@pytest.mark.parametrize(
    ("said", "verdict"),
    [("same", True), (" Different.\n", False), ("SAME or DIFFERENT", None), ("", None)],
)
async def test_a_verdict_is_one_word_however_it_is_written(run: Run, said: str, verdict: bool | None) -> None:
    assert await asked((await run(said)).url) is verdict


SAME = b'{"choices": [{"message": {"content": "SAME"}}]}'


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, SAME),
        (200, b"{broken"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"choices": []}'),
        (200, SAME.replace(b'"SAME"', b"null")),
        (200, b"[" * 10_000),
    ],
)
async def test_a_judge_that_fails_or_says_something_odd_gives_no_verdict(status: int, body: bytes) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body)

    async with upstream(handle) as url:
        assert await asked(url) is None


async def test_a_judge_that_says_nothing_is_not_waited_for() -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(10)
        raise AssertionError

    async with upstream(handle) as url:
        assert await asyncio.wait_for(asked(url, timeout=0.1), 5) is None


async def test_the_judge_is_shown_the_beginning_of_long_texts(run: Run) -> None:
    model = await run("SAME")
    await asked(model.url, "q" * 50_000, "a" * 50_000, "b" * 50_000)
    shown = json.loads(model.bodies[0]["messages"][1]["content"])
    assert shown == {"question": "q" * MOST_TEXT, "a": "a" * MOST_TEXT, "b": "b" * MOST_TEXT}


@pytest.mark.parametrize(("excess", "verdict"), [(0, True), (1, None)])
async def test_no_more_is_read_of_the_judges_answer_than_a_verdict_takes(
    run: Run, excess: int, verdict: bool | None
) -> None:
    model = await run("SAME" + " " * MOST_ANSWER * excess)
    assert await asked(model.url) is verdict


async def asked(
    url: str, question: str = "question", a: str = "one", b: str = "other", **chosen: float
) -> bool | None:
    judge = await asyncio.to_thread(Judge, Chosen.model_validate({"url": url, **chosen}))
    try:
        return await judge.same(question, a, b)
    finally:
        await judge.close()


def test_the_judges_key_is_masked() -> None:
    from proxy.settings import Settings

    chosen = Settings.model_validate({"judge": {"url": "http://x", "key": "s3cret"}})
    assert "s3cret" not in json.dumps(chosen.masked()) + repr(chosen)


# Shadow


async def test_shadow_compares_at_no_extra_cost(make_world: MakeWorld, run: Run, categories: Path) -> None:
    write(categories, "{share: 1}", ", mode: shadow")
    upstream = await run("that makes 16 dollars", "that makes 54 dollars")
    world = await make_world(upstream_url=upstream.url)
    answer = await hit(world)
    assert (answer.cache, answer.text) == ("SHADOW semantic", "that makes 54 dollars")
    assert verdicts(world) == {"wrong": 1}
    assert len(upstream.bodies) == 2
    assert len(world.app.cache.entries) == 1  # what a trial measures must not be better than what follows it


async def test_shadow_compares_streams_too(world: World, categories: Path) -> None:
    write(categories, "{share: 1}", ", mode: shadow")
    await world.app.categories.reload()
    assert (await hit(world, stream=True)).cache == "SHADOW semantic"
    assert sum(verdicts(world).values()) == 1


async def test_another_models_answer_says_nothing_about_a_hit(
    make_world: MakeWorld, run: Run, categories: Path
) -> None:
    write(categories, "{share: 1}", ", mode: shadow")
    first, second = await run(WORDS, 503), await run("the moon is what makes tides rise")
    asked, standing = (
        {"name": name, "url": model.url, "aliases": {"demo-chat": name}}
        for name, model in (("asked", first), ("standing", second))
    )
    world = await make_world(upstreams=[{**asked, "fallback": ["standing"]}, standing])
    assert (await hit(world)).cache == "SHADOW semantic"
    assert (len(second.bodies), verdicts(world)) == (1, {})


async def test_in_shadow_repeats_to_the_letter_are_not_compared(world: World, categories: Path) -> None:
    write(categories, "{share: 1}", ", mode: shadow")
    await world.app.categories.reload()
    for expected in ("MISS", "SHADOW exact"):
        assert (await world.ask(ASKED)).cache == expected
        await settled(world)
    assert verdicts(world) == {}


async def test_comparisons_at_once_are_bounded_in_shadow_too(
    world: World, categories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "AT_ONCE", 0)
    write(categories, "{share: 1}", ", mode: shadow")
    await world.app.categories.reload()
    assert (await hit(world)).cache == "SHADOW semantic"
    assert verdicts(world) == {}


# The target


async def test_a_threshold_follows_its_target_and_survives_a_reload(
    world: World, plane: Plane, categories: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(categories, more=", target_wrong_rate: 2%")
    await world.app.categories.reload()
    with caplog.at_level("INFO", "nearhit.auditing"):
        for _ in range(EVIDENCE):
            world.app.auditor.told("audited", 0.95, "wrong")
    assert f"threshold of audited: 0.8000 -> 0.8050 ({EVIDENCE} wrong of {EVIDENCE}, 0 unsure" in caplog.text
    shown = await plane.get("/api/v1/categories/audited")
    assert (shown["threshold"], shown["in_force"]["threshold"]) == (0.8, 0.805)
    assert (shown["audit"]["wrong"], shown["audit"]["decided"], shown["audit"]["wrong_rate"]) == (30, 30, 1.0)
    explained = await plane.post("/explain", {"text": ASKED})
    assert explained["threshold"] == 0.805
    metrics = (await plane.call("GET", "/metrics")).body.decode()
    assert 'nearhit_threshold{category="audited"} 0.805' in metrics
    assert 'nearhit_wrong_rate{category="audited"} 1.0' in metrics
    assert 'nearhit_wrong_rate_lower{category="audited"} 0.88' in metrics
    assert 'nearhit_audits_total{category="audited",verdict="wrong"} 30.0' in metrics
    write(categories, more=", target_wrong_rate: 2%, description: other")
    await world.app.categories.reload()
    answer = await world.ask(ASKED, headers={"X-Nearhit-Debug": "1"})
    assert answer.headers["X-Cache-Threshold"] == "0.8050"
    write(categories)
    await world.app.categories.reload()
    assert world.app.cache.policy("audited", 0.0).threshold == 0.8


# Feedback


async def test_feedback_counts_and_a_wrong_one_removes_the_entry(world: World, plane: Plane) -> None:
    first = await world.ask("how are you today my dear friend")
    await settled(world)
    await world.ask("how are you today my friend")
    id = first.headers["X-Cache-Entry-Id"]
    told = await plane.post("/feedback", {"entry_id": id, "verdict": "right"})
    assert (told["category"], told["removed"], told["audit"]["decided"]) == ("default", False, 1)
    told = await plane.post("/feedback", {"entry_id": id, "verdict": "wrong"})
    assert (told["removed"], told["audit"]["wrong"], told["audit"]["decided"]) == (True, 1, 2)
    stats = await plane.get("/api/v1/stats")
    assert stats["categories"]["default"]["audit"]["wrong"] == 1
    assert (await world.ask("how are you today my friend")).cache == "MISS"
    status, _ = await plane.refused("POST", "/api/v1/feedback", json={"entry_id": id, "verdict": "wrong"})
    assert status == 404


def evidence(world: World, category: str, threshold: float) -> int:
    """Verdicts on hits that such a threshold would let through."""
    cache = world.app.cache
    return cache.audits.estimate(replace(cache.rules.book.get(category), threshold=threshold)).wrong.whole


async def test_feedback_is_about_the_last_hit(world: World, plane: Plane) -> None:
    asked, reworded = "how are you today my dear friend", "how are you today my friend"
    id = (await world.ask(asked)).headers["X-Cache-Entry-Id"]
    await settled(world)
    feedback = {"entry_id": id, "verdict": "right"}
    for category, expected in (("brief", "brief"), ("", "default")):
        named = {"X-Nearhit-Category": category} if category else {}
        assert (await world.ask(reworded, headers=named)).cache == "HIT semantic"
        assert (await plane.post("/feedback", feedback))["category"] == expected
        assert [evidence(world, expected, threshold) for threshold in (0.8, 0.99)] == [1, 0]
    await world.ask(asked)
    await plane.post("/feedback", feedback)
    assert evidence(world, "default", 0.99) == 1


async def test_feedback_on_what_would_have_been_a_hit(
    world: World, plane: Plane, categories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "AT_ONCE", 0)
    write(categories, more=", mode: shadow")
    await world.app.categories.reload()
    answer = await hit(world)
    assert answer.cache == "SHADOW semantic"
    await plane.post("/feedback", {"entry_id": answer.headers["X-Cache-Entry-Id"], "verdict": "right"})
    assert [evidence(world, "audited", threshold) for threshold in (0.8, 0.99)] == [1, 0]


async def test_feedback_on_a_stale_answer_is_about_the_hit_that_it_was(world: World, plane: Plane) -> None:
    id = (await world.ask("brief me about it all today please")).headers["X-Cache-Entry-Id"]
    await settled(world)
    world.clock.now += 12
    answer = await world.ask("brief me about it all today", headers={"Cache-Control": "no-store"})
    assert answer.cache == "STALE semantic"
    await plane.post("/feedback", {"entry_id": id, "verdict": "wrong"})
    assert [evidence(world, "brief", threshold) for threshold in (0.8, 0.99)] == [1, 0]


async def test_feedback_on_an_answer_that_nobody_hit_counts_at_every_threshold(
    world: World, plane: Plane
) -> None:
    await world.ask("how are you today my friend")
    await settled(world)
    near = await world.ask("how are you today my little one")
    await settled(world)
    assert near.cache == "MISS"
    assert (await world.ask("how are you today my dear friend")).cache == "HIT semantic"
    await plane.post("/feedback", {"entry_id": near.headers["X-Cache-Entry-Id"], "verdict": "wrong"})
    assert evidence(world, "default", 0.99) == 1


@pytest.mark.parametrize("body", [{}, {"entry_id": "x"}, {"entry_id": "x", "verdict": "maybe"}])
async def test_feedback_that_is_not_understood(plane: Plane, body: Any) -> None:
    assert (await plane.refused("POST", "/api/v1/feedback", json=body))[0] == 400


# Pairs for `nearhit tune`


async def test_checked_pairs_are_written_where_settings_say_so(
    make_world: MakeWorld, run: Run, tmp_path: Path
) -> None:
    upstream = await run("that makes 16 dollars", "that makes 54 dollars")
    file = tmp_path / "pairs.jsonl"
    world = await make_world(upstream_url=upstream.url, audit={"pairs": file})
    await hit(world)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows == [{"a": REWORDED, "b": ASKED, "equivalent": False, "category": "audited"}]


async def test_pairs_of_which_nobody_is_sure_are_not_written(
    make_world: MakeWorld, run: Run, tmp_path: Path
) -> None:
    upstream, file = await run(WORDS, OTHER_WORDS), tmp_path / "pairs.jsonl"
    world = await make_world(upstream_url=upstream.url, audit={"pairs": file})
    await hit(world)
    assert (verdicts(world), file.exists()) == ({"unsure": 1}, False)
