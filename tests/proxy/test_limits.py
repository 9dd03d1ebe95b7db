"""Places at the upstream: who gets one, who waits, who is refused, and that none is ever lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import openai
import pytest
from world import MakeWorld, World

from policies.admission import SPARED, START, Limit
from proxy.admin import views
from proxy.admin.gauges import Gauges
from proxy.demo.upstream import Behaviour
from proxy.errors import CallError, Crowded, Unreachable, UpstreamSlow
from proxy.upstreams.limits import Admission

SLOW = Behaviour(latency_s=0.3)
KIND = ("model", False)


def admission(places: int = 1, queue: int = 8, timeout_s: float = 5.0) -> Admission:
    return Admission(Limit(places, places), queue, timeout_s)


async def hold(here: Admission, until: asyncio.Event, who: str = "a", priority: int = 1) -> str:
    async with here.place(KIND, priority, who):
        await until.wait()
    return who


async def test_a_place_goes_to_the_next_in_line() -> None:
    here, done = admission(), asyncio.Event()
    order: list[str] = []

    async def call(who: str, priority: int) -> None:
        async with here.place(KIND, priority, who):
            order.append(who)
            await done.wait()

    async with asyncio.TaskGroup() as group:
        for who, priority in (("first", 1), ("low", 0), ("high", 5)):
            group.create_task(call(who, priority))
        await asyncio.sleep(0)
        assert here.shown() == {"limit": 1, "adapts": False, "in_use": 1, "waiting": 2, "refused": {}}
        done.set()
    assert order == ["first", "high", "low"]
    assert (here.in_use, here.waiting) == (0, 0)


async def test_a_full_line_refuses_and_lets_more_urgent_calls_in() -> None:
    here, done = admission(queue=1), asyncio.Event()
    holding, waiting = (asyncio.ensure_future(hold(here, done)) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(Crowded) as refused:
        await hold(here, done, "b")
    assert refused.value.headers["Retry-After"] == "2"
    urgent = asyncio.ensure_future(hold(here, done, "c", priority=2))
    with pytest.raises(Crowded):
        await waiting
    done.set()
    assert await holding == "a"
    assert await urgent == "c"
    assert here.refused == {"full": 1, "outranked": 1}


async def test_background_calls_do_not_wait() -> None:
    here, done = admission(), asyncio.Event()
    holding = asyncio.ensure_future(hold(here, done))
    await asyncio.sleep(0)
    with pytest.raises(Crowded):
        async with here.place(KIND, 9, "a", background=True):
            pass
    done.set()
    await holding


async def test_waiting_ends() -> None:
    here, done = admission(timeout_s=0.05), asyncio.Event()
    holding = asyncio.ensure_future(hold(here, done))
    await asyncio.sleep(0)
    with pytest.raises(Crowded):
        await hold(here, done)
    assert here.refused == {"timeout": 1}
    done.set()
    await holding


@pytest.mark.parametrize("seed", range(5))
async def test_no_place_is_lost_whatever_callers_do(seed: int) -> None:
    drawn = random.Random(seed)
    here = admission(places=3, queue=20, timeout_s=0.02)
    most = 0

    async def call() -> None:
        nonlocal most
        async with here.place(KIND, drawn.randrange(3), drawn.choice("abc"), drawn.random() < 0.1) as place:
            most = max(most, here.in_use)
            await asyncio.sleep(drawn.random() * 0.01)
            here.answered(place, drawn.choice([200, 200, 500]))

    calls = []
    for _ in range(400):
        calls.append(asyncio.ensure_future(call()))
        if drawn.random() < 0.3:
            await asyncio.sleep(drawn.random() * 0.004)
        if drawn.random() < 0.4:
            drawn.choice(calls).cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert (here.in_use, here.waiting, most) == (0, 0, 3)
    kinds = {type(end) for end in ended}
    assert kinds == {type(None), Crowded, asyncio.CancelledError}
    async with here.place(KIND, 1, "a"):
        assert here.in_use == 1


@pytest.mark.parametrize("steps", range(4))
async def test_who_is_granted_a_place_while_leaving_gives_it_on(steps: int) -> None:
    here, done = admission(), asyncio.Event()
    first, leaving, last = (asyncio.ensure_future(hold(here, done)) for _ in range(3))
    await asyncio.sleep(0)
    done.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(first, leaving, last, return_exceptions=True)
    assert last.result() == "a"
    assert (here.in_use, here.waiting) == (0, 0)


async def test_who_leaves_in_the_moment_in_which_it_is_outranked_disturbs_nobody() -> None:
    here, done = admission(queue=1), asyncio.Event()
    holding, leaving = (asyncio.ensure_future(hold(here, done)) for _ in range(2))
    await asyncio.sleep(0)
    urgent = asyncio.ensure_future(hold(here, done, "c", priority=2))
    leaving.cancel()
    done.set()
    assert await asyncio.gather(holding, urgent) == ["a", "c"]
    assert (here.in_use, here.waiting) == (0, 0)


async def test_who_waits_gets_its_place_as_soon_as_there_are_more() -> None:
    here, done = admission(), asyncio.Event()
    async with here.place(KIND, 1, "a") as place:
        waiting = asyncio.ensure_future(hold(here, done))
        await asyncio.sleep(0)
        here.limit = Limit(1, 8)
        here.answered(place, 200)
        assert (here.in_use, here.waiting) == (2, 0)
    done.set()
    await waiting


class Rounds:
    """Calls that go up together, round by round, in a time of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.here = Admission(Limit(), 0, 5.0, clock=lambda: self.now)

    async def go(
        self, calls: int, first_byte_s: float, end: int | CallError = 200, rest_s: float = 0.0
    ) -> None:
        """`end`: status of the answers, or the error instead of them. `rest_s`: from their first bytes on."""
        async with AsyncExitStack() as stack:
            places = [await stack.enter_async_context(self.here.place(KIND, 1, "a")) for _ in range(calls)]
            self.now += first_byte_s
            for place in places:
                if isinstance(end, CallError):
                    self.here.failed(place, end)
                else:
                    self.here.answered(place, end)
            self.now += rest_s


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


