"""With keys, what people wrote and were told lies sealed at rest; without the right key it is lost, and only
that."""

from __future__ import annotations

import base64
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_server import RedisServer
from stored import everything, make_document, unit

from storage.base import Documents, StorageError
from storage.codec import Codec, Locked, pack
from storage.keys import read_key
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


async def test_an_answer_under_an_unknown_key_is_lost_counted_and_kept(url: str) -> None:
    documents = await opened(url, OLD)
    await documents.save([make_document("a", ANSWER, text=SECRET)])
    await documents.close()
    other = await opened(url, NEW)
    await other.save([make_document("b")])
    assert set(await everything(other)) == {"b"}
    assert await other.load("a") is None
    assert other.reader.locked == 2  # type: ignore[attr-defined]
    assert other.reader.damaged == 0  # type: ignore[attr-defined]
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
