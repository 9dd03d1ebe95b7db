"""Writes in the background: nothing waits, nothing deleted comes back, trouble is bounded and told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
from stored import Troubled, everything, make_document

from storage import breaker, writer
from storage.base import Document, StorageError
from storage.documents import buffered
from storage.documents.buffered import BufferedDocuments
from storage.documents.memory import MemoryDocuments


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Troubled:
    return Troubled()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(writer, "LONGEST_PAUSE", 0.001)


@pytest.fixture
async def documents(store: Troubled, clock: Clock) -> AsyncIterator[BufferedDocuments]:
    kept = BufferedDocuments(
        store, deadline=0.3, pending_count=10, pending_bytes=1_000, hot_bytes=500, clock=clock
    )
    yield kept
    store.flowing.set()
    store.broken = False
    await kept.close()


def spawn(work: Any) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work, name="test")


async def purge(documents: BufferedDocuments, *ids: str) -> None:
    documents.forget(ids)
    await documents.settle_deletions()


async def test_a_document_is_read_before_and_after_it_is_written(
    store: Troubled, documents: BufferedDocuments
) -> None:
    store.flowing.clear()
    assert documents.put(make_document("a", b"body"))
    assert await documents.load("a") == b"body"
    assert await everything(store) == {}
    store.flowing.set()
    await documents.flush()
    assert set(await everything(store)) == {"a"}
    assert documents.stats()["pending"] == documents.stats()["pending_bytes"] == 0
    assert await documents.load("a") == b"body"
    assert store.loads == 0


async def test_the_queue_is_bounded_by_count_and_bytes(store: Troubled, documents: BufferedDocuments) -> None:
    store.flowing.clear()
    assert documents.put(make_document("big", b"x" * 900))
    assert not documents.put(make_document("more", b"x" * 200))
    assert all(documents.put(make_document(str(number), b"x")) for number in range(9))
    assert not documents.put(make_document("eleventh", b"x"))
    assert documents.stats()["dropped"] == 2


async def test_hot_bodies_are_bounded_and_the_last_used_stay(
    store: Troubled, documents: BufferedDocuments
) -> None:
    await store.save([make_document(id, id.encode() * 200) for id in "abc"])
    for id in "abab":
        assert await documents.load(id) == id.encode() * 200
    assert store.loads == 2
    await documents.load("c")
    await documents.load("b")
    assert store.loads == 3
    assert documents.stats()["hot_bytes"] <= 500
    await documents.load("a")
    assert store.loads == 4


async def test_deleted_while_pending_written_or_loaded(store: Troubled, documents: BufferedDocuments) -> None:
    store.flowing.clear()
    documents.put(make_document("a"))
    await store.inside.wait()  # the batch with "a" is being written
    documents.put(make_document("b"))
    deletion = spawn(purge(documents, "a", "b"))
    await asyncio.sleep(0)
    assert await documents.load("a") is None
    assert await documents.load("b") is None
    store.flowing.set()
    await deletion
    assert await everything(store) == {}
    await documents.flush()
    assert await everything(store) == {}


class LateWrite(Troubled):
    """A save that lands only when the gate opens; nothing else waits for the gate."""

    async def save(self, documents: Sequence[Document]) -> None:
        self.inside.set()
        await self.flowing.wait()
        await MemoryDocuments.save(self, documents)

    async def delete(self, ids: Iterable[str]) -> None:
        await MemoryDocuments.delete(self, ids)


async def test_deletion_comes_after_the_batch_that_is_being_written() -> None:
    store = LateWrite()
    documents = BufferedDocuments(store)
    store.flowing.clear()
    documents.put(make_document("a"))
    await store.inside.wait()
    deletion = spawn(purge(documents, "a"))
    await asyncio.sleep(0.01)
    assert not deletion.done()
    store.flowing.set()
    await deletion
    assert await everything(store) == {}
    await documents.flush()
    assert await everything(store) == {}
    await documents.close()


async def test_a_newer_document_put_while_the_older_is_written() -> None:
    store = LateWrite()
    documents = BufferedDocuments(store, hot_bytes=0)
    store.flowing.clear()
    documents.put(make_document("a", b"older"))
    await store.inside.wait()
    documents.put(make_document("a", b"newer"))
    store.flowing.set()
    await documents.flush()
    assert await documents.load("a") == b"newer"
    await documents.close()


async def test_a_load_under_way_does_not_bring_back_what_is_deleted(
    store: Troubled, documents: BufferedDocuments
) -> None:
    await store.save([make_document("a")])
    store.flowing.clear()
    load = spawn(documents.load("a"))
    await asyncio.sleep(0)
    documents.forget(["a"])
    store.flowing.set()
    assert await load is None
    await documents.flush()
    assert await documents.load("a") is None
    assert documents.stats()["hot"] == 0


async def test_a_forgotten_document_leaves_the_store(store: Troubled, documents: BufferedDocuments) -> None:
    documents.put(make_document("a"))
    await documents.flush()
    documents.forget(["a"])
    assert await documents.load("a") is None
    await documents.flush()
    assert await everything(store) == {}


async def test_put_again_after_it_was_forgotten(store: Troubled, documents: BufferedDocuments) -> None:
    documents.forget(["a"])
    documents.put(make_document("a", b"new"))
    assert await documents.load("a") == b"new"
    await documents.flush()
    assert set(await everything(store)) == {"a"}


async def test_a_failing_store_is_tried_again(store: Troubled, documents: BufferedDocuments) -> None:
    store.broken = True
    documents.put(make_document("a"))
    while not documents.stats()["failures"]:
        await asyncio.sleep(0.005)
    assert "broken" in documents.stats()["write_trouble"]
    store.broken = False
    await documents.flush()
    assert set(await everything(store)) == {"a"}
    assert documents.stats()["lost"] == 0
    assert documents.stats()["write_trouble"] == ""


async def test_a_document_that_the_store_refuses_is_lost_alone(
    store: Troubled, documents: BufferedDocuments
) -> None:
    lost: list[str] = []
    documents.on_lost = lost.extend
    store.poison = {"3"}
    for number in range(8):
        documents.put(make_document(str(number)))
    await documents.flush()
    assert lost == ["3"]
    assert set(await everything(store)) == {"0", "1", "2", "4", "5", "6", "7"}
    assert documents.stats()["lost"] == 1
    assert await documents.load("3") is None


async def test_after_a_document_was_lost_others_are_written_together_again(
    store: Troubled, documents: BufferedDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    save = store.save

    async def counted(some: Sequence[Document]) -> None:
        batches.append(len(some))
        await save(some)

    monkeypatch.setattr(store, "save", counted)
    store.poison = {"3"}
    for number in range(8):
        documents.put(make_document(str(number)))
    await documents.flush()
    batches.clear()
    for number in range(8):
        documents.put(make_document(f"later {number}"))
    await documents.flush()
    assert batches == [8]


async def test_a_delete_that_fails_says_so_hides_and_is_tried_again(
    store: Troubled, documents: BufferedDocuments
) -> None:
    await store.save([make_document("a")])
    store.broken = True
    with pytest.raises(StorageError):
        await purge(documents, "a")
    assert await documents.load("a") is None
    store.broken = False
    await documents.flush()
    assert await everything(store) == {}


async def test_settled_means_all_that_was_forgotten_before(
    store: Troubled, documents: BufferedDocuments
) -> None:
    """A purge that failed is made good by the next one, whatever that one is about."""
    await store.save([make_document("a")])
    store.broken = True
    with pytest.raises(StorageError):
        await purge(documents, "a")
    assert set(await everything(store)) == {"a"}
    store.broken = False
    await purge(documents, "other")
    assert await everything(store) == {}


async def test_a_document_put_again_outlives_a_deletion_that_waits(
    store: Troubled, documents: BufferedDocuments
) -> None:
    store.flowing.clear()
    documents.put(make_document("x"))
    await store.inside.wait()
    deletion = spawn(purge(documents, "a"))
    await asyncio.sleep(0)
    documents.put(make_document("a", b"new"))
    store.flowing.set()
    await deletion
    await documents.flush()
    assert await documents.load("a") == b"new"
    assert set(await everything(store)) == {"a", "x"}


async def test_a_document_put_again_outlives_a_deletion_in_many_steps(
    store: Troubled, documents: BufferedDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffered, "DELETED_AT_ONCE", 1)
    monkeypatch.setattr(writer, "GATHER", 0)  # so that writing and deleting take turns
    store.flowing.clear()
    ids = [str(number) for number in range(8)]
    documents.forget(ids)
    deletion = spawn(documents.settle_deletions())
    await store.inside.wait()
    for id in ids:
        documents.put(make_document(id, b"new"))
    store.flowing.set()
    await deletion
    await documents.flush()
    assert set(await everything(store)) == set(ids)


async def test_nothing_is_over_while_deletions_wait(
    store: Troubled, documents: BufferedDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffered, "DELETED_AT_ONCE", 1)
    await store.save([make_document(id) for id in "abc"])
    documents.forget("abc")
    await documents.flush()
    assert await everything(store) == {}


async def test_while_others_may_have_deleted_it_an_answer_comes_from_the_store(
    store: Troubled, documents: BufferedDocuments
) -> None:
    documents.put(make_document("a", b"body"))
    await documents.flush()
    await store.delete(["a"])
    assert await documents.load("a") == b"body"
    documents.current = lambda: False
    assert await documents.load("a") is None


async def test_a_hanging_store_ends_within_the_deadline(
    store: Troubled, documents: BufferedDocuments
) -> None:
    await store.save([make_document("a")])
    store.flowing.clear()
    with pytest.raises(StorageError):
        await documents.load("a")
    with pytest.raises(StorageError):
        await purge(documents, "a")
    documents.put(make_document("b"))
    with pytest.raises(StorageError):
        await documents.flush(timeout=0.05)


async def test_loads_fail_fast_after_repeated_failures(
    store: Troubled, documents: BufferedDocuments, clock: Clock
) -> None:
    await store.save([make_document("a")])
    store.broken = True
    for _ in range(20):
        with pytest.raises(StorageError):
            await documents.load("a")
    assert store.loads == breaker.BREAKER_FAILURES
    assert documents.stats()["breaker"] == "open"
    store.broken = False
    with pytest.raises(StorageError):
        await documents.load("a")
    clock.now += breaker.BREAKER_PAUSE
    assert await documents.load("a") == b"answer"
    assert documents.stats()["breaker"] == "closed"


async def test_many_are_loaded_with_few_calls(store: Troubled) -> None:
    documents = BufferedDocuments(store)
    await store.save([make_document(str(number), b"stored") for number in range(200)])
    documents.put(make_document("new", b"waiting"))
    ids = [*map(str, range(200)), "0", "new", "lost"]
    expected = {**dict.fromkeys(map(str, range(200)), b"stored"), "new": b"waiting", "lost": None}
    for _ in range(2):  # the second time they are at hand, but for the one that there is not
        assert await documents.load_many(ids) == expected
    assert store.loads == 3
    await documents.close()


async def test_many_that_fail_are_one_failure_and_those_at_hand_stay(
    store: Troubled, documents: BufferedDocuments
) -> None:
    await store.save([make_document(str(number)) for number in range(9)])
    assert await documents.load("0") == b"answer"
    store.broken = True
    assert await documents.load_many([str(number) for number in range(9)]) == {"0": b"answer"}
    store.broken, store.flowing = False, asyncio.Event()
    assert await documents.load_many([str(number) for number in range(9)]) == {"0": b"answer"}
    assert documents.stats()["failures"] == 2
    assert documents.stats()["breaker"] == "closed"


async def test_many_under_way_do_not_bring_back_what_is_deleted(
    store: Troubled, documents: BufferedDocuments
) -> None:
    await store.save([make_document(id) for id in "abc"])
    await documents.load("a")
    documents.forget(["c"])
    store.flowing.clear()
    load = spawn(documents.load_many(["a", "b", "c"]))
    await asyncio.sleep(0)
    documents.forget(["a", "b"])
    store.flowing.set()
    assert await load == {"a": None, "b": None}
    assert documents.stats()["hot"] == 0


async def test_scan_leaves_out_what_was_deleted_since_it_began(
    store: Troubled, documents: BufferedDocuments
) -> None:
    await store.save([make_document(str(number)) for number in range(300)])
    store.flowing.clear()
    documents.forget(["299"])
    seen: list[str] = []
    async for batch in documents.scan():
        seen += [entry.id for entry, _ in batch]
        documents.forget(["0"])
    assert "299" not in seen
    assert "0" not in seen
    assert len(seen) == 298


async def test_entries_leave_out_what_was_deleted_before_their_turn(
    store: Troubled, documents: BufferedDocuments
) -> None:
    await store.save([make_document(id) for id in "abc"])
    seen = []
    async for entry, _ in documents.each(["a", "b", "c"]):
        seen.append(entry.id)
        documents.forget(["c"])
    assert seen == ["a", "b"]


@pytest.mark.parametrize("trouble", ["none", "broken", "stalled"])
async def test_close_is_bounded_and_closes_the_store(store: Troubled, trouble: str) -> None:
    documents = BufferedDocuments(store, deadline=0.05)
    store.broken = trouble == "broken"
    if trouble == "stalled":
        store.flowing.clear()
    documents.put(make_document("a"))
    async with asyncio.timeout(2):
        await documents.close(timeout=0.1)
    assert store.closed
    assert (await everything(store) != {}) == (trouble == "none")
    assert not documents.put(make_document("late"))
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "documents-writer"]


async def test_close_tells_what_was_not_carried_out(
    store: Troubled, caplog: pytest.LogCaptureFixture
) -> None:
    documents = BufferedDocuments(store, deadline=0.05)
    store.broken = True
    documents.put(make_document("a"))
    documents.forget(["b", "c"])
    await documents.close(timeout=0.1)
    assert "1 answers were not written to the document store in time" in caplog.messages
    assert "2 deletions were not carried out in the document store in time" in caplog.messages


@pytest.mark.parametrize("ticks", range(6))
async def test_a_cancelled_caller_disturbs_nobody(
    store: Troubled, documents: BufferedDocuments, ticks: int
) -> None:
    await store.save([make_document("a"), make_document("b")])
    store.flowing.clear()
    tasks = [spawn(documents.load("a")), spawn(purge(documents, "b")), spawn(documents.flush())]
    for _ in range(ticks):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    store.flowing.set()
    assert await documents.load("a") == b"answer"
    documents.put(make_document("c"))
    await documents.flush()
    assert set(await everything(store)) - {"b"} == {"a", "c"}


async def test_an_unexpected_error_does_not_end_the_writer(
    store: Troubled, documents: BufferedDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "poison", None)
        documents.put(make_document("a"))
        await asyncio.sleep(0.01)
    await documents.flush()
    assert set(await everything(store)) == {"a"}
