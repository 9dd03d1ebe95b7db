from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from stored import DIMENSIONS, digest, everything, make_document, make_entry, unit

from policies.eviction import over
from storage.base import Document
from storage.documents.buffered import BufferedDocuments
from storage.documents.memory import MemoryDocuments
from storage.index.entries import Entries
from storage.index.rebuild import DROPPED_AT_ONCE, rebuild
from storage.opening import open_documents
from storage.vectors.memory import MemoryVectors

PARTITION = digest("partition")


@pytest.fixture(params=["memory", "sqlite"])
async def documents(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BufferedDocuments]:
    url = "memory" if request.param == "memory" else f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    kept = BufferedDocuments(await open_documents(url))
    yield kept
    await kept.close()


def make_entries(capacity: int = 10_000) -> Entries:
    return Entries(
        MemoryVectors(DIMENSIONS),
        capacity,
        worth=lambda entry, demand, now: demand,
        guaranteed=dict,
        over=over,
    )


async def store(documents: BufferedDocuments, *stored: Document) -> None:
    for document in stored:
        documents.put(document)
    await documents.flush()


async def load(documents: BufferedDocuments, entries: Entries, ttl: float = 1e9) -> int:
    return await rebuild(documents, entries, "test", lambda entry: ttl, 2_000.0)


async def test_what_was_stored_is_found_again(documents: BufferedDocuments) -> None:
    await store(documents, *(make_document(str(number)) for number in range(300)))
    entries, progress = make_entries(), list[int]()
    assert await rebuild(documents, entries, "test", lambda entry: 1e9, 2_000.0, progress.append) == 300
    assert progress == sorted(progress)
    assert progress[-1] == 300
    assert (await entries.nearest(PARTITION, unit("7"), 1))[0][1].id == "7"


async def test_expired_documents_are_deleted(documents: BufferedDocuments) -> None:
    await store(documents, make_document("old", created=0.0), make_document("new", created=1_999.0))
    entries = make_entries()
    assert await load(documents, entries, ttl=100.0) == 1
    await documents.flush()
    assert set(await everything(documents)) == {"new"}
    assert entries.get("old") is None


async def test_vectors_of_another_space_are_left_out(documents: BufferedDocuments) -> None:
    other = make_document("other", fingerprint="another")
    odd = Document(make_entry("odd"), unit("odd", 32), b"")
    await store(documents, other, odd, make_document("a"))
    entries = make_entries()
    assert await load(documents, entries) == 3
    assert entries.by_exact(digest("other")) is not None
    assert [entry.id for _, entry in await entries.nearest(PARTITION, unit("other"), 5)] == ["a"]


async def test_what_happens_meanwhile_has_its_say(documents: BufferedDocuments) -> None:
    await store(documents, *(make_document(f"{number}") for number in range(1_000)))
    entries = make_entries()
    newer = make_entry("newer", exact=digest("5"))

    def meanwhile(loaded: int) -> None:
        if loaded < 200 and entries.get("newer") is None:
            entries.add(newer, unit("newer"), 2_000.0)
            documents.forget(["17"])

    await rebuild(documents, entries, "test", lambda entry: 1e9, 2_000.0, meanwhile)
    assert entries.by_exact(digest("5")) is newer
    assert entries.get("5") is None
    assert entries.get("17") is None
    assert len(entries) == 999


async def test_more_documents_than_room(documents: BufferedDocuments) -> None:
    await store(documents, *(make_document(str(number), created=float(number)) for number in range(400)))
    entries = make_entries(capacity=16)
    await load(documents, entries)
    await documents.flush()
    assert len(entries) == 16
    assert set(await everything(documents)) == {entry.id for entry in entries.select(lambda entry: True)}


async def test_calls_go_on_meanwhile() -> None:
    plain = MemoryDocuments()
    await plain.save([make_document(str(number)) for number in range(5_000)])
    documents = BufferedDocuments(plain)
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    work = asyncio.get_running_loop().create_task(other_work(), name="other-work")
    await load(documents, make_entries())
    work.cancel()
    await documents.close()
    assert turns >= 5_000 // 128


async def test_what_others_deleted_leaves_bit_by_bit_so_that_calls_go_on(
    documents: BufferedDocuments,
) -> None:
    entries = make_entries()
    await store(documents, make_document("kept"))
    for number in range(1_000):
        entries.add(make_entry(str(number)), unit(str(number)), 0.0)
    sizes: list[int] = []

    async def look() -> None:
        while True:
            sizes.append(len(entries))
            await asyncio.sleep(0)

    looking = asyncio.get_running_loop().create_task(look(), name="look")
    await load(documents, entries)
    looking.cancel()
    assert list(entries.ids()) == ["kept"]
    sizes.append(1)
    assert max(before - after for before, after in pairwise(sizes)) <= DROPPED_AT_ONCE


async def test_what_is_not_written_yet_is_not_taken_for_deleted(documents: BufferedDocuments) -> None:
    entries = make_entries()
    for number in range(600):
        document = make_document(str(number))
        documents.put(document)
        entries.add(document.entry, document.vector, 0.0)
    await load(documents, entries)
    assert len(entries) == 600
