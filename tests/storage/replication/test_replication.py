"""Replicas in one process, on one document store and a real Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from redis import exceptions as redis_errors
from redis_server import PASSWORD, RedisServer
from stored import DIMENSIONS, Troubled, digest, make_document

from policies.eviction import over
from storage.base import Entry, Vector
from storage.documents.buffered import BufferedDocuments
from storage.index.entries import Entries
from storage.index.rebuild import drop, rebuild, take_in
from storage.replication import changes, leases
from storage.replication.changes import EPOCH, REPLICA, STREAM, Replication
from storage.vectors.memory import MemoryVectors


class Node:
    """One replica, wired as the proxy does it."""

    def __init__(self, store: Troubled, url: str, lease_s: float | None = 5.0) -> None:
        self.documents = BufferedDocuments(store)
        self.entries = Entries(
            MemoryVectors(DIMENSIONS),
            1_000,
            worth=lambda entry, demand, now: demand,
            guaranteed=dict,
            over=over,
        )
        self.replication = Replication(url, self.documents, self.entries, lease_s)
        self.replication.take_in = lambda entry, vector: take_in(
            self.documents, self.entries, "test", lambda entry: 1e9, 2_000.0, entry, vector
        )
        self.replication.drop = lambda ids: drop(self.documents, self.entries, ids)
        self.replication.purging = self._shut_out
        self.replication.give_up = self.purge
        self.replication.reload = self.load
        self.generation = 0
        self._tasks: list[asyncio.Task[None]] = []

    def _shut_out(self) -> None:
        self.generation += 1

    async def load(self) -> None:
        await rebuild(self.documents, self.entries, "test", lambda entry: 1e9, 2_000.0)

    def put(self, id: str, **fields: Any) -> None:
        document = make_document(id, **fields)
        assert self.documents.put(document)
        self.documents.forget([e.id for e in self.entries.add(document.entry, document.vector, 2_000.0)])

    def purge(self, ids: list[str]) -> None:
        for id in ids:
            self.entries.remove(id)
        self.documents.forget(ids)

    def listen(self) -> None:
        spawn = asyncio.get_running_loop().create_task
        self._tasks = [spawn(self.replication.listen()), spawn(self.replication.announce())]

    async def cut_off(self) -> None:
        """Neither hears nor tells."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.cut_off()
        await self.documents.close()
        await self.replication.close()

    @property
    def ids(self) -> set[str]:
        return set(self.entries.ids())


MakeNode = Callable[..., Any]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def store() -> Troubled:
    return Troubled()


@pytest.fixture
async def make_node(redis: RedisServer, store: Troubled) -> AsyncIterator[MakeNode]:
    async with AsyncExitStack() as stack:

        async def make(lease_s: float | None = 5.0) -> Node:
            node = Node(store, redis.url, lease_s)
            stack.push_async_callback(node.close)
            node.listen()
            await node.replication.joined()
            await node.load()
            return node

        yield make


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


async def test_what_one_stores_the_others_have_and_what_one_deletes_they_have_not(
    make_node: MakeNode,
) -> None:
    nodes = [await make_node() for _ in range(3)]
    for number, node in enumerate(nodes):
        node.put(f"of-{number}")
    everything = {"of-0", "of-1", "of-2"}
    await until(lambda: all(node.ids == everything for node in nodes))
    assert await nodes[1].documents.load("of-0") == b"answer"
    nodes[2].purge(["of-0"])
    await until(lambda: all(node.ids == {"of-1", "of-2"} for node in nodes))
    assert await nodes[1].documents.load("of-0") is None


async def test_changes_have_their_effect_in_order(make_node: MakeNode) -> None:
    one, other = await make_node(), await make_node()
    one.put("first")
    await until(lambda: bool(other.ids))
    await other.cut_off()
    for number in range(20):
        one.put("same", exact=digest("same"), created=float(number))
        await one.documents.flush()
        one.purge(["same"])
        await one.documents.flush()
    one.put("last", exact=digest("same"), created=30.0)
    await one.documents.flush()
    other.listen()
    await until(lambda: other.replication.current and len(other.ids) == 2)
    assert other.ids == {"first", "last"}
    assert other.replication.stats()["reloads"] == 0


