"""One suite for vectors in memory and in PostgreSQL; then what only the latter has to promise."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from blockbuster import BlockBuster
from postgres_server import PostgresServer
from sqlalchemy.engine import make_url
from stored import DIMENSIONS, clustered, digest, make_entry, unit

from policies.eviction import over
from storage import breaker
from storage.base import Document, Entry, StorageError, Vector
from storage.documents.memory import MemoryDocuments
from storage.index.entries import Entries
from storage.vectors import pgvector
from storage.vectors import remote as remote_vectors
from storage.vectors.memory import MemoryVectors
from storage.vectors.pgvector import Limits, PgVectors
from storage.vectors.remote import RemoteVectors

ONE, TWO = digest("one"), digest("two")

Make = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def remote(
    url: str,
    documents: MemoryDocuments | None = None,
    dimensions: int = DIMENSIONS,
    space: str = "test",
    deadline: float = 5.0,
) -> AsyncIterator[RemoteVectors]:
    table = PgVectors(make_url(url), dimensions, space)
    vectors = RemoteVectors(table, dimensions, (documents or MemoryDocuments()).entries, deadline)
    tending = asyncio.get_running_loop().create_task(vectors.tend(), name="tend")
    try:
        yield vectors
    finally:
        tending.cancel()
        await asyncio.wait([tending])
        await vectors.close()


async def emptied(url: str) -> None:
    table = PgVectors(make_url(url), DIMENSIONS, "any")
    await table._fetch("empty", "DROP TABLE IF EXISTS nearhit_vectors")
    await table.close()


@pytest.fixture
async def database(postgres_url: str) -> str:
    await emptied(postgres_url)
    return postgres_url


@pytest.fixture(params=["memory", "pgvector", "pgvector with its graph"])
async def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def open_one(dimensions: int = DIMENSIONS) -> Any:
            if request.param == "memory":
                return MemoryVectors(dimensions)
            if request.param == "pgvector with its graph":
                monkeypatch.setattr(remote_vectors, "SCANNED", 0)
                monkeypatch.setattr(remote_vectors, "SPARE", 0)
            url = request.getfixturevalue("postgres_url")
            await emptied(url)
            vectors = await stack.enter_async_context(remote(url, dimensions=dimensions))
            if request.param == "pgvector with its graph":
                vectors.loaded()
                await compared(vectors)
                assert vectors.stats()["graph"]
            return vectors

        yield open_one


async def settled(vectors: Any) -> None:
    """What was added lies where it is to lie."""
    if isinstance(vectors, RemoteVectors):
        await vectors.flush()
        assert not vectors._here.partitions()


async def compared(vectors: RemoteVectors) -> None:
    vectors.loaded()
    async with asyncio.timeout(30):
        while not vectors.stats()["current"] or not vectors.stats()["graph"]:
            await asyncio.sleep(0.01)


def entry(id: str, partition: bytes = ONE, **fields: Any) -> Entry:
    return make_entry(id, partition=partition, **fields)


async def ids(vectors: Any, vector: Vector, count: int = 5, partition: bytes = ONE) -> list[str]:
    return [found.id for _, found in await vectors.nearest(partition, vector, count)]


async def test_an_empty_partition_finds_nothing(make: Make) -> None:
    vectors = await make()
    assert await vectors.nearest(ONE, unit("a"), 3) == []
    key = vectors.add(a := entry("a"), unit("a"))
    await settled(vectors)
    vectors.remove(a, key)
    assert await vectors.nearest(ONE, unit("a"), 3) == []
    assert vectors.partitions() == []
    await settled(vectors)
    assert await vectors.nearest(ONE, unit("a"), 3) == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_nearest_gives_cosines_best_first(make: Make, at_once: bool) -> None:
    """Before it is written, and afterwards."""
    rows = clustered(50, DIMENSIONS)
    vectors = await make()
    for number, row in enumerate(rows):
        vectors.add(entry(str(number)), row)
    if not at_once:
        await settled(vectors)
    cosines = rows @ rows[3]
    best = np.argsort(-cosines)[:5]
    found = await vectors.nearest(ONE, rows[3], 5)
    assert [each.id for _, each in found] == [str(number) for number in best]
    assert [cosine for cosine, _ in found] == pytest.approx(cosines[best].tolist(), abs=1e-5)


@pytest.mark.parametrize("count", [1, 3, 10])
async def test_no_more_than_there_are(make: Make, count: int) -> None:
    vectors = await make()
    for number in range(3):
        vectors.add(entry(str(number)), unit(number))
    await settled(vectors)
    assert len(await vectors.nearest(ONE, unit("q"), count)) == min(3, count)


async def test_a_partition_is_blind_for_the_others(make: Make) -> None:
    vectors = await make()
    vectors.add(entry("a"), unit("another"))
    for number in range(20):
        vectors.add(entry(f"b{number}", TWO), unit("same"))
    for _ in range(2):
        assert await ids(vectors, unit("same")) == ["a"]
        assert "a" not in await ids(vectors, unit("same"), partition=TWO)
        assert await ids(vectors, unit("same"), partition=digest("three")) == []
        await settled(vectors)
    assert sorted(vectors.partitions()) == sorted([ONE, TWO])


async def test_many_equal_vectors(make: Make) -> None:
    vectors = await make()
    for number in range(300):
        vectors.add(entry(str(number)), unit("same"))
    await settled(vectors)
    found = await vectors.nearest(ONE, unit("same"), 4)
    assert len({each.id for _, each in found}) == 4
    assert all(cosine == pytest.approx(1.0, abs=1e-5) for cosine, _ in found)


async def test_near_neighbours_are_found_whatever_was_removed(make: Make) -> None:
    """Many rounds of removing and adding: what is left is found, what is gone is not."""
    rows = clustered(1_500, 64)
    vectors, chance = await make(64), random.Random(0)
    live: dict[int, tuple[Entry, int]] = {}
    for number, row in enumerate(rows):
        each = entry(str(number))
        live[number] = each, vectors.add(each, row)
        if number > 500 and (gone := chance.choice(range(number))) in live:
            vectors.remove(*live.pop(gone))
        if number % 300 == 0:
            await settled(vectors)
    await settled(vectors)
    noise = np.random.default_rng(1).normal(size=(150, 64)) * 0.4 / 64**0.5
    kept, right = np.array(sorted(live)), 0
    for number, key in enumerate(chance.sample(sorted(live), 150)):
        query = rows[key] + noise[number]
        vector = (query / np.linalg.norm(query)).astype(np.float32)
        found = await vectors.nearest(ONE, vector, 4)
        assert {int(each.id) for _, each in found} <= live.keys()
        right += found[0][0] >= float((rows[kept] @ vector).max()) - 1e-5
    assert right >= 147


async def test_memory_and_vectors_are_of_one_mind(make: Make) -> None:
    """As entries come, replace each other, are evicted and removed."""
    vectors, chance = await make(), random.Random(1)
    entries = Entries(vectors, 12, worth=lambda entry, demand, now: entry.created, guaranteed=dict, over=over)
    for step in range(200):
        if chance.random() < 0.7:
            id, exact, where = str(chance.randrange(25)), chance.randrange(25), chance.choice((ONE, TWO))
            text = digest(f"{exact} {where.hex()}")
            entries.add(entry(id, where, exact=text, created=float(step)), unit(f"{exact}"), 0.0)
        else:
            entries.remove(str(chance.randrange(25)))
        if step % 20 == 0:
            await settled(vectors)
        for partition in (ONE, TWO):
            found = await entries.nearest(partition, unit("query"), 50)
            inside = {each.id for each in entries.select(lambda each: True) if each.partition == partition}
            assert {each.id for _, each in found} == inside
            for cosine, each in found:
                [text] = [n for n in range(25) if digest(f"{n} {partition.hex()}") == each.exact]
                assert cosine == pytest.approx(float(unit(f"{text}") @ unit("query")), abs=1e-5)


async def test_what_is_gone_for_good_is_not_found(make: Make) -> None:
    vectors = await make()
    key = vectors.add(a := entry("a"), unit("a"))
    vectors.add(entry("b"), unit("b"))
    await settled(vectors)
    vectors.remove(a, key)
    vectors.condemn([a, entry("unknown")])
    await vectors.settle()
    assert await ids(vectors, unit("a")) == ["b"]


def test_memory_answers_without_letting_others_run() -> None:
    vectors = MemoryVectors(DIMENSIONS)
    vectors.add(entry("a"), unit("a"))
    with pytest.raises(StopIteration) as done:
        vectors.nearest(ONE, unit("a"), 1).send(None)
    assert [found.id for _, found in done.value.value] == ["a"]


# In PostgreSQL


async def rows_in(url: str) -> dict[str, str]:
    """Id to space."""
    table = PgVectors(make_url(url), DIMENSIONS, "any")
    found = await table._fetch("look", "SELECT id, space FROM nearhit_vectors")
    await table.close()
    return {row[0]: row[1] for row in found}


async def documents_of(*ids: str, space: str = "test") -> MemoryDocuments:
    documents = MemoryDocuments()
    await documents.save([Document(entry(id, fingerprint=space), unit(id), b"answer") for id in ids])
    return documents


async def test_a_restart_sends_what_is_not_there_and_nothing_else(database: str) -> None:
    documents = await documents_of(*"abcdef")
    async with remote(database) as vectors:
        for id in "abc":
            vectors.add(entry(id), unit(id))
    async with remote(database, documents) as vectors:
        for id in "abcdef":
            vectors.add(entry(id), unit(id), known=True)
        assert await ids(vectors, unit("b"), 1) == ["b"]
        await compared(vectors)
        assert vectors.stats()["written"] == 3
        assert await ids(vectors, unit("e"), 1) == ["e"]
    assert set(await rows_in(database)) == set("abcdef")


async def test_what_has_no_document_is_deleted_and_what_another_proxy_knows_is_not(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = await documents_of(*"ab")
    async with remote(database) as vectors:
        for id in "abcd":
            vectors.add(entry(id), unit(id))
    async with remote(database, documents) as vectors:
        vectors.add(entry("a"), unit("a"), known=True)
        await compared(vectors)
        assert set(await rows_in(database)) == set("abcd")  # they may be on their way to the documents
        monkeypatch.setattr("storage.vectors.pgvector._ROWS", vectors_rows_at_once())
        vectors._trouble = "again"
        await compared(vectors)
        assert set(await rows_in(database)) == set("ab")


def vectors_rows_at_once() -> str:
    return pgvector._ROWS.replace(f"interval '{pgvector.SETTLED_S} s'", "interval '0 s'")


async def test_vectors_of_another_model_are_not_mixed(database: str) -> None:
    """Nor of other dimensions."""
    async with remote(database) as vectors:
        vectors.add(entry("a"), unit("a"))
        vectors.add(entry("b"), unit("b"))
        await vectors.flush()
        documents = await documents_of("a", "b", space="other")
        async with remote(database, documents, 32, "other") as others:
            await compared(others)
            others.add(entry("a", fingerprint="other"), unit("a", 32))
            await others.flush()
            assert await ids(others, unit("a", 32)) == ["a"]
            assert await ids(vectors, unit("a")) == ["b"]
            await compared(vectors)
            assert await ids(vectors, unit("b")) == ["b"]
    assert len(set((await rows_in(database)).values())) == 2


async def test_what_leaves_memory_leaves_the_database(database: str) -> None:
    async with remote(database) as vectors:
        keys = {id: vectors.add(entry(id), unit(id)) for id in "ab"}
        await vectors.flush()
        vectors.remove(entry("a"), keys["a"])
        await vectors.flush()
        assert set(await rows_in(database)) == {"b"}


async def test_what_is_removed_while_the_database_searches_is_not_found(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote(database) as vectors:
        key = vectors.add(a := entry("a"), unit("a"))
        vectors.add(entry("b"), unit("b"))

        async def meanwhile(*_: object) -> list[Any]:
            vectors.remove(a, key)
            return [(1.0, a.exact), (1.0, digest("a stranger"))]

        monkeypatch.setattr(vectors._table, "nearest", meanwhile)
        assert await ids(vectors, unit("a")) == ["b"]


async def test_an_answer_that_replaces_another_keeps_its_vector(database: str) -> None:
    """Also where another proxy stored it, and this one only hears that the old one has gone."""
    async with remote(database) as here, remote(database) as there:
        old, new = entry("old", exact=digest("x")), entry("new", exact=digest("x"))
        key = here.add(old, unit("x"))
        await here.flush()
        there.add(old, unit("x"), known=True)
        here.remove(old, key)
        here.add(new, unit("x"))
        await here.flush()
        there.remove(old, key)
        await there.flush()
        assert set(await rows_in(database)) == {"new"}
        there.add(new, unit("x"), known=True)
        assert await ids(there, unit("x")) == ["new"]
        there.remove(new, key)
        await there.settle()
        assert await rows_in(database) == {}


async def test_another_text_under_a_known_id_is_not_taken_for_the_old_one(database: str) -> None:
    """An export that somebody edited and imported again."""
    async with remote(database) as vectors:
        vectors.add(entry("a", exact=digest("before")), unit("before"))
    documents = MemoryDocuments()
    edited = entry("a", exact=digest("after"))
    await documents.save([Document(edited, unit("after"), b"answer")])
    async with remote(database, documents) as vectors:
        vectors.add(edited, unit("after"), known=True)
        assert await ids(vectors, unit("before")) == []
        await compared(vectors)
        [(cosine, _)] = await vectors.nearest(ONE, unit("after"), 5)
        assert cosine == pytest.approx(1.0, abs=1e-5)


async def test_more_than_may_wait_are_sent_later(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_vectors, "MOST_PENDING", 10)
    names = [str(number) for number in range(40)]
    async with remote(database, await documents_of(*names)) as vectors:
        for name in names:
            vectors.add(entry(name), unit(name))
        assert vectors.stats()["dropped"] == 30
        assert not vectors.stats()["current"]
        await compared(vectors)
        assert vectors.stats()["written"] == 40
    assert len(await rows_in(database)) == 40


async def test_a_vector_that_the_database_refuses_does_not_hold_up_the_others(database: str) -> None:
    async with remote(database) as vectors:
        for number in range(5):
            odd = np.full(DIMENSIONS, np.nan, np.float32) if number == 2 else unit(number)
            vectors.add(entry(str(number)), odd)
        await vectors.flush()
        assert set(await rows_in(database)) == {"0", "1", "3", "4"}
        assert vectors.stats()["dropped"] == 1


async def test_an_error_that_nobody_expected_does_not_end_the_writing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote(database) as vectors:
        put = vectors._table.put

        async def once(rows: Any) -> None:
            monkeypatch.setattr(vectors._table, "put", put)
            raise RuntimeError("not foreseen")

        monkeypatch.setattr(vectors._table, "put", once)
        vectors.add(entry("a"), unit("a"))
        await vectors.flush(5)
        assert set(await rows_in(database)) == {"a"}


async def test_a_graph_that_cannot_be_built_is_no_reason_to_compare_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote(database, await documents_of("a")) as vectors:
        vectors.add(entry("a"), unit("a"), known=True)
        await vectors._table.rows(b"", 1)
        name = vectors._table._sql.graph
        await vectors._table._fetch("stand in the way", f"CREATE TABLE {name} ()")
        try:
            vectors.loaded()
            await until(lambda: bool(vectors.stats()["graph_trouble"]))
            assert "exists" in vectors.stats()["graph_trouble"]
            assert (vectors.stats()["current"], vectors.stats()["trouble"]) == (True, "")
            compare, compared_again = vectors._compare, 0

            async def count() -> None:
                nonlocal compared_again
                compared_again += 1
                await compare()

            monkeypatch.setattr(vectors, "_compare", count)
            await asyncio.sleep(5 * remote_vectors.COMPARE_AGAIN_S)
            assert (compared_again, vectors.stats()["write_failures"]) == (0, 0)
        finally:
            await vectors._table._fetch("step aside", f"DROP TABLE {name}")
        vectors._build_after = 0.0
        await compared(vectors)
        assert vectors.stats()["graph_trouble"] == ""


async def test_the_graph_is_walked_only_where_it_meets_enough(database: str) -> None:
    async with remote(database) as vectors:
        vectors._table.graph, vectors._table.reach = True, 100
        vectors._entries = dict.fromkeys(range(1_000_000))  # type: ignore[assignment]
        assert not vectors._walks(1_000, 8)
        assert not vectors._walks(100_000, 8)
        assert vectors._walks(500_000, 8)
        vectors._table.reach = 20_000
        assert not vectors._walks(1_000, 8)
        assert vectors._walks(100_000, 8)
        assert not vectors._walks(100_000, 1_000)


# In trouble


@asynccontextmanager
async def locked(vectors: RemoteVectors, how: str = "LOCK TABLE nearhit_vectors") -> AsyncIterator[Any]:
    """Others wait for what this does and takes back. Gives the connection."""
    connection = await vectors._table._connect(0)
    transaction = connection.transaction()
    try:
        await transaction.start()
        await connection.execute(how)
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


async def test_a_partition_that_takes_too_long_closes_no_other(database: str) -> None:
    async with remote(database, deadline=0.5) as vectors:
        vectors.add(entry("a"), unit("a"))
        await vectors.flush()
        async with locked(vectors):
            for _ in range(breaker.BREAKER_FAILURES + 1):
                with pytest.raises(StorageError, match="did not answer"):
                    await vectors.nearest(ONE, unit("a"), 1)
        assert vectors.stats()["search_failures"] == breaker.BREAKER_FAILURES + 1
        assert vectors.stats()["breaker"] == "closed"
        assert await ids(vectors, unit("a")) == ["a"]


async def test_a_search_that_was_given_up_ends_in_the_server_too(database: str) -> None:
    async with remote(database, deadline=0.3) as vectors:
        vectors.add(entry("a"), unit("a"))
        await vectors.flush()
        async with locked(vectors) as connection:
            with pytest.raises(StorageError, match="did not answer"):
                await vectors.nearest(ONE, unit("a"), 1)
            await asyncio.sleep(0.6)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            assert await connection.fetchval(waiting) == 0


@pytest.mark.parametrize("connecting", [0.3, 0.8])
async def test_a_write_that_was_given_up_is_not_done_later(
    database: str, monkeypatch: pytest.MonkeyPatch, connecting: float
) -> None:
    """However long it took to reach the server."""
    monkeypatch.setitem(PgVectors._fetch.__kwdefaults__, "limits", Limits(1.0, 0.4, 0.5))
    table, connect = PgVectors(make_url(database), DIMENSIONS, "test"), PgVectors._connect

    async def slowly(self: PgVectors, run: float) -> Any:
        await asyncio.sleep(connecting)
        return await connect(self, run)

    async with remote(database) as vectors:
        a = entry("a")
        same = f"INSERT INTO nearhit_vectors VALUES ('\\x{a.exact.hex()}', 'b', '', '', now(), '[1]')"
        async with locked(vectors, same):
            monkeypatch.setattr(PgVectors, "_connect", slowly)
            with pytest.raises(StorageError):
                await table.put([(a, unit("a"))])
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.3)
        monkeypatch.setattr(PgVectors, "_connect", connect)
        assert await rows_in(database) == {}
    await table.close()


@pytest.fixture
def server(nothing_blocks_the_loop: BlockBuster) -> Any:
    nothing_blocks_the_loop.deactivate()
    with PostgresServer() as server:
        yield server


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


async def test_stopped_and_started_again(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "BREAKER_PAUSE", 0.2)
    async with remote(server.url, deadline=0.5) as vectors:
        vectors.add(entry("a"), unit("a"))
        await vectors.flush()
        assert await ids(vectors, unit("a")) == ["a"]
        server.stop()
        for _ in range(breaker.BREAKER_FAILURES):
            with pytest.raises(StorageError, match="search"):
                await vectors.nearest(ONE, unit("a"), 1)
        assert vectors.stats()["breaker"] == "open"
        with pytest.raises(StorageError, match="repeatedly"):
            await vectors.nearest(ONE, unit("a"), 1)
        vectors.add(entry("b"), unit("b"))
        vectors.condemn([entry("unknown")])
        with pytest.raises(StorageError):
            await vectors.settle()
        await until(lambda: vectors.stats()["write_failures"] > 0)
        server.start()
        await vectors.flush(30)
        await asyncio.sleep(0.2)
        assert await ids(vectors, unit("b"), 1) == ["b"]
        assert vectors.stats()["breaker"] == "closed"


@pytest.mark.parametrize("again", ["not asked again", "asked again", "asked again and evicted"])
async def test_what_was_condemned_while_the_database_was_away_goes_whatever_its_id_is(
    server: PostgresServer, again: str
) -> None:
    """What lies there is of an entry before, whose successor had not been written yet."""
    old, new, newer = (entry(id, exact=digest("x")) for id in ("old", "new", "newer"))
    async with remote(server.url, deadline=0.5) as vectors:
        key = vectors.add(old, unit("x"))
        await vectors.flush()
        server.stop()
        vectors.remove(old, key)
        vectors.remove(new, vectors.add(new, unit("x")))
        vectors.condemn([new])
        with pytest.raises(StorageError):
            await vectors.settle()
        if again != "not asked again":
            key = vectors.add(newer, unit("x"))
        if again == "asked again and evicted":
            vectors.remove(newer, key)
        server.start()
        await vectors.flush(30)
        assert set(await rows_in(server.url)) == ({"newer"} if again == "asked again" else set())


async def test_a_stalled_server_is_waited_for_until_the_deadline(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "BREAKER_PAUSE", 0.2)
    async with remote(server.url, deadline=0.2) as vectors:
        vectors.add(entry("a"), unit("a"))
        await vectors.flush()
        loop = asyncio.get_running_loop()
        server.stall()
        for _ in range(breaker.BREAKER_FAILURES):
            started = loop.time()
            with pytest.raises(StorageError, match=r"PostgreSQL did not answer in 0\.(2|18) s"):
                await vectors.nearest(ONE, unit("a"), 1)
            assert loop.time() - started < 0.6
        assert vectors.stats()["breaker"] == "open"
        server.resume()
        await asyncio.sleep(0.3)
        assert await ids(vectors, unit("a")) == ["a"]


async def test_a_database_that_comes_later(server: PostgresServer) -> None:
    documents = await documents_of("a")
    server.stop()
    async with remote(server.url, documents, deadline=0.5) as vectors:
        vectors.add(entry("a"), unit("a"), known=True)
        vectors.loaded()
        with pytest.raises(StorageError):
            await vectors.nearest(ONE, unit("a"), 1)
        await until(lambda: vectors.stats()["write_failures"] > 0)
        assert "compare" in vectors.stats()["trouble"]
        server.start()
        await compared(vectors)
        assert await ids(vectors, unit("a")) == ["a"]
