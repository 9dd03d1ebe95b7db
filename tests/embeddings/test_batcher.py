from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.base import (
    EmbedderFailed,
    EmbedderOverloaded,
    EmbedderTimeout,
    EmbeddingError,
    Matrix,
    TextTooLong,
    Vector,
)
from embeddings.batcher import Batcher, Waiting, _settle, _take_batch


class Letters:
    """A token is a character, a vector (number of tokens, first code point). Blocks while `gate` is shut."""

    fingerprint = "letters"
    dimensions = 2
    max_tokens = 50

    def __init__(self, workers: int = 1, batch_tokens: int = 64) -> None:
        self.workers = workers
        self.batch_tokens = batch_tokens
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[str]] = []
        self.read: list[str] = []
        self.error: BaseException | None = None
        self.closed = False

    def tokenize(self, text: str) -> list[int]:
        self.read.append(text)
        return [ord(letter) for letter in text]

    def encode(self, batch: Sequence[Sequence[int]]) -> Matrix:
        self.batches.append(["".join(map(chr, tokens)) for tokens in batch])
        self.entered.release()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return np.array([vector_of(tokens) for tokens in batch], np.float32)

    def close(self) -> None:
        self.closed = True


def vector_of(tokens: Sequence[int]) -> tuple[int, int]:
    return len(tokens), tokens[0]


def expected(text: str) -> list[float]:
    return [len(text), ord(text[0])]


@asynccontextmanager
async def batcher(encoder: Letters, *, queue: int = 256, deadline_s: float = 10.0) -> AsyncIterator[Batcher]:
    made = Batcher(encoder, queue=queue, deadline_s=deadline_s)
    try:
        yield made
    finally:
        encoder.gate.set()
        await made.close()


async def hold(encoder: Letters, made: Batcher) -> asyncio.Future[Vector]:
    """Shuts the gate with one text inside, so that what comes next has to wait."""
    encoder.gate.clear()
    inside = asyncio.gather(made.embed("inside"))
    await asyncio.to_thread(encoder.entered.acquire)
    return inside


def ask(made: Batcher, *texts: str) -> list[asyncio.Future[list[Vector]]]:
    return [asyncio.gather(made.embed(text)) for text in texts]


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("workers", [1, 3])
async def test_everybody_gets_their_own_vector(workers: int) -> None:
    encoder = Letters(workers)
    texts = [chr(ord("a") + i % 26) * (1 + i % 40) for i in range(200)]
    async with batcher(encoder) as made:
        vectors = await asyncio.gather(*map(made.embed, texts))
        assert [list(vector) for vector in vectors] == list(map(expected, texts))
        stats = made.stats()
    assert stats["texts"] == 200
    assert stats["batches"] == len(encoder.batches)
    assert stats["queue"] == 0


async def test_what_waited_is_encoded_together() -> None:
    encoder = Letters()
    async with batcher(encoder) as made:
        await hold(encoder, made)
        asked = ask(made, *"abcdefgh")
        await until(lambda: made.stats()["queue"] == 8)
        encoder.gate.set()
        await asyncio.gather(*asked)
    assert sorted(encoder.batches[1]) == list("abcdefgh")


async def test_an_encoder_that_gains_nothing_from_batches_gets_one_text_at_a_time() -> None:
    encoder = Letters(batch_tokens=0)
    async with batcher(encoder) as made:
        await asyncio.gather(*map(made.embed, "abcdef"))
    assert sorted(encoder.batches) == [[letter] for letter in "abcdef"]


async def test_a_full_queue_refuses() -> None:
    encoder = Letters()
    async with batcher(encoder, queue=3) as made:
        await hold(encoder, made)
        asked = ask(made, *"abc")
        await until(lambda: made.stats()["queue"] == 3)
        with pytest.raises(EmbedderOverloaded):
            await made.embed("d")
        encoder.gate.set()
        await asyncio.gather(*asked)
        assert made.stats()["overloaded"] == 1


