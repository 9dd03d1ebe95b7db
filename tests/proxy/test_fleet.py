"""Several upstreams behind one proxy, over real sockets: who is asked, with what, and who stands in."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from world import Answer, MakeWorld, World, upstream

from policies.errors import ConfigError
from policies.outage import STRIKES
from proxy.admin.gauges import Gauges
from proxy.app import make_fleet
from proxy.cli.main import run
from proxy.settings import Settings
from proxy.upstreams.fleet import CREDENTIALS, Backend, Fleet
from proxy.upstreams.load import UpstreamLoad

Plan = Callable[[web.BaseRequest], int | float]
"""The status to answer with; 0: hang up, a float: seconds of silence before a 200."""


@dataclass
class Echo:
    """An upstream that says who it is and what it was asked, and does as it is told."""

    name: str
    plan: Any = 200
    breaks: bool = False
    """After the first part of the body."""
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.asked.append({"path": request.raw_path, "headers": request.headers, "body": body})
        plan = self.plan
        if isinstance(plan, float):
            await asyncio.sleep(plan)
            plan = 200
        if plan == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if plan != 200:
            return web.json_response({"error": {"message": self.name}}, status=plan)
        if self.breaks:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(b'{"half": ')
            assert request.transport is not None
            await asyncio.sleep(0.05)
            request.transport.abort()
            return response
        return web.json_response(self.says(json.loads(body) if body[:1] == b"{" else {}))

    def says(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "input" in asked:
            data = [
                {"object": "embedding", "index": i, "embedding": [1.0]} for i in range(len(asked["input"]))
            ]
            return {
                "object": "list", "data": data, "model": asked["model"],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }  # fmt: skip
        return {
            "id": "x", "object": "chat.completion", "created": 1, "model": asked.get("model"),
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": self.name}}
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }  # fmt: skip

    @property
    def last(self) -> dict[str, Any]:
        return self.asked[-1]


@asynccontextmanager
async def echoes(*names: str) -> AsyncIterator[list[Echo]]:
    async with AsyncExitStack() as stack:
        made = [Echo(name) for name in names]
        for echo in made:
            echo.url = await stack.enter_async_context(upstream(echo.answer))
        yield made


@pytest.fixture
async def two() -> AsyncIterator[list[Echo]]:
    async with echoes("first", "second") as made:
        yield made


def named(echo: Echo, **more: Any) -> dict[str, Any]:
    return {"name": echo.name, "url": echo.url, **more}


async def ask(world: World, model: str, text: str = "how are you today my friend", **options: Any) -> Answer:
    return await world.ask(text, model=model, **options)


# Whom a call goes to


async def test_the_first_pattern_that_fits_the_model_decides(make_world: MakeWorld, two: list[Echo]) -> None:
    first, second = two
    world = await make_world(upstreams=[named(first, models=["gpt-*"]), named(second, models=["*"])])
    assert (await ask(world, "gpt-4o")).text == "first"
    assert (await ask(world, "llama-3")).text == "second"


async def test_a_model_that_fits_nowhere_and_calls_without_one_go_to_the_first(
    make_world: MakeWorld, two: list[Echo]
) -> None:
    first, second = two
    world = await make_world(upstreams=[named(first, models=["gpt-*"]), named(second, models=["llama-*"])])
    assert (await ask(world, "mystery")).text == "first"
    await world.call("GET", "/v1/models")
    await world.post("/v1/files", data=b"anything at all")
    assert [each["path"] for each in first.asked[1:]] == ["/v1/models", "/v1/files"]
    assert second.asked == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/audio/speech", {"model": "llama-3", "input": "x"}),
        ("GET", "/v1/models/llama-3", None),
        ("POST", "/v1beta/models/llama-3:generateContent", {}),
        ("POST", "/openai/deployments/llama-3/chat/completions?api-version=1", {}),
    ],
)
async def test_passed_calls_go_where_their_model_is(
    make_world: MakeWorld, two: list[Echo], method: str, path: str, body: Any
) -> None:
    first, second = two
    world = await make_world(upstreams=[named(first, models=["gpt-*"]), named(second, models=["llama-*"])])
    await world.call(method, path, json=body)
    assert (second.last["path"], first.asked) == (path, [])


async def test_calls_that_are_too_large_for_the_cache_go_where_their_model_is(
    make_world: MakeWorld, two: list[Echo]
) -> None:
    first, second = two
    world = await make_world(upstreams=[named(first), named(second)], limits={"parse_bytes": 100})
    world.app.fleet.backends["first"].models = ["gpt-*"]
    answer = await ask(world, "llama-3", "long " * 100)
    assert (answer.text, answer.headers["X-Cache-Bypass-Reason"]) == ("second", "large-body")


async def test_a_base_path_comes_before_the_callers(make_world: MakeWorld, two: list[Echo]) -> None:
    world = await make_world(upstreams=[{"name": "deep", "url": two[0].url + "/some/where/"}])
    await ask(world, "m")
    assert two[0].last["path"] == "/some/where/v1/chat/completions"


# With what


async def test_an_alias_is_what_the_upstream_is_asked_for_and_no_identity(
    make_world: MakeWorld, two: list[Echo]
) -> None:
    first, _ = two
    world = await make_world(upstreams=[named(first, aliases={"gpt-4o": "my-vllm-model"})])
    answer = await ask(world, "gpt-4o")
    assert json.loads(first.last["body"])["model"] == "my-vllm-model"
    assert answer.json["model"] == "my-vllm-model"
    await world.settled()
    assert (await ask(world, "gpt-4o")).cache == "HIT exact"
    assert (await ask(world, "my-vllm-model")).cache == "MISS"


async def test_the_only_upstream_is_asked_by_the_alias_too_where_the_cache_is_passed_by(
    make_world: MakeWorld, two: list[Echo]
) -> None:
    first, _ = two
    only = named(first, aliases={"a": "b"})
    world = await make_world(upstreams=[only], limits={"parse_bytes": 100})
    large = await ask(world, "a", "long " * 100)
    assert (large.headers["X-Cache-Bypass-Reason"], large.json["model"]) == ("large-body", "b")
    nobody = await world.ask(model="a", headers={"Authorization": ""})
    assert (nobody.headers["X-Cache-Bypass-Reason"], nobody.json["model"]) == ("anonymous", "b")
    await world.call("POST", "/v1/audio/speech", json={"model": "a", "input": "x"})
    assert json.loads(first.last["body"])["model"] == "b"
    await world.call("GET", "/v1/models/a")
    assert first.last["path"] == "/v1/models/b"


async def test_passed_calls_and_batches_have_the_alias_too(make_world: MakeWorld, two: list[Echo]) -> None:
    first, _ = two
    world = await make_world(upstreams=[named(first, aliases={"a": "b"}), named(two[1])])
    await world.post("/v1/rerank", json={"model": "a", "query": "ü"})
    assert json.loads(first.last["body"]) == {"model": "b", "query": "ü"}
    await world.send("/v1/embeddings", {"model": "a", "input": ["x", "y"]})
    assert json.loads(first.last["body"]) == {"model": "b", "input": ["x", "y"]}
    for body in (b"no JSON", b"[1]", b'{"model":"models/a"}', b"[" * 5000):
        await world.post("/v1beta/models/a:countTokens", data=body)
        assert (first.last["path"], first.last["body"]) == ("/v1beta/models/b:countTokens", body)
    asked = {"messages": [{"role": "user", "content": "ü"}]}
    await world.send("/openai/deployments/a/chat/completions?api-version=1", asked)
    assert (first.last["path"], json.loads(first.last["body"])) == (
        "/openai/deployments/b/chat/completions?api-version=1", asked,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "brought", "expected"),
    [
        ("/v1/chat/completions", "Authorization", {"Authorization": "Bearer ours"}),
        ("/v1/chat/completions", "api-key", {"Authorization": "Bearer ours"}),
        ("/v1/messages", "x-api-key", {"x-api-key": "ours"}),
        ("/v1/messages", "Authorization", {"x-api-key": "ours"}),
        ("/v1/files", "Authorization", {"Authorization": "Bearer ours"}),
        ("/v1/files", "x-portkey-api-key", {"Authorization": "Bearer ours"}),
        ("/v1/chat/completions", "x-litellm-api-key", {"Authorization": "Bearer ours"}),
        ("/v1/chat/completions", "x-bf-vk", {"Authorization": "Bearer ours"}),
        ("/v1/chat/completions", "helicone-auth", {"Authorization": "Bearer ours"}),
        ("/v1/chat/completions", "cf-aig-authorization", {"Authorization": "Bearer ours"}),
        ("/v1/chat/completions", "ocp-apim-subscription-key", {"Authorization": "Bearer ours"}),
        ("/v1beta/models/m:generateContent", "x-goog-api-key", {"x-goog-api-key": "ours"}),
        ("/v1/models/m:streamGenerateContent?alt=sse", "Authorization", {"x-goog-api-key": "ours"}),
        ("/v1/models/m:countTokens", "x-goog-api-key", {"x-goog-api-key": "ours"}),
        ("/v1/models/m%3AembedContent?key=mine", "Authorization", {"x-goog-api-key": "ours"}),
        ("/v1/models/ft:gpt-4o:team:counted", "Authorization", {"Authorization": "Bearer ours"}),
        ("/v1beta/cachedContents", "x-goog-api-key", {"x-goog-api-key": "ours"}),
        ("/v1beta/openai/chat/completions", "Authorization", {"Authorization": "Bearer ours"}),
    ],
)
async def test_our_key_takes_the_place_of_the_callers(
    make_world: MakeWorld, two: list[Echo], monkeypatch: pytest.MonkeyPatch,
    path: str, brought: str, expected: dict[str, str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SOME_KEY", "ours")
    world = await make_world(upstreams=[named(two[0], key_env="SOME_KEY")])
    body: dict[str, Any] = {"model": "m", "max_tokens": 5, "contents": [{"parts": [{"text": "hello there"}]}]}
    body["messages"] = [{"role": "user", "content": "hello there"}]
    await world.post(path, json=body, headers={brought: "mine"})
    sent = two[0].last["headers"]
    assert {name: sent[name] for name in CREDENTIALS if name in sent} == expected
    assert "mine" not in sent.values()


async def test_the_header_of_our_key_can_be_chosen(
    make_world: MakeWorld, two: list[Echo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "ours")
    world = await make_world(upstreams=[named(two[0], key_env="SOME_KEY", key_header="api-key")])
    await ask(world, "m")
    assert two[0].last["headers"]["api-key"] == "ours"
    assert "Authorization" not in two[0].last["headers"]


async def test_without_a_key_of_ours_the_callers_passes_through(
    make_world: MakeWorld, two: list[Echo]
) -> None:
    world = await make_world(upstreams=[named(each) for each in two])
    await ask(world, "m", key="mine")
    assert two[0].last["headers"]["Authorization"] == "Bearer mine"


async def test_callers_stay_apart_behind_our_key(
    make_world: MakeWorld, two: list[Echo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "ours")
    world = await make_world(upstreams=[named(two[0], key_env="SOME_KEY")])
    await ask(world, "m", key="one")
    await world.settled()
    assert (await ask(world, "m", key="two")).cache == "MISS"
    assert (await ask(world, "m", key="one")).cache == "HIT exact"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files", "/v1/realtime"])
async def test_who_brings_no_credentials_does_not_use_our_key(
    make_world: MakeWorld, two: list[Echo], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("SOME_KEY", "ours")
    world = await make_world(upstreams=[named(two[0], key_env="SOME_KEY")])
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"} if "realtime" in path else {}
    answer = await world.call("GET" if headers else "POST", path, data=b'{"model": "m"}', headers=headers)
    assert (answer.status, answer.json["error"]["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert two[0].asked == []


async def test_our_key_is_shown_nowhere(
    make_world: MakeWorld, two: list[Echo], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", "ours-indeed")
    two[0].plan = 0
    world = await make_world(upstreams=[named(two[0], key_env="SOME_KEY")])
    answer = await ask(world, "m")
    seen = caplog.text + repr(world.app.fleet.first) + str(world.app.settings.masked()) + str(answer.body)
    assert "ours-indeed" not in seen


def test_check_misses_a_key_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nearhit.yaml").write_text("upstreams: [{name: a, url: http://a, key_env: SOME_KEY}]")
    assert run(["check"]) == 2
    assert "upstreams, a, key_env" in capsys.readouterr().err
    monkeypatch.setenv("SOME_KEY", "ours-indeed")
    assert run(["check"]) == 0
    assert "ours-indeed" not in capsys.readouterr().out


def test_a_key_that_is_not_there_is_an_error() -> None:
    settings = Settings.model_validate(
        {"upstreams": [{"name": "a", "url": "http://a", "key_env": "NOWHERE"}]}
    )
    with pytest.raises(ConfigError, match="upstreams, a, key_env: the environment has no such variable"):
        make_fleet(settings.fleet(""), {}, lambda name: lambda seconds: None)


async def test_websockets_go_by_the_model_in_their_query(make_world: MakeWorld) -> None:
    async def realtime(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(request.raw_path)
        await socket.close()
        return socket

    async with echoes("first") as (first,), upstream(realtime) as url:
        second = {"name": "second", "url": url, "models": ["live-*"], "aliases": {"live-1": "theirs"}}
        world = await make_world(upstreams=[named(first, models=["gpt-*"]), second])
        async with world.session.ws_connect(world.url + "/v1/realtime?model=live-1&a=b") as socket:
            assert await socket.receive_str() == "/v1/realtime?model=theirs&a=b"


# Who stands in


async def pair(make_world: MakeWorld, two: list[Echo], **more: Any) -> World:
    first, second = two
    return await make_world(
        upstreams=[named(first, fallback=["second"], **more), named(second, models=["none"])]
    )


@pytest.mark.parametrize("plan", [0, 429, 500, 502, 503, 504, 524, 529, 5.0], ids=str)
@pytest.mark.parametrize("path", ["chat", "embeddings", "passed"])
async def test_another_stands_in_for_one_that_fails(
    make_world: MakeWorld, two: list[Echo], plan: int | float, path: str
) -> None:
    first, second = two
    world = await pair(make_world, two, first_byte_timeout=0.2)
    first.plan = plan
    if path == "chat":
        answer = await ask(world, "m")
        assert answer.text == "second"
    elif path == "embeddings":
        answer = await world.send("/v1/embeddings", {"model": "m", "input": ["x"]})
    else:
        answer = await world.post("/v1/rerank", json={"model": "m"})
    assert answer.status == 200
    assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_another_stands_in_for_one_that_is_not_there(make_world: MakeWorld, two: list[Echo]) -> None:
    first, _ = two
    first.url = "http://127.0.0.1:1"
    assert (await ask(await pair(make_world, two), "m")).text == "second"


@pytest.mark.parametrize("plan", [400, 401, 404, 422])
async def test_nobody_stands_in_for_an_answer_that_is_the_callers_fault(
    make_world: MakeWorld, two: list[Echo], plan: int
) -> None:
    first, second = two
    first.plan = plan
    answer = await ask(await pair(make_world, two), "m")
    assert (answer.status, second.asked) == (plan, [])


async def test_nobody_stands_in_once_the_first_byte_is_there(make_world: MakeWorld, two: list[Echo]) -> None:
    first, second = two
    first.breaks = True
    world = await pair(make_world, two)
    with pytest.raises(Exception, match=r"payload|closed|Disconnected|reset"):
        await ask(world, "m")
    assert second.asked == []


async def test_where_all_fail_the_last_ones_answer_is_told(make_world: MakeWorld, two: list[Echo]) -> None:
    two[0].plan, two[1].plan = 503, 529
    assert (await ask(await pair(make_world, two), "m")).status == 529
    assert (len(two[0].asked), len(two[1].asked)) == (1, 1)


async def test_calls_that_name_no_model_are_not_made_twice(make_world: MakeWorld, two: list[Echo]) -> None:
    two[0].plan = 503
    world = await pair(make_world, two)
    assert (await world.call("DELETE", "/v1/files/1")).status == 503
    assert two[1].asked == []


async def test_a_full_line_is_a_reason_too(make_world: MakeWorld, two: list[Echo]) -> None:
    two[0].plan = 0.5
    world = await pair(make_world, two, limit=1, queue=1, queue_timeout=0.05)
    slow = asyncio.ensure_future(ask(world, "m", "first of all"))
    await asyncio.sleep(0.1)
    assert (await ask(world, "m", "second best choice")).text == "second"
    assert (await slow).text == "first"


@pytest.mark.parametrize(("alias", "cached"), [(None, "HIT exact"), ("other", "MISS")])
async def test_an_answer_of_another_model_is_not_stored(
    make_world: MakeWorld, two: list[Echo], alias: str | None, cached: str
) -> None:
    first, second = two
    first.plan = 503
    aliases = {"aliases": {"m": alias}} if alias else {}
    world = await make_world(upstreams=[named(first, fallback=["second"]), named(second, **aliases)])
    for path, body in (
        ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}),
        ("/v1/embeddings", {"model": "m", "input": ["x", "y"]}),
    ):
        answer = await world.send(path, body)
        assert ("stored" in answer.headers["Cache-Status"]) == (cached != "MISS")
        await world.settled()
        assert (await world.send(path, body)).cache == cached


async def test_vectors_of_two_models_are_not_mixed(make_world: MakeWorld, two: list[Echo]) -> None:
    first, second = two
    world = await make_world(
        upstreams=[named(first, fallback=["second"]), named(second, aliases={"m": "other"})]
    )
    await world.send("/v1/embeddings", {"model": "m", "input": ["x"]})
    first.plan = 503
    answer = await world.send("/v1/embeddings", {"model": "m", "input": ["x", "y"]})
    assert (answer.status, len(answer.json["data"])) == (200, 2)
    assert json.loads(second.last["body"])["input"] == ["x", "y"]


# Who is down, and who is back


async def test_one_that_is_down_is_skipped_until_it_is_back(
    make_world: MakeWorld, two: list[Echo], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nearhit.fleet")
    first, _ = two
    world = await pair(make_world, two)
    first.plan = 0
    for number in range(STRIKES + 5):
        assert (await ask(world, "m", f"question{number} of{number} many{number}")).text == "second"
    # What is known to be down is asked once a second, to see.
    assert len(first.asked) in (STRIKES + 1, STRIKES + 2)
    assert world.app.fleet.first.outage.down
    first.plan = 200
    for number in range(100):
        if (await ask(world, "m", f"again{number} and{number} over{number}")).text == "first":
            break
        await asyncio.sleep(0.05)
    assert not world.app.fleet.first.outage.down
    assert (await ask(world, "m", "all is well once more")).text == "first"
    told = [record.getMessage() for record in caplog.records if record.name == "nearhit.fleet"]
    assert [each.split(": ")[0] for each in told] == [
        "upstream first counts as down",
        "upstream first answers again",
    ]


async def test_pressure_and_errors_are_each_ones_own(make_world: MakeWorld, two: list[Echo]) -> None:
    first, second = two
    world = await make_world(upstreams=[named(first, models=["a"], capacity=1), named(second, capacity=1)])
    world.app.metrics.registry.register(Gauges(world.app))
    first.plan = 0
    for number in range(20):
        await ask(world, "a", f"question{number} of{number} many{number}")
        await ask(world, "b", f"question{number} of{number} many{number}")
    load = world.app.load
    assert load.upstreams["first"].signals()["failures"] > 0.9
    assert load.upstreams["second"].signals()["failures"] == 0.0
    text = (await world.app.metrics.render()).decode()
    assert 'nearhit_upstream_errors_total{kind="unreachable",upstream="first"} 20.0' in text
    assert 'upstream="second"' in text
    assert 'nearhit_upstream_errors_total{kind="unreachable",upstream="second"}' not in text
    shown = world.app.fleet.shown()
    assert (shown["first"]["down"], shown["second"]["down"]) == (True, False)


MODELS = ("gpt-4o", "llama-3", "mystery", "")
PATTERNS = st.lists(st.sampled_from(["gpt-*", "llama-*", "*", "nothing"]), min_size=1, max_size=2)


@given(st.lists(st.tuples(PATTERNS, st.booleans(), st.sets(st.integers(0, 3))), min_size=1, max_size=4))
def test_who_is_up_is_asked_first_and_everybody_once(drawn: list[tuple[list[str], bool, set[int]]]) -> None:
    backends = [Backend(str(n), None, UpstreamLoad(str(n)), models) for n, (models, _, _) in enumerate(drawn)]
    for backend, (_, down, others) in zip(backends, drawn, strict=True):
        known = [backends[n] for n in sorted(others) if n < len(backends)]
        backend.fallback = tuple(each for each in known if each is not backend)
        for _ in range(STRIKES if down else 0):
            backend.outage.failed()
    fleet = Fleet(backends)
    for model in MODELS:
        first, standing = fleet.of(model), fleet.standing(model)
        assert sorted(each.name for each in standing) == sorted(
            each.name for each in (first, *first.fallback)
        )
        assert [each.outage.down for each in standing] == sorted(each.outage.down for each in standing)
        assert fleet.at(model) is standing[0]
        fits = [each for each in backends if any(fnmatchcase(model, pattern) for pattern in each.models)]
        assert first is (fits[0] if fits and model else backends[0])
        with fleet.route(model) as route, fleet.route(model, background=True) as alone:
            assert set(route) == set(standing)
            assert alone == [first]


# Tries at the same


async def test_a_connection_that_cannot_be_made_is_tried_again(make_world: MakeWorld) -> None:
    echo = Echo("late")
    async with upstream(echo.answer) as url:
        port = int(url.rpartition(":")[2])
    world = await make_world(upstreams=[{"name": "late", "url": url, "retries": 5}])
    asking = asyncio.ensure_future(ask(world, "m"))
    await asyncio.sleep(0.15)
    runner = web.ServerRunner(web.Server(echo.answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        assert (await asking).text == "late"
    finally:
        await runner.cleanup()
    assert len(echo.asked) == 1


async def test_a_connection_that_is_not_made_in_time_is_tried_again(make_world: MakeWorld) -> None:
    """Nobody can have begun to work; and who was stopped takes itself for the network."""
    echo = Echo("late")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as full:
        address = listening.getsockname()
        listening.setblocking(False)
        for _ in range(4):  # the rest of them are left waiting by the kernel
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        late = {"name": "late", "url": "http://{}:{}".format(*address), "connect_timeout": 0.3, "retries": 8}
        world = await make_world(upstreams=[late])
        asking = asyncio.ensure_future(ask(world, "m"))
        await asyncio.sleep(0.8)
        assert not asking.done()
        full.close()
        runner = web.ServerRunner(web.Server(echo.answer))
        await runner.setup()
        try:
            await web.SockSite(runner, listening).start()
            assert (await asking).text == "late"
        finally:
            await runner.cleanup()
    assert len(echo.asked) == 1


@pytest.mark.parametrize("plan", [0, 429, 503])
@pytest.mark.parametrize("on", [[], ["429", "5xx", "broken"]])
async def test_what_may_have_cost_something_is_tried_again_only_where_that_is_set(
    make_world: MakeWorld, two: list[Echo], plan: int, on: list[str]
) -> None:
    first, _ = two
    first.plan = plan
    world = await make_world(upstreams=[named(first, retries=2, retry_on=on)])
    answer = await ask(world, "m")
    assert (answer.status, len(first.asked)) == (plan or 502, 3 if on else 1)
    await world.post("/v1/batches", json={"model": "m"})
    assert len(first.asked) == (4 if on else 2)


async def test_tries_and_pauses_share_one_deadline(make_world: MakeWorld) -> None:
    gone = {"name": "gone", "url": "http://127.0.0.1:1", "retries": 10, "first_byte_timeout": 0.5}
    world = await make_world(upstreams=[gone])
    started = monotonic()
    assert (await ask(world, "m")).status == 502
    assert monotonic() - started < 5.0  # ten pauses alone would take half a minute


async def test_an_upstream_that_asks_for_a_long_pause_is_left_alone(make_world: MakeWorld) -> None:
    asked = 0

    async def busy(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.json_response({}, status=429, headers={"Retry-After": "60"})

    async with upstream(busy) as url:
        world = await make_world(upstreams=[{"name": "a", "url": url, "retries": 3, "retry_on": ["429"]}])
        assert (await ask(world, "m")).status == 429
    assert asked == 1
