"""Documents in Redis: a hash each, which Redis lets go of by itself when it is of no more use.

Every key has the same hash tag, so all of them are in one slot, in a cluster too: what belongs together
changes together. The index in memory is whole in each proxy, so what one shard holds is enough.

    {nearhit}:meta            schema, and whether answers are sealed
    {nearhit}:doc:ID          row (JSON), fingerprint, vector, sealed_text, body, exact
    {nearhit}:exact:DIGEST    ID; expires with its document
    {nearhit}:order           sorted set of ids by arrival, those of expired documents too, until a scan
    {nearhit}:seq             the last arrival's number
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from redis.asyncio import Redis

from storage.base import Document, StorageError, Stored, Vector
from storage.breath import slices
from storage.documents.codec import NEEDS_KEYS, Codec
from storage.documents.readable import Reader
from storage.documents.rows import to_row
from storage.redis_client import TAG, connect
from storage.within import OPENING, within

SCHEMA = b"1"
SCAN_BATCH = 128
DELETE_BATCH = 500
"""Ids that one script deletes; Redis serves nobody else meanwhile, for about two milliseconds."""

META, ORDER, SEQ, DOC, EXACT = (f"{TAG}:{name}" for name in ("meta", "order", "seq", "doc:", "exact:"))

_DISCARD = """
local function discard(id)
  local exact = redis.call('HGET', KEYS[1] .. id, 'exact')
  if exact and redis.call('GET', KEYS[2] .. exact) == id then redis.call('DEL', KEYS[2] .. exact) end
  redis.call('DEL', KEYS[1] .. id)
  redis.call('ZREM', KEYS[3], id)
end
"""
_SAVE = (
    _DISCARD
    + """
local id, exact, expires = ARGV[1], ARGV[2], ARGV[3]
discard(id)
local same = redis.call('GET', KEYS[2] .. exact)
if same then discard(same) end
redis.call('HSET', KEYS[1] .. id, 'exact', exact, unpack(ARGV, 4))
redis.call('SET', KEYS[2] .. exact, id)
redis.call('ZADD', KEYS[3], redis.call('INCR', KEYS[4]), id)
if expires ~= '' then
  redis.call('PEXPIREAT', KEYS[1] .. id, expires)
  redis.call('PEXPIREAT', KEYS[2] .. exact, expires)
end
"""
)
_DELETE = _DISCARD + "for _, id in ipairs(ARGV) do discard(id) end"
_REVECTOR = """
local id, fingerprint, vector = ARGV[1], ARGV[2], ARGV[3]
if redis.call('EXISTS', KEYS[1] .. id) == 0 then return end
redis.call('HSET', KEYS[1] .. id, 'fingerprint', fingerprint)
if vector then
  redis.call('HSET', KEYS[1] .. id, 'vector', vector)
else
  redis.call('HDEL', KEYS[1] .. id, 'vector')
end
"""
_RESEAL = """
local id, body, vector = ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('HMGET', KEYS[1] .. id, 'body', 'vector')
if found[1] == body and (found[2] or '') == vector then
  redis.call('HSET', KEYS[1] .. id, unpack(ARGV, 4))
