"""Turns an `Encoder` into an `Embedder`: dynamic micro-batches, a bounded queue, a deadline.

Nothing sleeps to fill a batch: a free worker thread takes what is waiting, up to the encoder's token budget,
and the next batch gathers in the meantime. Texts that a caller waits for go before bulk texts. Under constant
load, bulk texts still get every ninth batch, so that a reload of the categories comes to an end. Tokenising
takes 0.03 to 0.5 ms and happens on arrival, so the queue knows lengths in tokens; a text that is far too long
is refused by its number of characters, before it is tokenised.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embeddings.base import (
    EmbedderFailed,
    EmbedderOverloaded,
    EmbedderTimeout,
    Encoder,
    Matrix,
    TextTooLong,
    Vector,
)

_CHARACTERS_PER_TOKEN = 8
"""A text is too long if it has more than this many characters per token that the model reads (English has 4
to 5)."""
_PADDING = 1.25
"""Largest ratio of a batch's size with padding to its real tokens."""
_BULK = 512
"""Bulk texts that are queued at once."""
_BULK_WAITS = 8
"""Urgent batches that may go before a waiting bulk batch."""
_JOIN_S = 5.0


@dataclass(slots=True, eq=False)
class Waiting:
    tokens: Sequence[int]
    future: asyncio.Future[Vector]


class Batcher:
    """Must be awaited from one event loop only, but can be created before that loop runs."""

    def __init__(self, encoder: Encoder, *, queue: int = 256, deadline_s: float = 2.0) -> None:
        self.fingerprint = encoder.fingerprint
        self.dimensions = encoder.dimensions
        self._encoder = encoder
        self._room = queue
        self._deadline_s = deadline_s
        self._urgent: list[Waiting] = []
        self._bulk: list[Waiting] = []
        self._bulk_waited = 0
        """Urgent batches since bulk texts began to wait."""
        self._counts: Counter[str] = Counter()
        self._closed = ""
        self._changed = threading.Condition()
        self._workers = [
            threading.Thread(target=self._work, name=f"encoder-{number}", daemon=True)
            for number in range(encoder.workers)
        ]
        self._alive = len(self._workers)
        for worker in self._workers:
            worker.start()

    async def embed(self, text: str, tenant: str = "") -> Vector:
        tokens = self._tokenize(text)
        if len(tokens) > self._encoder.max_tokens:
            raise TextTooLong(f"{len(tokens)} tokens, the model reads {self._encoder.max_tokens}")
        (future,) = self._put(self._urgent, [tokens], self._room)
        # Not `asyncio.wait_for`, which would cost a second future and another turn of the loop.
        deadline = future.get_loop().call_later(self._deadline_s, self._give_up, future)
        try:
            return await future
        finally:
            deadline.cancel()

    async def embed_many(self, texts: Sequence[str]) -> Matrix:
        # Sorted, so that the texts of a batch have similar lengths.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(order), _BULK):
            part = order[start : start + _BULK]
            tokens = await asyncio.to_thread(self._cut, [texts[i] for i in part])
            rows[part] = await asyncio.gather(*self._put(self._bulk, tokens))
        return rows

    def _give_up(self, future: asyncio.Future[Vector]) -> None:
        if not future.done():
            self._counts["timeouts"] += 1
            future.set_exception(EmbedderTimeout(f"no vector within {self._deadline_s} s"))

    def stats(self) -> dict[str, Any]:
        kinds = ("batches", "texts", "tokens", "timeouts", "overloaded", "failed", "abandoned")
        return {
            "queue": len(self._urgent),
            "bulk": len(self._bulk),
            "workers": self._alive,
            **{kind: self._counts[kind] for kind in kinds},
        }

    async def close(self) -> None:
        self._shut("the embedder is closed")
        await asyncio.to_thread(self._join)
        self._encoder.close()

    def _tokenize(self, text: str) -> Sequence[int]:
        if len(text) > self._encoder.max_tokens * _CHARACTERS_PER_TOKEN:
            raise TextTooLong(f"{len(text)} characters, the model reads {self._encoder.max_tokens} tokens")
        return self._encoder.tokenize(text)

    def _cut(self, texts: Sequence[str]) -> list[Sequence[int]]:
        most = self._encoder.max_tokens
        return [
            tokens if len(tokens) <= most else [*tokens[: most - 1], tokens[-1]]
            for tokens in (self._encoder.tokenize(text[: most * _CHARACTERS_PER_TOKEN]) for text in texts)
        ]

    def _put(
        self, queue: list[Waiting], texts: Sequence[Sequence[int]], room: int | None = None
    ) -> list[asyncio.Future[Vector]]:
        loop = asyncio.get_running_loop()
        entries = [Waiting(tokens, loop.create_future()) for tokens in texts]
        with self._changed:
            if self._closed:
                raise EmbedderFailed(self._closed)
            if room is not None and len(queue) >= room and not self._drop_abandoned(queue):
                self._counts["overloaded"] += 1
                raise EmbedderOverloaded(f"{room} texts are waiting")
            queue += entries
            self._changed.notify(len(entries))
        return [entry.future for entry in entries]

    def _drop_abandoned(self, queue: list[Waiting]) -> int:
        """Drops entries whose callers have left, and returns how many."""
        staying = [entry for entry in queue if not entry.future.done()]
        abandoned = len(queue) - len(staying)
        self._counts["abandoned"] += abandoned
        queue[:] = staying
        return abandoned

    def _work(self) -> None:
        try:
            while batch := self._take():
                self._answer(batch)
        finally:
            self._leave()

    def _take(self) -> list[Waiting]:
        """Blocks until there is a batch. Returns an empty one when the embedder is closed."""
        with self._changed:
            while not self._closed:
                bulk_first = self._bulk_waited >= _BULK_WAITS
                for queue in (self._bulk, self._urgent) if bulk_first else (self._urgent, self._bulk):
                    self._drop_abandoned(queue)
                    if queue:
                        passed_over = queue is self._urgent and bool(self._bulk)
                        self._bulk_waited = self._bulk_waited + 1 if passed_over else 0
                        return _take_batch(queue, self._encoder.batch_tokens)
                self._changed.wait()
            return []

    def _answer(self, batch: list[Waiting]) -> None:
        try:
            rows = self._encoder.encode([entry.tokens for entry in batch])
            if rows.shape != (len(batch), self.dimensions) or not np.isfinite(rows).all():
                raise ValueError(f"the encoder gave {rows.shape} or numbers that are not finite")
        except BaseException as error:
            self._counts["failed"] += len(batch)
            _settle(batch, [_failed(error) for _ in batch])
            if not isinstance(error, Exception):
                raise
        else:
            self._counts.update(batches=1, texts=len(batch), tokens=sum(len(entry.tokens) for entry in batch))
            _settle(batch, [row.copy() for row in rows])

    def _leave(self) -> None:
        with self._changed:
            self._alive -= 1
            last = self._alive == 0
        if last:
            self._shut("the workers of the embedder have gone")

    def _shut(self, reason: str) -> None:
        with self._changed:
            self._closed = self._closed or reason
            waiting = [*self._urgent, *self._bulk]
            self._urgent.clear()
            self._bulk.clear()
            self._changed.notify_all()
        _settle(waiting, [EmbedderFailed(reason) for _ in waiting])

    def _join(self) -> None:
        for worker in self._workers:
            worker.join(_JOIN_S)


