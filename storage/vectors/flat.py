"""Scan over the vectors of one partition.

Up to `EXACT_ROWS` vectors the scan is exact: one matrix product. Above that, the signs of the components
(one bit each) pick some candidates by Hamming distance and only these are compared exactly. Among 100,000
vectors of 384 dimensions that takes half a millisecond instead of ten, an insert stays an assignment, and
no neighbour that is near enough to be a hit was lost on real questions (`python -m benchmarks.search`
measures it).

Vectors lie in blocks, so that growth never copies more than the small first one.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage.base import Matrix, Vector

EXACT_ROWS = 1024
"""Up to here one matrix product is as fast as anything."""
BLOCK_ROWS = 16384
"""Rows of a full block. Memory that is not written to yet is not taken from the machine."""
FIRST_ROWS = 4
"""Most partitions stay tiny."""
CANDIDATES = 128
"""How many of the nearest by signs are compared exactly, at the least."""

Words = NDArray[np.uint64]


class _Block:
    """Rows of vectors, the key of each, and their signs as bit planes: word w of row r is `signs[w, r]`."""

    __slots__ = ("keys", "signs", "vectors")

    def __init__(self, rows: int, dimensions: int) -> None:
        self.vectors = _room_for(rows, dimensions)
        self.keys: NDArray[np.int64] = np.empty(rows, np.int64)
        self.signs: Words | None = None
        if rows > EXACT_ROWS:
            self.signs = np.empty((-(-dimensions // 64), rows), np.uint64)

    def copy_from(self, other: _Block) -> None:
        rows = len(other.keys)
        self.vectors[:rows] = other.vectors
        self.keys[:rows] = other.keys
        if self.signs is not None:
            self.signs[:, :rows] = _signs(other.vectors).T

    def put(self, row: int, key: int, vector: Vector) -> None:
        self.vectors[row] = vector
        self.keys[row] = key
        if self.signs is not None:
            self.signs[:, row] = _signs(vector[None])[0]


class Flat:
    """Rows are dense: the last one moves to where one was removed."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._blocks = [_Block(FIRST_ROWS, dimensions)]
        self._rows: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Room of a full block that was never written to is not taken from the machine."""
        rows = len(self._rows) if len(self._rows) > EXACT_ROWS else len(self._blocks[0].keys)
        return rows * (4 * self._dimensions + self._dimensions // 8 + 8)

    def add(self, key: int, vector: Vector) -> None:
        row = len(self._rows)
        self._make_room(row)
        block, place = self._place(row)
        block.put(place, key, vector)
        self._rows[key] = row

    def remove(self, key: int) -> None:
        row = self._rows.pop(key)
        last = len(self._rows)
        if row != last:
            (source, its), (gap, there) = self._place(last), self._place(row)
            moved = int(source.keys[its])
            gap.put(there, moved, source.vectors[its])
            self._rows[moved] = row
        if last and last % BLOCK_ROWS == 0:
            self._blocks.pop()

    def __contains__(self, key: int) -> bool:
        return key in self._rows

    def vectors(self, keys: Sequence[int]) -> Matrix:
        """Copies, in the order of the keys."""
        matrix = np.empty((len(keys), self._dimensions), np.float32)
        for at, key in enumerate(keys):
            block, place = self._place(self._rows[key])
            matrix[at] = block.vectors[place]
        return matrix

    def keys(self) -> NDArray[np.int64]:
        return np.concatenate([block.keys for block in self._blocks])[: len(self._rows)]

    def nearest(self, vector: Vector, count: int) -> list[tuple[float, int]]:
        size = len(self._rows)
        if size == 0 or count <= 0:
            return []
        if size <= EXACT_ROWS:
            block = self._blocks[0]
            return _best(block.vectors[:size] @ vector, block.keys[:size], count)
        scores, keys = self._candidates(vector, count)
        return _best(scores, keys, count)

    async def release(self) -> None:
        """Gives the memory back bit by bit: at once it would hold up the loop. Of no use afterwards."""
        while self._blocks:
            self._blocks.pop()
            await asyncio.sleep(0)
        while self._rows:
            for _ in range(min(1_000, len(self._rows))):
                self._rows.popitem()
            await asyncio.sleep(0)

    def _place(self, row: int) -> tuple[_Block, int]:
        """Its block, and which row of that it is."""
        return self._blocks[row // BLOCK_ROWS], row % BLOCK_ROWS

    def _make_room(self, row: int) -> None:
        if row % BLOCK_ROWS == 0 and row:
            self._blocks.append(_Block(BLOCK_ROWS, self._dimensions))
        elif row == len(self._blocks[0].keys):
            rows = 2 * row if 2 * row <= EXACT_ROWS else BLOCK_ROWS
            block = _Block(rows, self._dimensions)
            block.copy_from(self._blocks[0])
            self._blocks[0] = block

    def _candidates(self, vector: Vector, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cosine and key of the rows whose signs differ least from the vector's."""
        wanted = min(max(CANDIDATES, 4 * count), len(self._rows) - 1)
        distances = self._distances(_signs(vector[None])[0])
        # The distance of the first that is not wanted. Few distances are possible, so counting each
        # is quicker than partitioning them.
        cut = int(np.bincount(distances).cumsum().searchsorted(wanted + 1))
        rows = np.flatnonzero(distances <= cut)
        if len(rows) > 4 * wanted:  # many equal ones: any of them will do
            rows = rows[np.argsort(distances[rows], kind="stable")[: 4 * wanted]]
        scores, keys = [], []
        for number, block in enumerate(self._blocks):
            first, end = np.searchsorted(rows, (number * BLOCK_ROWS, (number + 1) * BLOCK_ROWS))
            inside = rows[first:end] - number * BLOCK_ROWS
            scores.append(block.vectors[inside] @ vector)
            keys.append(block.keys[inside])
        return np.concatenate(scores), np.concatenate(keys)

    def _distances(self, signs: Words) -> NDArray[np.uint16]:
        """Hamming distance of each row."""
        size = len(self._rows)
        distances = np.empty(size, np.uint16)
        differ = np.empty(min(size, BLOCK_ROWS), np.uint64)
        ones = np.empty(len(differ), np.uint8)
        for start, block in zip(range(0, size, BLOCK_ROWS), self._blocks, strict=True):
            rows = min(BLOCK_ROWS, size - start)
            total, different, counted = distances[start : start + rows], differ[:rows], ones[:rows]
            total[:] = 0
            assert block.signs is not None
            for plane, word in zip(block.signs, signs, strict=True):
                np.bitwise_xor(plane[:rows], word, out=different)
                np.bitwise_count(different, out=counted)
                np.add(total, counted, out=total)
        return distances


def _room_for(rows: int, dimensions: int) -> Matrix:
    """numpy asks for huge pages for arrays as large as a full block, and to touch a new one of these is 5
    ms of clearing memory, on the loop. Plain anonymous memory comes in small pages."""
    if rows < BLOCK_ROWS:
        return np.empty((rows, dimensions), np.float32)
    memory = mmap.mmap(-1, 4 * rows * dimensions)
    return np.frombuffer(memory, np.float32).reshape(rows, dimensions)


def _signs(vectors: Matrix) -> Words:
    """Shape (vectors, words of 64 signs)."""
    bits = np.packbits(vectors > 0, axis=1)
    spare = -bits.shape[1] % 8
    if spare:
        bits = np.pad(bits, ((0, 0), (0, spare)))
    return np.ascontiguousarray(bits).view(np.uint64)


def _best(scores: NDArray[np.float32], keys: NDArray[np.int64], count: int) -> list[tuple[float, int]]:
    if count < len(scores):
        top = np.argpartition(scores, -count)[-count:]
        scores, keys = scores[top], keys[top]
    order = np.argsort(-scores, kind="stable")
    return list(zip(scores[order].tolist(), keys[order].tolist(), strict=True))
