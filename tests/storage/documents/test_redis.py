"""What only Redis does: documents that go by themselves, and a server that goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis_server import PASSWORD, RedisServer
from stored import everything, make_document

from storage.base import Document, StorageError
from storage.documents.buffered import BufferedDocuments
from storage.documents.redis import DOC, EXACT, META, ORDER, RedisDocuments
from storage.opening import open_documents


async def opened(url: str, deadline: float = 5.0) -> RedisDocuments:
    documents = await open_documents(url, deadline)
    assert isinstance(documents, RedisDocuments)
    return documents


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisDocuments]:
    documents = await opened(redis_server.url, deadline=0.5)
    yield documents
    await documents.close()


def lasting(id: str, seconds: float | None) -> Document:
    document = make_document(id)
    document.expires = None if seconds is None else time.time() + seconds
    return document


async def test_a_document_goes_when_its_time_is_over_and_leaves_nothing(store: RedisDocuments) -> None:
    await store.save([lasting("short", 0.2), lasting("long", 3_600), lasting("ever", None)])
    assert await store.load("short") == b"answer"
    client = store._client
    assert 3_500 < await client.ttl(f"{DOC}long") <= 3_600
    assert await client.ttl(f"{DOC}ever") == -1
    while await client.exists(f"{DOC}short"):
        await asyncio.sleep(0.02)
    assert await store.load("short") is None
    assert set(await everything(store)) == {"long", "ever"}
    assert await client.zcard(ORDER) == 2
    assert len(await client.keys(f"{EXACT}*")) == 2


async def test_a_document_that_is_saved_again_has_its_new_time(store: RedisDocuments) -> None:
    await store.save([lasting("a", 0.2)])
    await store.save([lasting("a", None)])
    await asyncio.sleep(0.3)
    assert await store.load("a") == b"answer"


async def test_deleted_documents_leave_no_keys(store: RedisDocuments) -> None:
    await store.save([make_document(str(number)) for number in range(10)])
    await store.save([make_document("other", exact=make_document("3").entry.exact)])
    await store.delete([*map(str, range(10)), "other"])
    left = {key.decode() for key in await store._client.keys("*")}
    assert left == {META, "{nearhit}:seq"}


async def test_documents_outlive_the_server(redis_server: RedisServer, store: RedisDocuments) -> None:
    await store.save([make_document("a", b"kept")])
    redis_server.stop()
    with pytest.raises(StorageError) as caught:
        await store.load("a")
    assert PASSWORD not in str(caught.value)
    redis_server.start()
    assert await store.load("a") == b"kept"
    assert set(await everything(store)) == {"a"}


async def test_a_stalled_server_is_an_error_within_the_deadline(
    redis_server: RedisServer, store: RedisDocuments
) -> None:
    await store.save([make_document("a", b"here")])
    redis_server.stall()
    try:
        async with asyncio.timeout(5):
            for call in (
                store.load("a"),
                store.save([make_document("b")]),
                store.delete(["a"]),
                store.ping(),
            ):
                with pytest.raises(StorageError):
                    await call
    finally:
        redis_server.resume()
    await store.save([make_document("c")])
    assert await store.load("c") == b"answer"


async def test_a_damaged_document_is_left_out(store: RedisDocuments) -> None:
    await store.save([make_document(id) for id in "abcd"])
    await store._client.hset(f"{DOC}a", "row", "{")
    await store._client.hdel(f"{DOC}b", "fingerprint")
    await store._client.hset(f"{DOC}c", "body", b"\x01\x00")
    assert set(await everything(store)) == {"c", "d"}
    assert await store.load("c") is None
    assert store.unreadable.damaged == 3


async def test_documents_of_another_schema_are_refused(
    redis_server: RedisServer, store: RedisDocuments
) -> None:
    await store._client.hset(META, "schema", "99")
    with pytest.raises(StorageError, match="schema 99"):
        await opened(redis_server.url)


async def test_a_server_that_is_not_there_or_refuses_us_is_one_line_without_the_password(
    redis_server: RedisServer,
) -> None:
    for url in ("redis://:secret@127.0.0.1:9/0", f"redis://:secret@127.0.0.1:{redis_server.port}/0"):
        with pytest.raises(StorageError) as caught:
            await open_documents(url, deadline=1.0)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_no_caller_waits_for_long_or_loses_what_is_kept_while_the_server_comes_and_goes(
    redis_server: RedisServer, store: RedisDocuments
) -> None:
    documents = BufferedDocuments(store, deadline=0.5, hot_bytes=0)
    for number in range(300):
        assert documents.put(make_document(str(number)))
        if number == 100:
            redis_server.stop()
        if number == 200:
            redis_server.start()
        try:
            assert await documents.load(str(number // 2)) in (b"answer", None)
        except StorageError:
            assert number >= 100
        await asyncio.sleep(0.001)
    await documents.flush(timeout=20)
    assert set(await everything(store)) == set(map(str, range(300)))
    assert documents.stats()["lost"] == 0
    await documents.close()
