"""Hits that are checked against fresh answers, and what comes of it: on real sockets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from doubles import Clock
from test_admin import Plane, plane_of
from world import MakeWorld, World, upstream

from policies.audit import EVIDENCE
from proxy import auditing
from proxy.demo.upstream import Behaviour
from proxy.judge import MOST_ANSWER, Judge
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


async def test_the_judge_is_asked_for_little_and_directly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    model = await run("SAME")
    assert await asked(model.url) is True
    assert 0 < model.bodies[0]["max_tokens"] <= 32


@pytest.mark.parametrize(("excess", "verdict"), [(0, True), (1, None)])
async def test_no_more_is_read_of_the_judges_answer_than_a_verdict_takes(
    run: Run, excess: int, verdict: bool | None
) -> None:
    model = await run("SAME" + " " * MOST_ANSWER * excess)
    assert await asked(model.url) is verdict


async def asked(url: str) -> bool | None:
    judge = await asyncio.to_thread(Judge, Chosen.model_validate({"url": url}))
    try:
        return await judge.same("question", "one", "other")
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
