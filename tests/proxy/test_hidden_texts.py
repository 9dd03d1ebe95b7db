"""With `admin.show_text: false` no question and no answer leaves the admin plane, whatever is asked."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from planes import API, Plane, loaded, plane_of
from test_watch import until_line, watching
from world import MakeWorld

from proxy.admin.routes import ROUTES
from proxy.settings import Log, Settings
from proxy.telemetry.logs import logging_to

MARK = f"zebra{token_hex(6)}"
"""In every question; the demo upstream repeats it in its answers."""
QUESTION = f"how do i wash the {MARK} on a sunny day of 12"
ALIKE = f"how do i wash the {MARK} on a sunny day of 12 please"
GUARDED = f"how do i wash the {MARK} on a sunny day of 13"


@asynccontextmanager
async def used(make_world: MakeWorld, **settings: Any) -> AsyncIterator[Plane]:
    async with plane_of(await make_world(**settings)) as plane:
        await loaded(plane)
        await plane.store(QUESTION)
        for text in (QUESTION, ALIKE, GUARDED, f"never {MARK}"):
            await plane.world.ask(text)
        await plane.world.settled()
        yield plane


@pytest.fixture
async def hidden(make_world: MakeWorld) -> AsyncIterator[Plane]:
    async with used(make_world, admin={"show_text": False}) as plane:
        yield plane


@asynccontextmanager
async def logged(path: Path) -> AsyncIterator[None]:
    stack = ExitStack()
    file = stack.enter_context(path.open("wb"))
    stack.enter_context(logging_to(file.fileno(), Log(level="debug")))
    try:
        yield
    finally:
        await asyncio.to_thread(stack.close)  # waits for what is still to be written


BODIES: dict[str, Any] = {
    "purge": {"like": ALIKE, "dry_run": True},
    "explain": {"text": GUARDED},
    "check": {"text": "{name: default, threshold: 0.8, ttl: 1h}"},
    "categories/{name}": {"text": "{name: default, threshold: 0.8, ttl: 1h}"},
}


async def everything(plane: Plane) -> AsyncIterator[tuple[str, bytes]]:
    """The answer of every endpoint, those that delete last."""
    entry = plane.world.app.ledger.recent[1].entry_id
    assert entry
    for route in sorted(ROUTES, key=lambda route: route.path.endswith(("feedback", "{id}"))):
        path = route.path.replace("{name}", "default").replace("{id}", entry)
        end = route.path.removeprefix(f"{API}/")
        body = {"entry_id": entry, "verdict": "right"} if end == "feedback" else None
        body = body or next((body for name, body in BODIES.items() if end.endswith(name)), None)
        answer = await plane.call(route.method, path, json=body if route.method != "GET" else None)
        assert answer.status < 500, answer.body
        yield f"{route.method} {path}", answer.body
    for path in ("/metrics", "/", f"{API}/entries?q={MARK[:5]}", f"{API}/stats/history?window=1d"):
        yield path, (await plane.call("GET", path)).body
    yield "purge", (await plane.call("POST", f"{API}/purge", json={"category": "default"})).body


async def live(plane: Plane) -> bytes:
    """What two seconds tell, with a call between them."""
    async with plane.world.session.get(plane.url + f"{API}/live") as response:
        first = await response.content.readuntil(b"\n\n")
        await plane.world.ask(ALIKE)
        told = first
        while b'"query"' not in told:
            told += await response.content.readuntil(b"\n\n")
        return told


async def test_no_byte_of_a_question_or_an_answer_leaves(hidden: Plane, tmp_path: Path) -> None:
    async with logged(log := tmp_path / "log"):
        answer = await hidden.world.ask(QUESTION)
        assert (answer.cache, MARK.encode() in answer.body) == ("HIT exact", True)
        assert MARK.encode() not in await live(hidden)
        async for place, told in everything(hidden):
            assert MARK.encode() not in told, place
    assert "outcome=HIT" in log.read_text()
    assert MARK not in log.read_text()


async def test_the_mark_is_everywhere_when_texts_are_shown(make_world: MakeWorld) -> None:
    """Else the test above would find nothing to hide."""
    async with used(make_world) as plane:
        assert MARK.encode() in await live(plane)
        showing = {place async for place, told in everything(plane) if MARK.encode() in told}
    entry = next(place for place in showing if place.startswith(f"GET {API}/entries/"))
    assert showing >= {
        f"GET {API}/recent", f"GET {API}/entries", f"POST {API}/explain", f"POST {API}/purge", entry,
    }  # fmt: skip


async def test_what_is_hidden_is_null_and_the_rest_is_told(hidden: Plane) -> None:
    calls = (await hidden.get(f"{API}/recent"))["calls"]
    assert [call["query"] for call in calls] == [None] * 5
    assert [call["outcome"] for call in calls] == ["BYPASS", "MISS", "HIT", "HIT", "MISS"]
    assert [call["reason"] for call in calls][1] == "numbers"
    assert [call["matched"] for call in calls] == ["", "", None, None, ""]
    entry = (await hidden.get(f"{API}/entries"))["entries"][0]
    assert (entry["text"], entry["category"]) == (None, "default")
    whole = await hidden.get(f"{API}/entries/{entry['id']}")
    assert (whole["body"], whole["problem"]) == (None, "")
    explained = await hidden.post("/explain", {"text": GUARDED.replace("13", "14")})
    assert "is refused by numbers" in explained["because"]
    assert (explained["text"], explained["nearest"][0]["reason"]) == (None, "numbers")
    seen = await hidden.post("/purge", {"category": "default", "dry_run": True})
    assert (seen["matched"], seen["examples"]) == (2, None)


async def test_texts_that_are_hidden_cannot_be_searched(hidden: Plane) -> None:
    status, message = await hidden.refused("GET", f"{API}/entries?q=zebra")
    assert status == 400
    assert "admin.show_text" in message


async def test_the_terminal_says_that_it_is_hidden(hidden: Plane) -> None:
    pipe = asyncio.subprocess.PIPE
    async with watching(hidden.url, stdout=pipe) as process:
        line = await until_line(process, lambda: hidden.world.ask(QUESTION), "HIT exact")
    assert "(hidden by admin.show_text)" in line
    arguments = ("explain", ALIKE, "--url", hidden.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", *arguments, cwd=Path(__file__).parents[2], stdout=pipe
    )
    async with asyncio.timeout(60):
        told = (await process.communicate())[0].decode()
    assert told.startswith("HIT: ")
    assert "(hidden by admin.show_text)" in told
    assert MARK not in told


def test_it_is_shown_by_default() -> None:
    assert Settings().admin.show_text


def test_what_is_no_json_is_an_error() -> None:
    from proxy.admin.shown import as_json

    with pytest.raises(TypeError, match="Path is not a JSON value"):
        as_json(True)(Path("x"))
    assert json.loads(as_json(True)({"a": [1, None]})) == {"a": [1, None]}