end
"""
_FORGET_EXPIRED = """
for _, id in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[1] .. id) == 0 then redis.call('ZREM', KEYS[3], id) end
end
"""
_KEYS = (4, DOC, EXACT, ORDER, SEQ)


class RedisDocuments:
    """Every call ends within `deadline` seconds."""

    def __init__(self, client: Redis, deadline: float, codec: Codec) -> None:
        self._client = client
        self._within = partial(within, deadline)
        self._codec = codec
        self.reader = Reader(codec)
        self.unreadable = self.reader.unreadable

    async def prepare(self) -> None:
        """StorageError when there are documents of another schema, or sealed ones and we have no key."""
        async with self._within(OPENING):
            await self._client.hsetnx(META, "schema", SCHEMA)
            schema, sealed = cast(list[bytes | None], await self._client.hmget(META, ["schema", "sealed"]))
            if schema != SCHEMA:
                raise StorageError(
                    f"documents.url: the documents in Redis have schema {_shown(schema)}, this nearhit reads "
                    f"{_shown(SCHEMA)}: run the nearhit that wrote them, or name another database"
                )
            if sealed and not self._codec.seals:
                raise StorageError(NEEDS_KEYS)
            if self._codec.seals:
                await self._client.hset(META, "sealed", "yes")

    async def save(self, documents: Sequence[Document]) -> None:
        async with self._within("save"):
            many = await asyncio.to_thread(lambda: [_arguments(each, self._codec) for each in documents])
            async with self._client.pipeline(transaction=True) as pipeline:
                for arguments in many:
                    pipeline.eval(_SAVE, *_KEYS, *arguments)
                await pipeline.execute()

    async def load(self, id: str) -> bytes | None:
        async with self._within("load"):
            return await self.reader.body(await self._client.hget(DOC + id, "body"), id)

    async def load_many(self, ids: Sequence[str]) -> dict[str, bytes]:
        async with self._within("load"), self._client.pipeline(transaction=False) as pipeline:
            for id in ids:
                pipeline.hget(DOC + id, "body")
            return await self.reader.bodies(zip(ids, await pipeline.execute(), strict=True))

    async def entries(self, ids: Sequence[str]) -> list[Stored]:
        return self.reader.entries(await self._rows(list(ids)))

    async def delete(self, ids: Iterable[str]) -> None:
        async with self._within("delete"), self._client.pipeline(transaction=True) as pipeline:
            for some in slices(ids, DELETE_BATCH):
                pipeline.eval(_DELETE, *_KEYS, *some)
            await pipeline.execute()

    async def scrub(self) -> None:
        """Nothing more can be asked of Redis from here: what it writes to a disk, and when, it is told where
        it is run (docs/documents.md)."""

    async def revector(self, fingerprint: str, vectors: Mapping[str, Vector | None]) -> None:
        async with self._within("revector"), self._client.pipeline(transaction=True) as pipeline:
            for id, vector in vectors.items():
                packed = self._codec.pack_vector(vector, id)
                pipeline.eval(_REVECTOR, *_KEYS, id, fingerprint, *([] if packed is None else [packed]))
            await pipeline.execute()

    async def reseal(self, ids: Sequence[str]) -> int:
        if not self._codec.seals:
            return 0
        changes = await self.reader.resealed(await self._sealable(ids))
        async with self._within("reseal"), self._client.pipeline(transaction=False) as pipeline:
            for old, new in changes:
                new |= {"row": json.dumps(old["row"] | {"text": new.pop("text")})}
                fields = [part for field in new.items() if field[1] is not None for part in field]
                pipeline.eval(_RESEAL, *_KEYS, old["id"], old["body"], old["vector"] or b"", *fields)
            await pipeline.execute()
        return len(changes)

    async def _sealable(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """As `rows.resealed` takes them, and the whole `row`."""
        async with self._within("reseal"), self._client.pipeline(transaction=False) as pipeline:
            for id in ids:
                pipeline.hmget(DOC + id, ["row", "sealed_text", "vector", "body"])
            found = await pipeline.execute()
        rows = []
        for id, (packed, sealed_text, vector, body) in zip(ids, found, strict=True):
            if packed is not None and body is not None:
                row = json.loads(packed)
                apart = {"sealed_text": sealed_text, "vector": vector, "body": body}
                rows.append({"id": id, "row": row, "text": row["text"], **apart})
        return rows

    async def scan(self) -> AsyncIterator[list[Stored]]:
        below = "+inf"
        while ranked := await self._ids_below(below):
            below = f"({ranked[-1][1]:.0f}"
            yield self.reader.entries(await self._rows([id.decode() for id, _ in ranked]))

    async def ping(self) -> None:
        async with self._within("ping"):
            await self._client.ping()

    async def close(self) -> None:
        async with self._within("close"):
            await self._client.aclose()

    async def _ids_below(self, rank: str) -> list[tuple[bytes, float]]:
        async with self._within("scan"):
            found = await self._client.zrevrangebyscore(
                ORDER, rank, "-inf", start=0, num=SCAN_BATCH, withscores=True
            )
            return cast(list[tuple[bytes, float]], found)

    async def _rows(self, ids: list[str]) -> list[Mapping[str, Any]]:
        async with self._within("scan"), self._client.pipeline(transaction=False) as pipeline:
            for id in ids:
                pipeline.hmget(DOC + id, ["row", "fingerprint", "vector", "sealed_text"])
            found = await pipeline.execute()
            if expired := [id for id, values in zip(ids, found, strict=True) if values[0] is None]:
                await self._client.eval(_FORGET_EXPIRED, *_KEYS, *expired)
            return [_row(*values) for values in found if values[0] is not None]


async def open_redis(url: str, deadline: float, codec: Codec) -> RedisDocuments:
    """Raises StorageError when the server does not answer, or what it holds is not ours to read."""
    # Once more on a new connection: the server may have been started anew since the last call.
    client = connect(url, deadline, tries_again=1)
    store = RedisDocuments(client, deadline, codec)
    try:
        await store.prepare()
    except BaseException:
        await client.aclose()
        raise
    return store


def _arguments(document: Document, codec: Codec) -> list[str | bytes]:
    """id, exact, expires, then the fields of the hash."""
    row = to_row(document, codec)
    apart = {name: row.pop(name) for name in ("fingerprint", "vector", "sealed_text", "body")}
    row |= {"exact": row["exact"].hex(), "partition": row["partition"].hex()}
    fields = {"row": json.dumps(row)} | {name: value for name, value in apart.items() if value is not None}
    expires = "" if document.expires is None else str(int(document.expires * 1000))
    return [row["id"], row["exact"], expires, *(part for field in fields.items() for part in field)]


def _row(
    packed: bytes, fingerprint: bytes, vector: bytes | None, sealed_text: bytes | None
) -> Mapping[str, Any]:
    """What `from_row` reads; nothing of it when the JSON is damaged, which `from_row` refuses."""
    try:
        row = json.loads(packed)
        row |= {"exact": bytes.fromhex(row["exact"]), "partition": bytes.fromhex(row["partition"])}
        row["fingerprint"] = fingerprint.decode()
    except (ValueError, TypeError, KeyError, AttributeError):
        row = {}
    return {**row, "vector": vector, "sealed_text": sealed_text}


def _shown(value: bytes | None) -> str:
    return (value or b"unknown").decode(errors="replace")