async def test_who_left_makes_room_and_is_not_encoded() -> None:
    encoder = Letters()
    async with batcher(encoder, queue=2) as made:
        await hold(encoder, made)
        left, stays = ask(made, "left", "stays")
        await until(lambda: made.stats()["queue"] == 2)
        left.cancel()
        await asyncio.sleep(0.01)
        (late,) = ask(made, "late")
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(stays, late)
        assert made.stats()["abandoned"] == 1
    assert "left" not in [text for batch in encoder.batches for text in batch]


async def test_who_leaves_while_the_batch_runs_does_not_spoil_it() -> None:
    leaves, stays = (Waiting([], asyncio.get_running_loop().create_future()) for _ in range(2))
    leaves.future.cancel()
    vector = np.ones(2, np.float32)
    _settle([leaves, stays], [vector, vector])
    assert await stays.future is vector


async def test_no_vector_within_the_deadline() -> None:
    encoder = Letters()
    async with batcher(encoder, deadline_s=0.05) as made:
        encoder.gate.clear()
        with pytest.raises(EmbedderTimeout):
            await made.embed("text")
        assert made.stats()["timeouts"] == 1
        encoder.gate.set()
        assert (await made.embed_many(["again"])).tolist() == [expected("again")]
        assert ["text"] in encoder.batches