async def test_refusals_teach_nothing(rounds: Rounds) -> None:
    """One caller with a wrong key must not make everybody else's answers look slow."""
    for _ in range(40):
        await rounds.go(1, 2.0)
    for status in (400, 401, 403, 404, 422) * 40:
        await rounds.go(1, 1 / 64, status)
    for _ in range(20):
        await rounds.go(rounds.here.limit.places, 2.0)
    assert rounds.here.limit.places == START


@pytest.mark.parametrize(
    ("end", "places"),
    [
        *[(status, SPARED) for status in (429, 500, 502, 503, 504, 529)],
        (UpstreamSlow("slow"), SPARED),
        (Unreachable("gone"), START),
    ],
)
async def test_an_upstream_with_too_much_to_do_has_fewer_places(
    rounds: Rounds, end: int | CallError, places: int
) -> None:
    for _ in range(40):
        await rounds.go(rounds.here.limit.places, 1.0, end)
    assert rounds.here.limit.places == places


async def test_long_answers_are_no_waiting_ones(rounds: Rounds) -> None:
    for _ in range(40):
        await rounds.go(1, 0.1, rest_s=10.0)
    for _ in range(20):
        await rounds.go(rounds.here.limit.places, 0.3, rest_s=10.0)
    assert rounds.here.limit.places >= START


async def test_who_is_refused_is_told_how_long_places_are_held(rounds: Rounds) -> None:
    for _ in range(100):
        await rounds.go(1, 10.0, rest_s=30.0)
    with pytest.raises(Crowded) as refused:
        await rounds.go(START + 1, 1.0)
    assert refused.value.headers["Retry-After"] == "5"


# As callers see it


async def until_waiting(world: World, count: int) -> None:
    assert world.app.fleet.first.admission is not None
    for _ in range(500):
        if world.app.fleet.first.admission.waiting == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(world.app.fleet.first.admission.shown())


@pytest.fixture
async def tight(make_world: MakeWorld) -> World:
    return await make_world(SLOW, upstream={"limit": 1, "queue": 1})


@pytest.fixture
async def sdk(tight: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=tight.url + "/v1", api_key="one", max_retries=0) as client:
        yield client


async def test_the_openai_sdk_is_told_when_to_come_back(tight: World, sdk: openai.AsyncOpenAI) -> None:
    others = [asyncio.ensure_future(tight.ask(text)) for text in ("first of all", "second best choice")]
    await until_waiting(tight, 1)
    with pytest.raises(openai.RateLimitError) as refused:
        await sdk.chat.completions.create(
            model="demo-chat", messages=[{"role": "user", "content": "third time lucky here"}]
        )
    assert refused.value.type == "rate_limit_error"
    assert refused.value.code == "model_overloaded"
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert [answer.status for answer in await asyncio.gather(*others)] == [200, 200]