async def test_what_is_deleted_while_others_are_taken_in_is_not(make_node: MakeNode) -> None:
    one, other = await make_node(), await make_node()
    take_in, taken = other.replication.take_in, list[str]()

    def and_purge(entry: Entry, vector: Vector | None) -> None:
        take_in(entry, vector)
        taken.append(entry.id)
        other.purge([id for id in ("a", "b") if id not in taken])

    other.replication.take_in = and_purge
    one.put("a")
    one.put("b")
    await until(lambda: len(one.ids) == 1)
    assert other.ids == one.ids == set(taken)


async def test_one_that_was_away_for_longer_than_the_stream_reaches_compares_with_the_store(
    make_node: MakeNode, redis: RedisServer
) -> None:
    one, other = await make_node(), await make_node()
    one.put("kept")
    one.put("purged")
    await until(lambda: len(other.ids) == 2)
    await other.cut_off()
    one.purge(["purged"])
    one.put("new")
    await one.documents.flush()
    await until(lambda: not one.replication.stats()["waiting"])
    redis.command("XTRIM", STREAM, "MAXLEN", "0")
    one.put("newest")
    await one.documents.flush()
    await until(lambda: not one.replication.stats()["waiting"])
    other.listen()
    await until(lambda: bool(other.ids == {"kept", "new", "newest"}))
    assert other.replication.stats()["reloads"] == 1


