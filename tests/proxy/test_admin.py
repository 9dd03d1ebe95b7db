"""The admin plane over real sockets, beside a data plane that is used."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from doubles import Clock, WordEmbedder
from planes import API, Plane, loaded, plane_of
from world import MakeWorld

from embeddings.base import Matrix
from proxy.admin import plane as admin_plane
from proxy.admin import purging
from proxy.admin.routes import ROUTES
from storage import breath
from storage.base import Entry, StorageError
from storage.breath import SLICE
from storage.documents.memory import MemoryDocuments

ROOT = Path(__file__).parents[2]


MakePlane = Callable[..., Any]


@pytest.fixture
async def make_plane(make_world: MakeWorld) -> AsyncIterator[MakePlane]:
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> Plane:
            plane = await stack.enter_async_context(plane_of(await make_world(**options)))
            await loaded(plane)
            return plane

        yield make


@pytest.fixture
async def plane(make_plane: MakePlane) -> Plane:
    return await make_plane()


# Who may ask


async def test_with_a_token_the_api_wants_it_and_the_probes_do_not(make_plane: MakePlane) -> None:
    plane = await make_plane(admin={"token": "s3cret"})
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        answer = await plane.call("GET", f"{API}/stats", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    await plane.get(f"{API}/stats", headers={"Authorization": "Bearer s3cret"})
    for path in ("/healthz", "/readyz"):
        await plane.get(path)
    assert (await plane.call("GET", "/metrics")).status == 200
    assert (await plane.call("GET", "/")).status == 200


@pytest.mark.parametrize("headers", [{"Host": "["}, {"Host": "[::1"}, {"Origin": "http://["}])
async def test_a_name_that_is_none_is_refused(plane: Plane, headers: dict[str, str]) -> None:
    assert (await plane.call("POST", f"{API}/reload", headers=headers)).status == 403


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8081", "192.168.1.5:8081"])
async def test_a_name_that_was_made_to_point_at_us_is_refused(plane: Plane, name: str) -> None:
    status, message = await plane.refused("GET", f"{API}/entries", headers={"Host": name})
    assert (status, "admin.token" in message) == (403, True)


@pytest.mark.parametrize("name", ["localhost:8081", "127.0.0.1", "[::1]:8081"])
async def test_our_own_names_are_served(plane: Plane, name: str) -> None:
    await plane.get(f"{API}/stats", headers={"Host": name})


async def test_another_sites_page_may_not_change_anything(plane: Plane) -> None:
    await plane.store("how do I tie a tie")
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        status, _ = await plane.refused(
            "POST", f"{API}/purge", json={"everything": True, "confirm": True}, headers={"Origin": origin}
        )
        assert status == 403
    assert (await plane.get(f"{API}/stats"))["entries"] == 1
    own = {"Origin": plane.url}
    assert (await plane.post("/purge", {"everything": True, "confirm": True}, headers=own))["purged"] == 1


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/", f"{API}/stats", f"{API}/recent?limit=1"]
)
async def test_whoever_wants_the_head_alone_gets_it(plane: Plane, path: str) -> None:
    """As monitors do; RFC 9110, section 9.1, wants it of every server."""
    answer = await plane.call("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")


# Errors


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/api/v1/nothing", {}, 404),
        ("PUT", "/api/v1/purge", {}, 405),
        ("GET", "/api/v1/entries/unknown", {}, 404),
        ("DELETE", "/api/v1/entries/unknown", {}, 404),
        ("GET", "/api/v1/categories/unknown", {}, 404),
        ("GET", "/api/v1/entries?limit=0", {}, 400),
        ("GET", "/api/v1/entries?limit=many", {}, 400),
        ("GET", "/api/v1/entries?colour=red", {}, 400),
        ("GET", "/api/v1/recent?limit=1001", {}, 400),
        ("POST", "/api/v1/purge", {}, 400),
        ("POST", "/api/v1/purge", {"data": b"{"}, 400),
        ("POST", "/api/v1/purge", {"data": b"\xff"}, 400),
        ("POST", "/api/v1/purge", {"data": b"[" * 10_000}, 400),
        ("POST", "/api/v1/purge", {"json": []}, 400),
        ("POST", "/api/v1/purge", {"json": {}}, 400),
        ("POST", "/api/v1/purge", {"json": {"everything": True}}, 400),
        ("POST", "/api/v1/purge", {"json": {"everything": True, "confirm": True, "tag": "a"}}, 400),
        ("POST", "/api/v1/purge", {"json": {"older_than": "soon"}}, 400),
        ("POST", "/api/v1/purge", {"json": {"tenant": "x"}}, 400),
        ("POST", "/api/v1/purge", {"json": {"tag": "a", "threshold": 0.5}}, 400),
        ("POST", "/api/v1/purge", {"json": {"catgory": "code"}}, 400),
        ("POST", "/api/v1/explain", {"json": {"text": ""}}, 400),
        ("POST", "/api/v1/explain", {"json": {"text": 1}}, 400),
        ("POST", "/api/v1/explain", {"json": {"text": "a", "category": "unknown"}}, 400),
        ("POST", "/api/v1/explain", {"data": io.BytesIO(b"x" * 2**21)}, 413),
    ],
)
async def test_bad_input_is_told_as_json(
    plane: Plane, method: str, path: str, options: Any, status: int
) -> None:
    found, message = await plane.refused(method, path, **options)
    assert found == status
    assert message
    assert "\n" not in message


async def test_a_failure_of_ours_is_a_500_that_tells_nothing(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plane.world.app.cache.entries, "usage", lambda: 1 / 0)
    status, message = await plane.refused("GET", f"{API}/stats")
    assert (status, "zero" in message) == (500, False)
    assert "ZeroDivisionError" in caplog.text


async def test_a_text_too_long_to_compare_is_the_askers_mistake(plane: Plane) -> None:
    status, message = await plane.refused("POST", f"{API}/purge", json={"like": "word " * 1000})
    assert (status, message.startswith("like: ")) == (400, True)


# Looking


async def test_stats_count_by_category_and_tier(plane: Plane) -> None:
    await plane.store("how do I tie a tie quickly and well")
    assert (await plane.world.ask("how do I tie a tie quickly and well")).cache == "HIT exact"
    assert (await plane.world.ask("how do I tie a tie quickly and nicely")).cache == "HIT semantic"
    await plane.world.ask("never mind")
    stats = await plane.get(f"{API}/stats")
    assert stats["entries"] == 1
    counted = {name: stats["overall"][name] for name in ("requests", "hits", "exact", "semantic", "bypasses")}
    assert counted == {"requests": 4, "hits": 2, "exact": 1, "semantic": 1, "bypasses": 1}
    assert stats["categories"]["default"]["hit_rate"] == pytest.approx(2 / 3)
    assert stats["categories"]["default"]["entries"] == 1
    assert stats["categories"]["never"]["bypasses"] == 1
    assert stats["categories"]["brief"]["requests"] == 0


async def test_categories_show_policy_usage_and_counts(plane: Plane) -> None:
    await plane.store("brief as can be")
    listed = (await plane.get(f"{API}/categories"))["categories"]
    assert [each["name"] for each in listed] == ["brief", "common", "default", "never", "open", "strict"]
    brief = await plane.get(f"{API}/categories/brief")
    assert brief in listed
    assert (brief["in_force"]["threshold"], brief["ttl"]) == (0.8, 10.0)
    assert (brief["usage"]["entries"], brief["tally"]["stored"]) == (1, 1)
    assert brief["load"]["ttl_ceiling"] is None
    assert "did you mean 'brief'" in (await plane.refused("GET", f"{API}/categories/breif"))[1]


async def test_entries_are_listed_newest_first_and_found_by_category_and_text(make_plane: MakePlane) -> None:
    clock = Clock()
    plane = await make_plane(clock=clock)
    for text in ("alpha one two three", "brief alpha four five", "Gamma six seven eight"):
        await plane.store(text)
        clock.now += 1

    async def texts(query: str = "") -> list[str]:
        return [each["text"] for each in (await plane.get(f"{API}/entries?{query}"))["entries"]]

    assert await texts() == ["Gamma six seven eight", "brief alpha four five", "alpha one two three"]
    assert await texts("limit=1") == ["Gamma six seven eight"]
    assert await texts("q=ALPHA") == ["brief alpha four five", "alpha one two three"]
    assert await texts("q=alpha&category=brief") == ["brief alpha four five"]
    assert len(await texts("category=&q=&limit=")) == 3
    assert (await plane.get(f"{API}/entries?limit=1"))["matched"] == 3


async def test_an_entry_shows_its_answer_and_looking_is_no_hit(plane: Plane) -> None:
    await plane.store("how do I tie a tie", headers={"X-Nearhit-Tags": "a,b"})
    (listed,) = (await plane.get(f"{API}/entries"))["entries"]
    entry = await plane.get(f"{API}/entries/{listed['id']}")
    assert "how do I tie a tie" in entry["body"]["choices"][0]["message"]["content"]
    assert (entry["tags"], entry["hits"], entry["fresh_for"]) == (["a", "b"], 0, 3600.0)
    assert len(entry["tenant"]) == 12


async def test_an_entry_whose_answer_cannot_be_had_says_why(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.store("how do I tie a tie")
    (listed,) = (await plane.get(f"{API}/entries"))["entries"]

    async def fail(id: str) -> bytes:
        raise StorageError("the store is away")

    monkeypatch.setattr(plane.world.app.cache.documents, "load", fail)
    entry = await plane.get(f"{API}/entries/{listed['id']}")
    assert (entry["body"], entry["problem"]) == (None, "the store is away")


async def test_recent_calls_are_told_newest_first(plane: Plane) -> None:
    await plane.store("one two three", "four five six")
    calls = (await plane.get(f"{API}/recent"))["calls"]
    assert [call["query"] for call in calls] == ["four five six", "one two three"]
    assert calls[0]["outcome"] == "MISS"
    assert len((await plane.get(f"{API}/recent?limit=1"))["calls"]) == 1


async def test_whatever_a_caller_asks_can_be_shown(plane: Plane) -> None:
    strange = "how \x00 do \u2028 I </script> \N{PILE OF POO} \u202e tie"
    await plane.store(strange)
    assert (await plane.get(f"{API}/entries"))["entries"][0]["text"] == strange
    assert (await plane.get(f"{API}/recent"))["calls"][0]["query"] == strange


# Readiness


async def test_readiness_names_what_does_less_than_it_should(plane: Plane, categories: Path) -> None:
    world = plane.world
    ready = await plane.get("/readyz")
    assert ready["status"] == "ready"
    assert ready["index"] == {"loaded": 0, "done": True, "failed": "", "to_embed": 0}
    before = [line for line in ready["degraded"] if not line.startswith("classifier")]
    assert before == []
    world.app.warm_up.done = False
    (categories / "default.yaml").write_text("threshold: high")
    status, message = await plane.refused("POST", f"{API}/reload")
    assert status == 422
    assert "default.yaml" in message
    degraded = " ".join((await plane.get("/readyz"))["degraded"])
    assert "still loading" in degraded
    assert "default.yaml" in degraded


async def test_readiness_tells_of_a_store_that_takes_nothing(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise StorageError("save: database or disk is full")

    monkeypatch.setattr(MemoryDocuments, "save", full)
    assert (await plane.world.ask(ALPHA)).cache == "MISS"
    while not (ready := await plane.get("/readyz"))["documents"]["failures"]:
        await asyncio.sleep(0.01)
    told = "documents: the store accepts no writes, will try again: save: database or disk is full"
    assert told in ready["degraded"]


async def test_reload_takes_the_files_as_they_are(plane: Plane, categories: Path) -> None:
    before = (await plane.get(f"{API}/categories"))["version"]
    (categories / "strict.yaml").write_text("{name: strict, threshold: 0.5, ttl: 1h}")
    assert (await plane.post("/reload"))["version"] != before
    assert (await plane.get(f"{API}/categories/strict"))["threshold"] == 0.5


async def test_readiness_tells_of_a_reload_while_examples_are_embedded(
    plane: Plane, categories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, embedded = WordEmbedder.embed_many, asyncio.Event()

    async def slowly(self: WordEmbedder, texts: Sequence[str]) -> Matrix:
        await embedded.wait()
        return await really(self, texts)

    async def told() -> tuple[bool, bool, float]:
        ready = await plane.get("/readyz")
        lines = [line for line in ready["degraded"] if "examples embedded" in line]
        metric = (await scrape(plane))["nearhit_categories_reloading"]
        return ready["categories"]["reloading"], bool(lines), metric

    monkeypatch.setattr(WordEmbedder, "embed_many", slowly)
    (categories / "taught.yaml").write_text("{name: taught, threshold: 0.8, ttl: 1h, examples: [tie a tie]}")
    assert await told() == (False, False, 0)
    reload = asyncio.create_task(plane.post("/reload"))
    while not (during := await told())[0]:
        await asyncio.sleep(0.01)
    embedded.set()
    await reload
    assert (during, await told()) == ((True, True, 1), (False, False, 0))


# Purging


async def left(plane: Plane) -> set[str]:
    return {each["text"] for each in (await plane.get(f"{API}/entries"))["entries"]}


ALPHA, BETA, BRIEF = "alpha one two three four", "beta five six seven eight", "brief nine ten eleven twelve"


@pytest.fixture
async def filled(make_plane: MakePlane) -> Plane:
    """ALPHA is old and tagged, BETA another tenant's and model's, BRIEF of another category."""
    clock = Clock()
    plane: Plane = await make_plane(clock=clock)
    await plane.store(ALPHA, headers={"X-Nearhit-Tags": "doc,x"})
    clock.now += 7
    await plane.store(BETA, key="two", model="demo-chat-large", headers={"X-Nearhit-Namespace": "space"})
    await plane.store(BRIEF)
    return plane


@pytest.mark.parametrize(
    ("order", "gone"),
    [
        ({"category": "brief"}, {BRIEF}),
        ({"tag": "doc"}, {ALPHA}),
        ({"tag": "do"}, set()),
        ({"namespace": "space"}, {BETA}),
        ({"namespace": "spac"}, set()),
        ({"model": "demo-chat-large"}, {BETA}),
        ({"older_than": 5}, {ALPHA}),
        ({"older_than": "5s"}, {ALPHA}),
        ({"older_than": "5"}, {ALPHA}),
        ({"age": "5s"}, {ALPHA}),
        ({"similar_text": "alpha one two three five", "threshold": 0.6}, {ALPHA}),
        ({"like": "alpha one two three five"}, set()),
        ({"like": "alpha one two three five", "threshold": 0.6}, {ALPHA}),
        ({"category": "default", "older_than": 5}, {ALPHA}),
        ({"category": "brief", "tag": "doc"}, set()),
        ({"like": ALPHA, "category": "brief"}, set()),
        ({"everything": True, "confirm": True}, {ALPHA, BETA, BRIEF}),
    ],
)
async def test_a_purge_takes_what_matches_all_criteria(filled: Plane, order: Any, gone: set[str]) -> None:
    counted = await filled.post("/purge", {**order, "dry_run": True})
    assert counted["matched"] == len(gone)
    assert set(counted["examples"]) == gone
    assert await left(filled) == {ALPHA, BETA, BRIEF}
    assert (await filled.post("/purge", order))["purged"] == len(gone)
    assert await left(filled) == {ALPHA, BETA, BRIEF} - gone


@pytest.mark.parametrize("dry", [True, False])
async def test_a_purge_of_a_misspelt_category_is_refused_and_names_the_nearest(
    filled: Plane, dry: bool
) -> None:
    order = {"category": "breif", "dry_run": dry}
    status, message = await filled.refused("POST", f"{API}/purge", json=order)
    assert (status, message) == (400, "no category 'breif'; did you mean 'brief'?")


async def test_what_is_left_of_a_category_that_is_no_more_is_purged(filled: Plane, categories: Path) -> None:
    (categories / "brief.yaml").unlink()
    await filled.post("/reload")
    assert (await filled.post("/purge", {"category": "brief"}))["purged"] == 1
    assert await left(filled) == {ALPHA, BETA}


async def test_a_tenant_is_purged_by_the_digest_that_recent_shows(filled: Plane) -> None:
    (tenant,) = {c["tenant"] for c in (await filled.get(f"{API}/recent"))["calls"] if c["query"] == BETA}
    assert (await filled.post("/purge", {"tenant": tenant}))["categories"] == {"default": 1}
    assert await left(filled) == {ALPHA, BRIEF}


async def test_a_purged_answer_is_not_served_again(filled: Plane) -> None:
    assert (await filled.world.ask(ALPHA)).cache == "HIT exact"
    await filled.post("/purge", {"tag": "doc"})
    assert (await filled.world.ask(ALPHA)).cache == "MISS"


async def test_one_entry_is_deleted(filled: Plane) -> None:
    id = next(e["id"] for e in (await filled.get(f"{API}/entries"))["entries"] if e["text"] == BETA)
    answer = await filled.call("DELETE", f"{API}/entries/{id}")
    assert (answer.status, answer.json["purged"], answer.json["durable"]) == (200, 1, True)
    assert await left(filled) == {ALPHA, BRIEF}


async def test_a_store_that_cannot_delete_is_told_and_the_answers_are_gone_all_the_same(
    filled: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(ids: Any) -> None:
        raise StorageError("the store is away")

    documents = filled.world.app.cache.documents
    await documents.flush()
    with monkeypatch.context() as away:
        away.setattr(documents._documents, "delete", fail)
        for order in ({"tag": "doc"}, {"tag": "doc"}):
            status, message = await filled.refused("POST", f"{API}/purge", json=order)
            assert (status, "the store is away" in message) == (503, True)
            assert ALPHA not in await left(filled)
            assert len(await everything(documents._documents)) == 3
    assert (await filled.post("/purge", {"tag": "doc"}))["durable"]
    assert len(await everything(documents._documents)) == 2
    assert (await filled.world.ask(ALPHA)).cache == "MISS"


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_a_troubled_store_keeps_nothing_of_a_large_purge_served(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Nothing waits for the store before all is hidden, and no longer than for its first failure."""
    tries = 0

    async def delete() -> None:
        nonlocal tries
        tries += 1
        if trouble == "hangs":
            await asyncio.Event().wait()
        raise StorageError("the store is away")

    monkeypatch.setattr(plane.world.app.cache.documents, "settle_deletions", delete)
    monkeypatch.setattr(admin_plane, "ANSWER_S", 2.0)
    monkeypatch.setattr(purging, "DURABLE_S", 0.05, raising=False)
    fill(plane, 1_000)
    status, message = await plane.refused("POST", f"{API}/purge", json={"category": "default"})
    assert (status, "1000 entries are hidden" in message) == (503, True)
    assert (len(plane.world.app.cache.entries), tries) == (0, 1)