def _take_batch(queue: list[Waiting], budget: int) -> list[Waiting]:
    """Removes from the queue its head and the texts closest to it in length, within the budget of tokens."""
    head = queue[0]
    batch, longest, real = [head], len(head.tokens), len(head.tokens)
    for entry in sorted(queue[1:], key=lambda entry: abs(len(entry.tokens) - len(head.tokens))):
        longest, real = max(longest, len(entry.tokens)), real + len(entry.tokens)
        if longest * (len(batch) + 1) > min(budget, _PADDING * real):
            break
        batch.append(entry)
    taken = set(batch)
    queue[:] = [entry for entry in queue if entry not in taken]
    return batch


def _failed(error: BaseException) -> EmbedderFailed:
    failed = EmbedderFailed(f"{type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed


def _settle(batch: Sequence[Waiting], outcomes: Sequence[Vector | EmbedderFailed]) -> None:
    """Gives each waiter its vector or its error. May be called from any thread."""
    if not batch:
        return
    try:
        batch[0].future.get_loop().call_soon_threadsafe(_give, batch, outcomes)
    except RuntimeError:
        pass  # the loop is closed, so nobody is waiting


def _give(batch: Sequence[Waiting], outcomes: Sequence[Vector | EmbedderFailed]) -> None:
    for entry, outcome in zip(batch, outcomes, strict=True):
        if entry.future.done():
            continue
        if isinstance(outcome, EmbedderFailed):
            entry.future.set_exception(outcome)
        else:
            entry.future.set_result(outcome)