async def test_of_more_than_may_wait_to_be_told_the_last_is_given_up_and_no_more(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await make_node(), await make_node()
    await one.cut_off()
    monkeypatch.setattr(changes, "WAITING", 2)
    for name in "abc":
        one.put(name)
        await one.documents.flush()
    await one.documents.flush()
    assert one.ids == {"a", "b"}
    one.listen()
    await until(lambda: other.ids == {"a", "b"})
    assert await other.documents.load("c") is None


async def test_a_purge_of_more_than_may_wait_to_be_told_is_over_when_the_others_have_compared(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await make_node(), await make_node()
    one.put("a")
    one.put("b")
    await until(lambda: other.ids == {"a", "b"})
    await one.replication.begin_purge()
    await one.cut_off()
    monkeypatch.setattr(changes, "WAITING", 1)
    one.purge(["a", "b"])
    await one.documents.settle_deletions()
    ending = asyncio.create_task(one.replication.end_purge())
    await asyncio.sleep(0.1)
    assert not ending.done()
    one.listen()
    await ending
    assert other.ids == set()


async def test_without_redis_each_works_on_and_catches_up(
    make_node: MakeNode, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nearhit")
    one, other = await make_node(), await make_node()
    redis.stop()
    one.put("of-one")
    other.put("of-other")
    await one.documents.flush()
    await other.documents.flush()
    assert await one.documents.load("of-one") == b"answer"
    await until(lambda: not one.replication.current and not other.replication.current)
    redis.start()
    await until(lambda: one.ids == other.ids == {"of-one", "of-other"})
    await until(lambda: one.replication.current and other.replication.current)
    assert "replication: in contact again" in caplog.messages


async def test_one_that_starts_without_redis_loads_and_catches_up_later(
    store: Troubled, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PATIENCE_S", 0.05)
    await store.save([make_document("a"), make_document("b")])
    redis.stop()
    node = Node(store, redis.url)
    node.listen()
    await node.replication.joined()
    await node.load()
    assert node.ids == {"a", "b"}
    await store.delete(["a"])
    redis.start()
    await until(lambda: bool(node.ids == {"b"}))
    await node.close()


async def test_memory_is_not_believed_without_contact(make_node: MakeNode, store: Troubled) -> None:
    one = await make_node()
    one.put("a")
    await one.documents.flush()
    loads = store.loads
    assert await one.documents.load("a") == b"answer"
    assert store.loads == loads
    await one.cut_off()
    one.replication._told_at = float("-inf")
    await store.delete(["a"])
    assert await one.documents.load("a") is None


def name_of(node: Node) -> str:
    return REPLICA + node.replication.name


async def test_a_purge_waits_for_all_that_are_heard_of(
    make_node: MakeNode, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "HEARD_MS", 400)
    one, other, silent = [await make_node() for _ in range(3)]
    await until(lambda: all(redis.command("EXISTS", name_of(node)) == b":1\r\n" for node in (other, silent)))
    for node in (one, other, silent):
        node.generation = 0
    await one.replication.begin_purge()
    assert other.generation == silent.generation == 1
    assert one.generation == 0
    await silent.cut_off()
    assert redis.command("EXISTS", name_of(silent)) == b":1\r\n"
    await one.replication.begin_purge()
    assert other.generation == 2
    assert silent.generation == 1
    assert redis.command("EXISTS", name_of(silent)) == b":0\r\n"
    silent.listen()
    await until(lambda: silent.generation == 2)


async def test_who_was_stopped_hears_of_a_purge_before_it_serves(
    make_node: MakeNode, redis: RedisServer
) -> None:
    """Its answers from Redis are late by its own clock, which is no sign that Redis is away."""
    node = await make_node()
    await until(lambda: node.replication.current)
    node.generation = 0
    redis.command("SET", EPOCH, "next")
    redis.command("XADD", STREAM, "*", "kind", "purge", "by", "another", "ids", "next")
    await asyncio.sleep(0)
    time.sleep(changes.CURRENT_S + changes.ANSWER_S)  # noqa: ASYNC251  as SIGSTOP does
    await node.replication.certain()
    assert node.generation == 1


async def test_who_is_stopped_again_while_it_gets_in_contact_hears_of_a_purge_before_it_serves(
    make_node: MakeNode, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await make_node()
    await until(lambda: node.replication.current)
    node.generation, client = 0, node.replication._client
    stops = 0

    async def stopped(*asked: Any, **how: Any) -> Any:
        nonlocal stops
        stops += 1
        raise redis_errors.TimeoutError

    async def stopped_again(*asked: Any) -> Any:
        await asyncio.to_thread(redis.command, "SET", EPOCH, "next")
        told = "kind", "purge", "by", "another", "ids", "next"
        await asyncio.to_thread(redis.command, "XADD", STREAM, "*", *told)
        patched.undo()
        await stopped()

    stop_s = changes.STOPPED_S + 0.5
    monkeypatch.setattr(changes, "monotonic", lambda: time.monotonic() + stops * stop_s)
    with monkeypatch.context() as patched:
        patched.setattr(client, "xread", stopped)
        patched.setattr(client, "info", stopped_again)
        await until(lambda: stops == 2)
    await node.replication.certain()
    assert node.generation == 1


async def test_a_purge_waits_for_one_that_is_about_to_load(
    make_node: MakeNode, store: Troubled, redis: RedisServer
) -> None:
    one = await make_node()
    coming = Node(store, redis.url)
    await coming.replication._meet()
    purging = asyncio.create_task(one.replication.begin_purge())
    await asyncio.sleep(0.2)
    assert not purging.done()
    coming.listen()
    await purging
    await coming.close()


async def test_what_is_not_written_when_somebody_purges_is_given_up(
    make_node: MakeNode, store: Troubled
) -> None:
    one, other = await make_node(), await make_node()
    store.flowing.clear()
    other.put("late")
    await asyncio.wait_for(store.inside.wait(), 5)
    await one.replication.begin_purge()
    assert other.ids == set()
    store.flowing.set()
    await other.documents.flush()
    assert await store.load("late") is None
    assert one.ids == other.ids == set()


async def stored_while_others_purged(one: Node, other: Node) -> None:
    """`other` is out of contact, stores "late" and hears nothing of the purge."""
    await other.cut_off()
    other.put("late")
    await other.documents.flush()
    await one.replication.begin_purge()


async def test_what_was_stored_out_of_contact_is_given_up_when_a_purge_came_meanwhile(
    make_node: MakeNode, store: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "HEARD_MS", 200)
    one, other = await make_node(), await make_node()
    await stored_while_others_purged(one, other)
    other.listen()
    await until(lambda: other.ids == set())
    await other.documents.flush()
    assert await store.load("late") is None
    assert other.replication.stats()["given_up"] == 1
    other.put("after")
    await until(lambda: bool(one.ids == {"after"}))


async def test_what_was_stored_before_a_purge_of_which_nothing_was_heard_is_not_told(
    make_node: MakeNode, store: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "HEARD_MS", 200)
    one, other = await make_node(), await make_node()
    await stored_while_others_purged(one, other)
    await other.replication.close()
    assert other.ids == set()
    assert other.replication.stats()["given_up"] == 1
    await other.documents.flush()
    assert await store.load("late") is None


async def test_memory_is_not_believed_before_all_was_heard(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await make_node(), await make_node()
    for id in "abcd":
        one.put(id)
    await until(lambda: len(other.ids) == 4)
    await other.cut_off()
    other.replication.doubt()
    monkeypatch.setattr(changes, "AT_ONCE", 1)
    one.purge(list("abcd"))
    await one.documents.flush()
    await until(lambda: not one.replication.stats()["waiting"])
    drop, believed = other.replication.drop, list[bool]()

    def dropped(ids: Sequence[str]) -> None:
        believed.append(other.replication.current)
        drop(ids)

    other.replication.drop = dropped
    other.listen()
    await until(lambda: other.replication.current)
    assert (other.ids, believed) == (set(), [False] * 4)


async def test_a_purge_that_cannot_be_told_says_so(make_node: MakeNode, redis: RedisServer) -> None:
    one = await make_node()
    redis.stop()
    with pytest.raises(changes.StorageError) as caught:
        await one.replication.begin_purge()
    assert PASSWORD not in str(caught.value)


async def test_the_password_is_not_logged(
    make_node: MakeNode, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        one = await make_node()
        redis.stop()
        await until(lambda: one.replication.stats()["failures"] > 1)
    assert "works alone" in caplog.text
    assert PASSWORD not in caplog.text


async def test_somebody_else_wrote_to_the_store(make_node: MakeNode, store: Troubled) -> None:
    one, other = await make_node(), await make_node()
    await store.save([make_document("imported")])
    one.replication.tell_to_reload()
    await until(lambda: bool(other.ids == {"imported"}))


# One question goes up once

QUESTION = digest("question")


async def lead(node: Node, call: asyncio.Future[None], id: str) -> None:
    await node.replication.leases.hold(QUESTION, call, id)


async def test_who_asks_second_waits_for_the_answer(make_node: MakeNode) -> None:
    one, other = await make_node(), await make_node()
    assert await one.replication.leases.ask(QUESTION) == "mine"
    waiting = [asyncio.create_task(other.replication.leases.ask(QUESTION)) for _ in range(3)]
    call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    holding = asyncio.create_task(lead(one, call, "answer"))
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting)
    one.put("answer", exact=QUESTION)
    call.set_result(None)
    assert await asyncio.gather(*waiting) == ["told"] * 3
    assert other.entries.by_exact(QUESTION) is not None
    await holding
    assert await other.replication.leases.ask(QUESTION) == "told"


async def test_an_answer_that_is_not_stored_leaves_the_next_one_to_ask(make_node: MakeNode) -> None:
    one, other = await make_node(), await make_node()
    assert await one.replication.leases.ask(QUESTION) == "mine"
    waiting = asyncio.create_task(other.replication.leases.ask(QUESTION))
    call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    call.set_result(None)
    await lead(one, call, "nothing")
    assert await waiting == "mine"


async def test_who_dies_is_not_waited_for(make_node: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_MS", 200)
    one, other = await make_node(), await make_node(lease_s=60.0)
    assert await one.replication.leases.ask(QUESTION) == "mine"
    assert await other.replication.leases.ask(QUESTION) == "mine"


async def test_nobody_waits_longer_than_the_setting_says(make_node: MakeNode) -> None:
    one, other = await make_node(), await make_node(lease_s=0.2)
    assert await one.replication.leases.ask(QUESTION) == "mine"
    assert await other.replication.leases.ask(QUESTION) == "alone"
    off = await make_node(lease_s=None)
    assert await off.replication.leases.ask(QUESTION) == "alone"


async def test_without_redis_nobody_waits(make_node: MakeNode, redis: RedisServer) -> None:
    one, other = await make_node(), await make_node(lease_s=60.0)
    assert await one.replication.leases.ask(QUESTION) == "mine"
    waiting = asyncio.create_task(other.replication.leases.ask(QUESTION))
    await asyncio.sleep(0.05)
    redis.stop()
    assert await asyncio.wait_for(waiting, 10) in ("mine", "alone")
    with suppress(TimeoutError):
        await until(lambda: not one.replication.current)
    assert await one.replication.leases.ask(QUESTION) == "alone"


async def test_the_epoch_survives_a_restart_of_one(make_node: MakeNode, redis: RedisServer) -> None:
    one = await make_node()
    before = redis.command("GET", EPOCH)
    other = await make_node()
    assert redis.command("GET", EPOCH) == before
    assert other.replication._epoch == one.replication._epoch