@pytest.mark.parametrize("order", [{"tag": "doc"}, {"like": ALPHA}])
async def test_a_purge_while_the_index_loads_takes_what_is_not_loaded_yet(filled: Plane, order: Any) -> None:
    cache = filled.world.app.cache
    await cache.documents.flush()
    (id,) = [entry.id for entry in cache.entries.select(lambda entry: entry.text == ALPHA)]
    cache.entries.remove(id)
    assert (await filled.post("/purge", order))["matched"] == 0
    filled.world.app.warm_up.done = False
    assert (await filled.post("/purge", {**order, "dry_run": True}))["examples"] == [ALPHA]
    assert (await filled.post("/purge", order))["purged"] == 1
    assert await cache.documents.load(id) is None
    assert id not in await everything(cache.documents)


async def test_a_store_that_cannot_be_looked_through_is_told(
    filled: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scan() -> AsyncIterator[Any]:
        raise StorageError("the store is away")
        yield

    monkeypatch.setattr(filled.world.app.cache.documents, "scan", scan)
    filled.world.app.warm_up.done = False
    status, message = await filled.refused("POST", f"{API}/purge", json={"tag": "doc"})
    assert (status, "the store is away" in message) == (503, True)
    assert ALPHA not in await left(filled)


@pytest.mark.parametrize("digits", [8, 11, 12, 13, 32])
async def test_a_purged_tenants_calls_are_not_told_however_much_of_its_digest_is_named(
    filled: Plane, digits: int
) -> None:
    await filled.world.ask("asked and not stored", key="two", headers={"Cache-Control": "no-store"})
    (tenant,) = {entry.tenant for entry in filled.world.app.cache.entries.select(lambda e: e.text == BETA)}
    assert (await filled.post("/purge", {"tenant": tenant[:digits]}))["purged"] == 1
    assert {call["query"] for call in (await filled.get(f"{API}/recent"))["calls"]} == {ALPHA, BRIEF}


async def test_what_is_purged_is_not_told_among_the_recent_calls(filled: Plane) -> None:
    await filled.world.ask(ALPHA)
    await filled.world.ask(BETA, headers={"Cache-Control": "no-store"})
    await filled.post("/purge", {"tag": "doc", "dry_run": True})
    assert len((await filled.get(f"{API}/recent"))["calls"]) == 5
    await filled.post("/purge", {"tag": "doc"})
    assert {call["query"] for call in (await filled.get(f"{API}/recent"))["calls"]} == {BETA, BRIEF}
    (tenant,) = {entry.tenant for entry in filled.world.app.cache.entries.select(lambda e: e.text == BRIEF)}
    await filled.post("/purge", {"tenant": tenant})
    (call,) = (await filled.get(f"{API}/recent"))["calls"]  # of the other tenant
    assert call["query"] == BETA
    await filled.post("/purge", {"everything": True, "confirm": True})
    assert (await filled.get(f"{API}/recent"))["calls"] == []
    assert (await filled.get(f"{API}/stats"))["overall"]["requests"] == 5


async def everything(documents: Any) -> set[str]:
    return {entry.id async for batch in documents.scan() for entry, _ in batch}


def fill(plane: Plane, count: int) -> None:
    cache, now = plane.world.app.cache, plane.world.clock()
    for number in range(count):
        name = f"{number:024x}"
        entry = Entry(
            name, name[-16:].encode(), b"p" * 16, "", "default", f"text {number}", now, "", "m", "t"
        )
        cache.entries.add(entry, None, now)


async def test_long_walks_let_calls_through(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop gets to do something else at every slice of 30,000 entries that are looked at and purged."""
    monkeypatch.setattr(breath, "AT_ONCE_S", 0.0)
    fill(plane, 30_000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.TaskGroup() as group:
        counter = group.create_task(count())
        await plane.get(f"{API}/entries?q=29999")
        walked, turns = turns, 0
        assert (await plane.post("/purge", {"category": "default"}))["purged"] == 30_000
        counter.cancel()
    assert walked >= 30_000 / SLICE
    assert turns >= 30_000 / SLICE


# Explaining


async def test_explain_says_hit_and_why(filled: Plane) -> None:
    told = await filled.post("/explain", {"text": "alpha one two three five"})
    assert (told["outcome"], told["category"], told["classified_by"]) == ("MISS", "default", "default")
    assert told["nearest"][0]["entry"]["text"] == ALPHA
    for name in ("text", "query"):
        told = await filled.post("/explain", {name: ALPHA})
        assert (told["outcome"], told["nearest"][0]["verdict"]) == ("HIT", "fresh")
        assert told["nearest"][0]["similarity"] == pytest.approx(1.0)


async def test_explain_decides_as_the_call_path_does(filled: Plane) -> None:
    filled.world.clock.now += 1
    for text in (ALPHA, "alpha one two three 4", BRIEF, BRIEF + " not", "never ask", "gamma"):
        told = await filled.post("/explain", {"text": text, "model": "demo-chat"})
        answer = await filled.world.ask(text, headers={"Cache-Control": "no-store"})
        assert answer.headers["X-Cache"] == told["outcome"], text


async def test_explain_names_threshold_guard_and_expiry(filled: Plane) -> None:
    told = await filled.post("/explain", {"text": "alpha one two three nine"})
    assert told["nearest"][0]["reason"] == "threshold"
    assert "is required" in told["because"]
    await filled.store("what is the sum of 12 and the others here today")
    told = await filled.post("/explain", {"text": "what is the sum of 13 and the others here today"})
    assert told["nearest"][0]["reason"].startswith("numbers")
    filled.world.clock.now += 4000
    told = await filled.post("/explain", {"text": ALPHA})
    assert (told["outcome"], told["nearest"][0]["reason"]) == ("MISS", "expired")


async def test_explain_looks_at_the_tenant_and_model_that_are_named(filled: Plane) -> None:
    for only in ({"model": "demo-chat"}, {"tenant": "0" * 12}):
        told = await filled.post("/explain", {"text": BETA, **only})
        assert BETA not in [near["entry"]["text"] for near in told["nearest"]]
    assert (await filled.post("/explain", {"text": BETA, "model": "demo-chat-large"}))["outcome"] == "HIT"


async def test_explain_works_without_an_embedder(filled: Plane) -> None:
    embedder: WordEmbedder = filled.world.embedder
    embedder.broken = True
    told = await filled.post("/explain", {"text": "brief question"})
    assert (told["outcome"], told["category"], told["nearest"]) == ("MISS", "brief", [])
    assert "broken on purpose" in told["because"]
    status, _ = await filled.refused("POST", f"{API}/purge", json={"like": ALPHA + " more"})
    assert status == 503


# Metrics, description


async def scrape(plane: Plane) -> dict[str, float]:
    text = (await plane.call("GET", "/metrics")).body.decode()
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


async def test_metrics_count_calls(plane: Plane) -> None:
    await plane.store("how do I tie a tie")
    await plane.world.ask("how do I tie a tie")
    await plane.world.ask("never mind")
    await plane.world.ask("how do I tie a tie", headers={"X-Demo-Status": "503", "Cache-Control": "no-cache"})
    seen = await scrape(plane)
    hit = 'nearhit_requests_total{category="default",outcome="HIT",tier="exact"}'
    assert (seen[hit], seen['nearhit_bypass_total{reason="category"}']) == (1, 1)
    assert seen['nearhit_request_seconds_count{outcome="MISS"}'] == 1
    assert seen['nearhit_entries{category="default"}'] == 1
    assert seen['nearhit_upstream_errors_total{kind="5xx",upstream="upstream"}'] == 1
    assert seen['nearhit_saved_tokens_total{category="default"}'] > 0
    assert (seen["nearhit_index_ready"], seen["nearhit_in_flight"]) == (1, 0)


async def test_no_metric_holds_a_word_of_a_query(plane: Plane) -> None:
    await plane.store("what is the sum of 12 and the others here today")
    await plane.world.ask("what is the sum of 98765432109 and the others here today")
    await plane.world.ask("anything at all", model="secretmodel")
    text = (await plane.call("GET", "/metrics")).body.decode()
    assert 'nearhit_refused_total{reason="numbers"} 1.0' in text
    assert "98765432109" not in text
    assert "secretmodel" not in text


async def test_openapi_describes_every_route(plane: Plane) -> None:
    described = await plane.get(f"{API}/openapi.json")
    assert {(r.method.lower(), r.path) for r in ROUTES} == {
        (method, path) for path, methods in described["paths"].items() for method in methods
    }
    purge = described["paths"][f"{API}/purge"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"dry_run", "everything", "like"} <= purge["properties"].keys()


async def test_every_route_and_metric_stands_in_the_docs(plane: Plane) -> None:
    await plane.store("how do I tie a tie")
    text = (ROOT / "docs" / "admin.md").read_text()
    missing = [f"{r.method} {r.path}" for r in ROUTES if f"`{r.method} {r.path}`" not in text]
    families = [family.name for family in plane.world.app.metrics.registry.collect()]
    missing += [name for name in families if f"`{name}" not in text]
    assert missing == []
