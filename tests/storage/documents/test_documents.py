"""Every store of documents keeps the same promises."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from blockbuster import BlockBuster
from sqlalchemy import event
from stored import digest, everything, make_document, unit

from storage.base import Document, Documents, StorageError
from storage.documents.sql import SCAN_BATCH, SqlDocuments
from storage.opening import open_documents

KEY = bytes(range(32))


@pytest.fixture(
    params=["memory", "sqlite", "sqlite-sealed", "postgresql", "redis", "redis-sealed", "redis-cluster"]
)
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, nothing_blocks_the_loop: BlockBuster
) -> AsyncIterator[Documents]:
    match request.param:
        case "memory":
            url = "memory"
        case "sqlite" | "sqlite-sealed":
            url = sqlite_url(tmp_path / "data" / "test.db")
        case "redis":
            url = request.getfixturevalue("redis_url")
        case "redis-sealed":
            url = request.getfixturevalue("redis_url").removesuffix("/0") + "/1"
        case "redis-cluster":
            url = request.getfixturevalue("redis_cluster_url")
        case _:
            url = request.getfixturevalue("postgres_url")
            nothing_blocks_the_loop.deactivate()  # asyncpg looks for ~/.pgpass when it connects
    documents = await open_documents(url, keys=[KEY] if request.param.endswith("sealed") else [])
    await documents.delete(list(await everything(documents)))
    yield documents
    await documents.close()


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def open_sqlite(path: Path, deadline: float = 5.0) -> SqlDocuments:
    documents = await open_documents(sqlite_url(path), deadline)
    assert isinstance(documents, SqlDocuments)
    return documents


@pytest.mark.parametrize("body", [b"", b"short", b"x" * 5_000, bytes(range(256)) * 2_000])
async def test_what_is_saved_is_loaded(store: Documents, body: bytes) -> None:
    await store.save([make_document("a", body), make_document("b")])
    assert await store.load("a") == body
    assert await store.load("unknown") is None
    assert await store.load_many(["a", "unknown", "b"]) == {"a": body, "b": b"answer"}
    assert await store.load_many([]) == {}
    await store.save([])
    assert set(await everything(store)) == {"a", "b"}


async def test_scan_gives_back_every_field_newest_first(store: Documents) -> None:
    odd = make_document("odd", tags=("a,b", "ü"), ttl=1.5, namespace="n", hits=3, last_hit=7.25, cost_ms=0.1)
    await store.save([make_document("old")])
    await store.save([odd, Document(make_document("bare").entry, None, b"")])
    found = await everything(store)
    assert list(found) == ["bare", "odd", "old"]
    assert asdict(found["odd"][0]) == asdict(odd.entry)
    np.testing.assert_array_equal(found["odd"][1], odd.vector)
    assert found["bare"][1] is None


async def test_entries_gives_what_a_scan_gives(store: Documents) -> None:
    await store.save([make_document(str(number)) for number in range(5)])
    scanned = await everything(store)
    found = {entry.id: (entry, vector) for entry, vector in await store.entries(["1", "3", "unknown"])}
    assert found.keys() == {"1", "3"}
    for id, (entry, vector) in found.items():
        assert asdict(entry) == asdict(scanned[id][0])
        np.testing.assert_array_equal(vector, scanned[id][1])


async def test_scan_goes_through_many_batches(store: Documents) -> None:
    ids = [f"id-{number}" for number in range(2 * SCAN_BATCH + 5)]
    await store.save([make_document(id) for id in ids])
    assert list(await everything(store)) == ids[::-1]


async def test_the_same_id_or_digest_replaces(store: Documents) -> None:
    await store.save([make_document("a", b"one"), make_document("b", b"other")])
    await store.save([make_document("a", b"two")])
    await store.save([make_document("c", b"three", exact=make_document("b").entry.exact)])
    assert await store.load("a") == b"two"
    assert await store.load("b") is None
    assert set(await everything(store)) == {"a", "c"}


async def test_the_last_of_one_batch_stays(store: Documents) -> None:
    same = make_document("a").entry.exact
    await store.save(
        [make_document("a"), make_document("b", exact=same), make_document("b", b"last", exact=same)]
    )
    assert await store.load("a") is None
    assert await store.load("b") == b"last"


async def test_deleted_documents_stay_away(store: Documents) -> None:
    await store.save([make_document(f"id-{number}") for number in range(700)])
    await store.delete([f"id-{number}" for number in range(1, 700)] + ["unknown"])
    assert set(await everything(store)) == {"id-0"}
    await store.delete([])


async def test_what_is_scrubbed_stays_deleted(store: Documents) -> None:
    await store.save([make_document("a"), make_document("b", b"kept")])
    await store.delete(["a"])
    await store.scrub()
    assert set(await everything(store)) == {"b"}
    assert await store.load("b") == b"kept"


async def test_documents_change_their_vector_space(store: Documents) -> None:
    await store.save([make_document(id, b"kept") for id in "abc"])
    await store.revector("new", {"a": unit("other", 24), "gone": unit("x")})
    await store.revector("", {"b": None})
    await store.revector("new", {})
    found = await everything(store)
    assert list(found) == ["c", "b", "a"]
    assert [entry.fingerprint for entry, _ in found.values()] == ["test", "", "new"]
    np.testing.assert_array_equal(found["a"][1], unit("other", 24))
    assert found["b"][1] is None
    assert await store.load("a") == b"kept"


async def test_text_that_a_database_refuses_is_stored_readably(store: Documents) -> None:
    await store.save([make_document("a", text="half \ud800 and \0 zero", model="m\udfff")])
    assert "half" in (await everything(store))["a"][0].text


async def test_ping_answers(store: Documents) -> None:
    await store.ping()


# A file


async def test_documents_outlive_the_process(tmp_path: Path) -> None:
    first = await open_sqlite(tmp_path / "x.db")
    await first.save([make_document("a", b"kept")])
    await first.close()
    second = await open_sqlite(tmp_path / "x.db")
    assert await second.load("a") == b"kept"
    await second.close()


async def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    documents = await open_sqlite(tmp_path / "new" / "folder" / "x.db")
    await documents.save([make_document()])
    files = list((tmp_path / "new" / "folder").iterdir())
    assert len(files) >= 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    await documents.close()


@pytest.mark.parametrize("size", [40, 3_000, 60_000])
async def test_no_byte_is_left_of_what_was_scrubbed(tmp_path: Path, size: int) -> None:
    documents = await open_sqlite(tmp_path / "x.db")
    secret, kept = f"SECRET-{size}", "KEPT"
    body = np.random.default_rng(0).bytes(size) + secret.encode()
    others = [make_document(f"other-{number}", text=f"{kept} {number}") for number in range(50)]
    await documents.save([*others[:25], make_document("a", body, text=secret, tags=(secret,)), *others[25:]])
    await documents.save([make_document("b", body, text=secret), make_document("a", body, text=secret)])
    assert holds(tmp_path, secret)
    await documents.delete(["a", "b"])
    await documents.scrub()
    assert not holds(tmp_path, secret)
    assert holds(tmp_path, kept)
    await documents.close()


async def test_scrubbing_waits_for_a_reader_and_no_longer_than_the_deadline(tmp_path: Path) -> None:
    documents = await open_sqlite(tmp_path / "x.db", deadline=0.6)
    await documents.save([make_document("a")])
    reader = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM nearhit_documents").fetchone()
    await documents.delete(["a"])
    with pytest.raises(StorageError):
        await documents.scrub()
    reader.execute("ROLLBACK")
    reader.close()
    await documents.scrub()
    assert not holds(tmp_path, "question a")
    await documents.close()


def holds(folder: Path, text: str) -> list[str]:
    """Files with these bytes."""
    return [file.name for file in folder.iterdir() if text.encode() in file.read_bytes()]


async def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    documents = await open_sqlite(tmp_path / "x.db")
    await asyncio.gather(*(documents.save([make_document(str(number))]) for number in range(6)))
    await documents.close()
    await asyncio.sleep(0.1)
    left = [thread for thread in set(threading.enumerate()) - before if "asyncio_" not in thread.name]
    assert left == []


@pytest.mark.parametrize("change", ["body = zeroblob(40)", "body = x'0100000000ffff'", "body = 'text'"])
async def test_a_damaged_body_is_a_lost_document(tmp_path: Path, change: str) -> None:
    documents = await open_sqlite(tmp_path / "x.db")
    await documents.save([make_document("a", b"z" * 4_000), make_document("b")])
    alter(tmp_path / "x.db", f"UPDATE nearhit_documents SET {change} WHERE id = 'a'")
    assert await documents.load("a") is None
    assert await documents.load("b") == b"answer"
    assert documents.unreadable.damaged == 1
    await documents.close()


@pytest.mark.parametrize(
    "change",
    [
        "vector = x'010203'", "vector = x'0000c07f'", "tags = '{'", "tags = '[1]'", "exact = x'00'",
        "created = 'now'", "text = x'ff'",
    ],
)  # fmt: skip
async def test_a_damaged_row_is_left_out_of_the_scan(tmp_path: Path, change: str) -> None:
    documents = await open_sqlite(tmp_path / "x.db")
    await documents.save([make_document("a"), make_document("b")])
    alter(tmp_path / "x.db", f"UPDATE nearhit_documents SET {change} WHERE id = 'a'")
    assert set(await everything(documents)) == {"b"}
    assert documents.unreadable.damaged == 1
    await documents.close()


async def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"garbage " * 1_000)
    with pytest.raises(StorageError, match=r"not a database: move the file .* away"):
        await open_sqlite(tmp_path / "x.db")


async def test_a_newer_or_unknown_schema_is_an_error(tmp_path: Path) -> None:
    await (await open_sqlite(tmp_path / "x.db")).close()
    alter(tmp_path / "x.db", "UPDATE nearhit_meta SET value = '99'")
    with pytest.raises(StorageError, match="schema 99"):
        await open_sqlite(tmp_path / "x.db")
    alter(tmp_path / "x.db", "DROP TABLE nearhit_meta")
    with pytest.raises(StorageError, match="schema unknown"):
        await open_sqlite(tmp_path / "x.db")


async def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="IsADirectory"):
        await open_sqlite(tmp_path)


async def test_a_full_disk_is_an_error_and_keeps_what_was_there(tmp_path: Path) -> None:
    documents = await open_sqlite(tmp_path / "x.db")
    await documents.save([make_document("a")])

    @event.listens_for(documents._engine.sync_engine, "begin")
    def limit(connection: object) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

    with pytest.raises(StorageError, match="full"):
        await documents.save([make_document("b", np.random.default_rng(0).bytes(2_000_000))])
    assert set(await everything(documents)) == {"a"}
    await documents.close()


async def test_a_locked_file_is_an_error_within_the_deadline(tmp_path: Path) -> None:
    documents = await open_sqlite(tmp_path / "x.db", deadline=0.4)
    await documents.save([make_document("a", b"here")])
    with sqlite3.connect(tmp_path / "x.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError):
            await documents.save([make_document("b")])
        assert await documents.load("a") == b"here"  # WAL: readers do not wait for writers
        other.execute("ROLLBACK")
    other.close()
    await documents.save([make_document("b")])
    assert set(await everything(documents)) == {"a", "b"}
    await documents.close()


async def test_the_store_works_on_after_a_cancelled_call(tmp_path: Path) -> None:
    documents = await open_sqlite(tmp_path / "x.db")
    for pause in (0.0, 0.0005, 0.001, 0.002, 0.004):
        save = asyncio.get_running_loop().create_task(
            documents.save([make_document(f"cut-{pause}")]), name="save"
        )
        await asyncio.sleep(pause)
        save.cancel()
        await asyncio.wait([save])
    await documents.save([make_document("a", b"after")])
    assert await documents.load("a") == b"after"
    await documents.close()


# Opening


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://user:secret@host/db", "not a document store"),
        ("secret", "not a URL"),
        ("sqlite:///secret.db", "not a document store"),
    ],
)
async def test_an_unknown_url_is_one_line_without_the_password(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        await open_documents(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_server_that_is_not_there_is_one_line_without_the_password() -> None:
    with pytest.raises(StorageError) as caught:
        await open_documents("postgresql+asyncpg://user:secret@127.0.0.1:9/db", deadline=1.0)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_memory_url_of_sqlite_is_refused() -> None:
    with pytest.raises(StorageError, match="names no file"):
        await open_documents("sqlite+aiosqlite:///:memory:")


async def test_another_programs_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    alter(path, "CREATE TABLE users (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=f"{path} is another program's"):
        await open_documents(sqlite_url(path))
    assert path.read_bytes() == before


def alter(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def test_vectors_of_the_helpers_are_unit() -> None:
    assert float(np.linalg.norm(unit("x"))) == pytest.approx(1.0, abs=1e-6)


async def test_two_replicas_that_store_the_same_call_at_once_both_succeed(postgres_url: str) -> None:
    one, other = [await open_documents(postgres_url) for _ in range(2)]
    try:
        for round_ in range(20):
            twins = [make_document(f"{round_}-{name}", exact=digest("the same")) for name in "ab"]
            await asyncio.gather(one.save(twins[:1]), other.save(twins[1:]))
        assert sum(id.startswith("19-") for id in await everything(one)) == 1
    finally:
        await one.delete(list(await everything(one)))
        await one.close()
        await other.close()
