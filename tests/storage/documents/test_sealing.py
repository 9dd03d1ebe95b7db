"""With keys, what people wrote and were told lies sealed at rest; without the right key it is lost, and only
that."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from doubles import WordEmbedder
from hypothesis import given
from hypothesis import strategies as st
from redis_server import RedisServer
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from stored import everything, make_document, unit

from policies.book import Book
from proxy.cli.rebuilding import Rebuilt, rebuild
from storage.base import Documents, StorageError
from storage.documents.codec import Codec, Locked, pack
from storage.documents.keys import read_key
from storage.opening import open_documents

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
SECRET = "the question of Ludwig"
ANSWER = b"an answer that nobody else may read " * 100


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'store' / 'x.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
async def rotated(
    request: pytest.FixtureRequest, tmp_path: Path, nothing_blocks_the_loop: BlockBuster
) -> str:
    """A store of the test's own, which others need not open without keys."""
    match request.param:
        case "sqlite":
            return f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
        case "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            return server.url
    postgres = make_url(request.getfixturevalue("postgres_url"))
    nothing_blocks_the_loop.deactivate()  # asyncpg looks for ~/.pgpass when it connects
    name = f"sealing_{os.urandom(6).hex()}"
    engine = create_async_engine(postgres, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return postgres.set(database=name).render_as_string(hide_password=False)


async def opened(url: str, *keys: bytes) -> Documents:
    return await open_documents(url, keys=keys)


async def fill(url: str, *keys: bytes, id: str = "a") -> None:
    documents = await opened(url, *keys)
    await documents.save([make_document(id, ANSWER, text=SECRET)])
    await documents.close()


def at_rest(tmp_path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


async def test_nothing_of_question_vector_and_answer_is_readable_at_rest(url: str, tmp_path: Path) -> None:
    await fill(url, OLD)
    vector = unit("a").tobytes()
    for hidden in (SECRET.encode(), ANSWER[:20], pack(ANSWER)[8:40], vector[:16]):
        assert hidden not in at_rest(tmp_path)
    await fill(url, OLD, id="b")
    documents = await opened(url, OLD)
    entry, vector_read = (await everything(documents))["b"]
    assert (entry.text, await documents.load("b")) == (SECRET, ANSWER)
    assert vector_read is not None
    assert vector_read.tobytes() == unit("b").tobytes()
    await documents.close()


async def test_without_keys_they_are_readable_at_rest_so_the_test_above_sees(tmp_path: Path) -> None:
    await fill(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    for shown in (SECRET.encode(), pack(ANSWER)[8:40], unit("a").tobytes()[:16]):
        assert shown in at_rest(tmp_path)


async def test_keys_are_rotated_by_putting_the_new_one_first(url: str) -> None:
    await fill(url, OLD, id="old")
    await fill(url, NEW, OLD, id="new")
    documents = await opened(url, NEW, OLD)
    assert {entry.text for entry, _ in (await everything(documents)).values()} == {SECRET}
    assert await documents.load("old") == await documents.load("new") == ANSWER
    await documents.close()


async def test_what_the_old_key_sealed_is_sealed_anew_and_needs_it_no_more(rotated: str) -> None:
    await fill(rotated, id="plain")
    await fill(rotated, OLD, id="old")
    await fill(rotated, NEW, OLD, id="new")
    documents = await opened(rotated, NEW, OLD)
    bare = make_document("bare", ANSWER, text=SECRET)
    bare.vector = None
    await documents.save([bare])
    before = await in_order(documents)
    ids = ["plain", "old", "new", "bare", "unknown"]
    assert [await documents.reseal(ids), await documents.reseal(ids)] == [2, 0]
    await documents.close()
    alone = await opened(rotated, NEW)
    assert await in_order(alone) == before
    assert {id: await alone.load(id) for id in before} == dict.fromkeys(before, ANSWER)
    assert alone.unreadable.locked == 0
    await alone.close()


async def in_order(documents: Documents) -> dict[str, tuple[str, bytes | None]]:
    found = [pair async for batch in documents.scan() for pair in batch]
    return {e.id: (e.text, None if vector is None else vector.tobytes()) for e, vector in found}


async def test_nothing_is_left_in_the_clear_or_under_the_old_key(tmp_path: Path) -> None:
    rotated = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    await fill(rotated, id="plain")
    await fill(rotated, OLD, id="old")
    documents = await opened(rotated, NEW, OLD)
    await documents.reseal(["plain", "old"])
    await documents.scrub()
    for hidden in (
        SECRET.encode(),
        pack(ANSWER)[8:40],
        unit("plain").tobytes()[:16],
        Codec([OLD]).seal_text("", "")[:5],
    ):
        assert hidden not in at_rest(tmp_path)
    await documents.close()


async def test_a_rebuild_after_one_that_could_not_clean_the_file_cleans_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing is left to seal anew, the old key may be taken out."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    await fill(url, OLD)
    documents, book = await opened(url, NEW, OLD), await asyncio.to_thread(Book.from_folder)

    async def busy() -> None:
        raise StorageError("somebody reads the database")

    async def rebuilt() -> Rebuilt:
        return await rebuild(documents, book, WordEmbedder(), 0.0, lambda entries: None)

    with monkeypatch.context() as patched:
        patched.setattr(documents, "scrub", busy)
        with pytest.raises(StorageError):
            await rebuilt()
    assert (await rebuilt()).resealed == 0
    assert Codec([OLD]).seal_text("", "")[:5] not in at_rest(tmp_path)
    await documents.close()


async def test_what_cannot_be_opened_is_not_sealed_anew(rotated: str) -> None:
    await fill(rotated, OLD, id="old")
    documents = await opened(rotated, NEW)
    assert await documents.reseal(["old"]) == 0
    await documents.close()
    documents = await opened(rotated, OLD)
    assert await documents.load("old") == ANSWER
    await documents.close()


async def test_what_is_replaced_while_it_is_sealed_anew_stays_as_the_other_wrote_it(
    rotated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(rotated, OLD)
    documents, other = await opened(rotated, NEW, OLD), await opened(rotated, NEW, OLD)
    sealing = documents.reader.resealed  # type: ignore[attr-defined]

    async def and_meanwhile(rows: Any) -> Any:
        await other.save([make_document("a", b"newer", text="newer")])
        return await sealing(rows)

    monkeypatch.setattr(documents.reader, "resealed", and_meanwhile)  # type: ignore[attr-defined]
    await documents.reseal(["a"])
    assert await documents.load("a") == b"newer"
    assert (await everything(documents))["a"][0].text == "newer"
    await documents.close()
    await other.close()


async def test_without_a_key_nothing_is_sealed_anew(rotated: str) -> None:
    await fill(rotated)
    documents = await opened(rotated)
    assert await documents.reseal(["a"]) == 0
    await documents.close()


async def test_an_answer_under_an_unknown_key_is_lost_counted_and_kept(url: str) -> None:
    documents = await opened(url, OLD)
    await documents.save([make_document("a", ANSWER, text=SECRET)])
    await documents.close()
    other = await opened(url, NEW)
    await other.save([make_document("b")])
    assert set(await everything(other)) == {"b"}
    assert await other.load("a") is None
    assert other.unreadable.locked == 2
    assert other.unreadable.damaged == 0
    await other.close()
    both = await opened(url, NEW, OLD)
    assert set(await everything(both)) == {"a", "b"}
    assert await both.load("a") == ANSWER
    await both.close()


async def test_a_sealed_store_is_not_opened_without_keys(url: str) -> None:
    await fill(url, OLD)
    with pytest.raises(StorageError, match="NEARHIT_DOCUMENTS__KEYS"):
        await opened(url)


async def test_a_plain_store_can_be_sealed_from_now_on(url: str) -> None:
    await fill(url, id="plain")
    documents = await opened(url, OLD)
    assert await documents.load("plain") == ANSWER
    assert set(await everything(documents)) == {"plain"}
    await documents.close()


async def test_an_answer_that_was_moved_to_another_entry_does_not_open(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    documents = await opened(url, OLD)
    await documents.save([make_document("a", b"mine"), make_document("b", b"yours")])
    connection = sqlite3.connect(tmp_path / "x.db")
    with connection:
        connection.execute(
            "UPDATE nearhit_documents SET body = (SELECT body FROM nearhit_documents WHERE id = 'a')"
        )
    connection.close()
    assert await documents.load("a") == b"mine"
    assert await documents.load("b") is None
    await documents.close()


@given(st.binary(max_size=5_000))
def test_what_is_packed_is_unpacked_under_any_of_the_keys(body: bytes) -> None:
    sealed = Codec([OLD]).pack(body, "id")
    assert Codec([NEW, OLD]).unpack(sealed, "id") == Codec([NEW]).unpack(pack(body), "id") == body
    with pytest.raises(Locked):
        Codec([NEW]).unpack(sealed, "id")


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_changed_byte_is_an_error(position: int, change: int) -> None:
    sealed = bytearray(Codec([OLD]).pack(b"some answer of a few words", "id"))
    sealed[position % len(sealed)] ^= change
    with pytest.raises(ValueError):
        Codec([OLD]).unpack(bytes(sealed), "id")


@pytest.mark.parametrize("text", ["", "secret", "x" * 44, "YWJj"])
def test_a_bad_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -base64 32") as caught:
        read_key(text)
    assert not text or text not in str(caught.value)


def test_both_alphabets_of_keys_are_read() -> None:
    key = os.urandom(32)
    assert read_key(base64.b64encode(key).decode()) == read_key(base64.urlsafe_b64encode(key).decode()) == key