@pytest.mark.parametrize("wrong", [RuntimeError("out of memory"), None])
async def test_a_failed_batch_fails_each_of_its_texts_and_no_others(
    wrong: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Letters()
    async with batcher(encoder) as made:
        encoder.error = wrong
        if wrong is None:
            monkeypatch.setattr("test_batcher.vector_of", lambda tokens: (np.nan, 0.0))
        failed = await asyncio.gather(*map(made.embed, "abc"), return_exceptions=True)
        assert [type(error) for error in failed] == [EmbedderFailed] * 3
        assert len({id(error) for error in failed}) == 3
        encoder.error = None
        monkeypatch.undo()
        assert list(await made.embed("next")) == expected("next")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_worker_that_dies_leaves_nobody_waiting() -> None:
    encoder = Letters()
    async with batcher(encoder) as made:
        inside = await hold(encoder, made)
        (waiting,) = ask(made, "waiting")
        many = asyncio.ensure_future(made.embed_many(["x"]))
        await until(lambda: made.stats()["queue"] == made.stats()["bulk"] == 1)
        encoder.error = KeyboardInterrupt()
        encoder.gate.set()
        for asked in (inside, waiting, many):
            with pytest.raises(EmbedderFailed):
                await asked
        assert made.stats()["workers"] == 0
        with pytest.raises(EmbedderFailed):
            await made.embed("after")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_one_dead_worker_of_two_is_survived() -> None:
    encoder = Letters(workers=2)
    async with batcher(encoder) as made:
        encoder.error = KeyboardInterrupt()
        with pytest.raises(EmbedderFailed):
            await made.embed("text")
        await until(lambda: made.stats()["workers"] == 1)
        encoder.error = None
        assert list(await made.embed("text")) == expected("text")


async def test_close_answers_who_waits_and_ends_the_workers() -> None:
    encoder = Letters()
    made = Batcher(encoder)
    inside = await hold(encoder, made)
    (waiting,) = ask(made, "waiting")
    await until(lambda: made.stats()["queue"] == 1)
    closing = asyncio.gather(made.close())
    with pytest.raises(EmbedderFailed, match="closed"):
        await waiting
    encoder.gate.set()
    assert list((await inside)[0]) == expected("inside")
    await closing
    assert made.stats()["workers"] == 0
    assert encoder.closed
    with pytest.raises(EmbedderFailed, match="closed"):
        await made.embed("after")
    await made.close()


async def test_a_text_with_too_many_tokens_is_refused() -> None:
    async with batcher(Letters()) as made:
        assert list(await made.embed("x" * 50)) == expected("x" * 50)
        with pytest.raises(TextTooLong):
            await made.embed("x" * 51)


async def test_a_huge_text_is_not_even_read() -> None:
    encoder = Letters()
    async with batcher(encoder) as made:
        with pytest.raises(TextTooLong):
            await made.embed("x" * 1_000_000)
    assert encoder.read == []


async def test_who_waits_goes_before_the_bulk() -> None:
    encoder = Letters()
    async with batcher(encoder) as made:
        await hold(encoder, made)
        many = asyncio.gather(made.embed_many(["bulk"] * 40))
        await until(lambda: made.stats()["bulk"] == 40)
        (urgent,) = ask(made, "urgent")
        await until(lambda: made.stats()["queue"] == 1)
        encoder.gate.set()
        await asyncio.gather(many, urgent)
    assert encoder.batches[1] == ["urgent"]


async def test_bulk_has_its_turn_though_somebody_always_waits() -> None:
    encoder = Letters(batch_tokens=0)
    async with batcher(encoder) as made:
        await hold(encoder, made)
        many = asyncio.gather(made.embed_many(["bulk"] * 3))
        await until(lambda: made.stats()["bulk"] == 3)
        asked = ask(made, *["urgent"] * 40)
        await until(lambda: made.stats()["queue"] == 40)
        encoder.gate.set()
        await asyncio.gather(many, *asked)
    assert [number for number, batch in enumerate(encoder.batches) if batch == ["bulk"]] == [9, 18, 27]


async def test_bulk_keeps_order_cuts_long_texts_and_does_not_use_up_the_queue() -> None:
    texts = [chr(ord("a") + i % 26) * (1 + i * 7 % 60) for i in range(1100)]
    async with batcher(Letters(), queue=1) as made:
        rows = await made.embed_many(texts)
        assert (await made.embed_many([])).shape == (0, 2)
    assert rows.tolist() == [expected(text[:50]) for text in texts]


async def test_a_cut_text_keeps_its_last_token() -> None:
    encoder = Letters()
    async with batcher(encoder) as made:
        await made.embed_many(["a" * 70 + "z"])
    assert encoder.batches == [["a" * 49 + "z"]]


async def test_bulk_that_is_cancelled_is_not_encoded() -> None:
    encoder = Letters()
    async with batcher(encoder) as made:
        await hold(encoder, made)
        many = asyncio.gather(made.embed_many(["bulk"]))
        await until(lambda: made.stats()["bulk"] == 1)
        many.cancel()
        await asyncio.sleep(0.01)
        encoder.gate.set()
        await made.embed("next")
    assert ["bulk"] not in encoder.batches


async def test_every_error_is_an_embedding_error() -> None:
    for kind in (TextTooLong, EmbedderOverloaded, EmbedderTimeout, EmbedderFailed):
        assert issubclass(kind, EmbeddingError)


lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@settings(deadline=None)
@given(lengths, st.integers(0, 300))
def test_a_batch_holds_the_oldest_and_stays_within_its_budget(sizes: list[int], budget: int) -> None:
    queue = [Waiting([0] * size, None) for size in sizes]  # type: ignore[arg-type]
    before = list(queue)
    batch = _take_batch(queue, budget)
    assert batch[0] is before[0]
    assert sorted(map(id, [*batch, *queue])) == sorted(map(id, before))
    assert queue == [entry for entry in before if entry not in batch]
    real = [len(entry.tokens) for entry in batch]
    if len(batch) > 1:
        assert max(real) * len(real) <= budget
        assert max(real) * len(real) <= 1.25 * sum(real)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(60, 300))
def test_equal_lengths_fill_the_budget(size: int, count: int, budget: int) -> None:
    queue = [Waiting([0] * size, None) for _ in range(count)]  # type: ignore[arg-type]
    assert len(_take_batch(queue, budget)) == min(count, budget // size)