async def test_the_openai_sdk_comes_back_by_itself(tight: World, sdk: openai.AsyncOpenAI) -> None:
    others = [asyncio.ensure_future(tight.ask(text)) for text in ("first of all", "second best choice")]
    await until_waiting(tight, 1)
    answer = await sdk.with_options(max_retries=3).chat.completions.create(
        model="demo-chat", messages=[{"role": "user", "content": "third time lucky here"}]
    )
    assert answer.choices[0].message.content
    await asyncio.gather(*others)


async def test_a_stale_answer_stands_in_for_a_refusal(tight: World) -> None:
    old = await tight.ask("brief me about it now")
    await tight.settled()
    tight.clock.now += 60
    others = [asyncio.ensure_future(tight.ask(text)) for text in ("first of all", "second best choice")]
    await until_waiting(tight, 1)
    answer = await tight.ask("brief me about it now")
    assert (answer.cache, answer.text) == ("STALE exact", old.text)
    assert answer.headers["Cache-Status"].startswith("nearhit; hit; ttl=-50")
    await asyncio.gather(*others)


async def test_a_caller_who_leaves_the_line_is_not_sent_up(tight: World) -> None:
    first = asyncio.ensure_future(tight.ask("first of all"))
    second = asyncio.ensure_future(tight.ask("second best choice"))
    await until_waiting(tight, 1)
    second.cancel()
    await until_waiting(tight, 0)
    assert (await first).status == 200
    await tight.settled()
    assert await tight.upstream_calls() == 1


async def test_who_rides_along_waits_no_longer_than_who_leads(make_world: MakeWorld) -> None:
    world = await make_world(Behaviour(latency_s=1.0), upstream={"limit": 1, "queue_timeout": 0.2})
    first = asyncio.ensure_future(world.ask("first of all"))
    await asyncio.sleep(0.1)
    answers = await asyncio.gather(*[world.ask("second best choice") for _ in range(3)])
    assert [answer.status for answer in answers] == [429] * 3
    assert (await first).status == 200
    assert await world.upstream_calls() == 1


async def test_bypassed_calls_take_places_too(make_world: MakeWorld) -> None:
    world = await make_world(SLOW, upstream={"limit": 1})
    own = {"Cache-Control": "no-store"}
    calls = [asyncio.ensure_future(world.ask(headers=dict(own))) for _ in range(2)]
    await until_waiting(world, 1)
    assert [answer.status for answer in await asyncio.gather(*calls)] == [200, 200]


async def test_priority_keeps_its_latency_under_overload(make_world: MakeWorld, categories: Path) -> None:
    for name, priority in (("urgent", 5), ("later", 0)):
        policy = f"threshold: 0.99, ttl: 1h, priority: {priority}, match: {{patterns: ['^{name}']}}"
        (categories / f"{name}.yaml").write_text(f"{{name: {name}, {policy}}}")
    world = await make_world(Behaviour(latency_s=0.03, capacity=2), upstream={"limit": 2})
    took: dict[str, list[float]] = {"urgent": [], "later": []}

    async def call(name: str, number: int) -> None:
        started = perf_counter()
        answer = await world.ask(
            f"{name} question number{number} of{number} many{number}", key=f"k{number % 3}"
        )
        assert answer.status == 200
        took[name].append(perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(call("urgent" if number % 6 == 5 else "later", number))
            await asyncio.sleep(0.005)
    p95 = {name: quantiles(times, n=20)[-1] for name, times in took.items()}
    assert p95["urgent"] < p95["later"]


async def test_a_limit_is_off_unless_it_is_set(world: World) -> None:
    assert world.app.fleet.first.admission is None


async def test_it_shows_in_the_metrics(tight: World) -> None:
    texts = ("first of all", "second best choice", "third time lucky here")
    await asyncio.gather(*[tight.ask(text) for text in texts])
    tight.app.metrics.registry.register(Gauges(tight.app))
    shown = (await views.load(tight.app))["upstreams"]["upstream"]
    assert shown["admission"] == {
        "limit": 1, "adapts": False, "in_use": 0, "waiting": 0, "refused": {"full": 1}
    }  # fmt: skip
    assert not shown["down"]
    text = (await tight.app.metrics.render()).decode()
    assert 'nearhit_upstream_limit{upstream="upstream"} 1.0' in text
    assert 'nearhit_upstream_refused_total{reason="full",upstream="upstream"} 1.0' in text
    assert 'nearhit_upstream_wait_seconds_count{upstream="upstream"} 1.0' in text
