"""Several proxies on one document store: each tells the others what it stored and deleted.

The document store is the truth; what goes through Redis are ids. A stream of changes is read by every replica
in order:

    stored   ids of documents that are in the store now: the others load them from there into their index
    gone     ids of documents that are out of the store now: the others let go of them
    purge    a purge begins: calls that are under way are not stored, nor is what is not written yet
    reload   somebody else has written to the store: compare with all of it

Each purge changes the epoch. What was stored in an earlier epoch is refused when it is announced, and given
up: a replica that was away, stopped or cut off, brings nothing past a purge.

Keys, all with one hash tag, so that a cluster has them in one slot:

    {nearhit}:changes          the stream, trimmed
    {nearhit}:epoch            changed by every purge
    {nearhit}:replicas         names of replicas
    {nearhit}:replica:NAME     the last change that it has applied; expires when it is not heard of

One question goes up once by leases in the same Redis (`leases.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from random import random
from secrets import token_hex
from time import monotonic
from typing import Any, cast

from storage.backoff import BackOff
from storage.base import Entry, StorageError, Vector
from storage.breath import Breath, slices
from storage.documents.buffered import BufferedDocuments
from storage.index.entries import Entries
from storage.redis_client import TAG, connect
from storage.replication.leases import ANSWER_S, Leases
from storage.replication.outbox import Change, Kind, Outbox
from storage.within import within

log = logging.getLogger("nearhit.replication")

STREAM, EPOCH, NAMES, REPLICA = (f"{TAG}:{name}" for name in ("changes", "epoch", "replicas", "replica:"))
CHANGES = 20_000
"""Kept in the stream, about; who was away for longer compares with the whole store."""
AT_ONCE = 128
"""Ids in one change, and documents loaded at a time."""
WAITING = 100_000
"""Changes that wait for Redis. Beyond them what is stored is given up, and the others learn what is gone by
comparing with the whole store."""

BLOCK_MS = 250
"""For which Redis waits for a change before it says that there is none."""
CURRENT_S = 2.0
"""Since Redis last told all that it knew, after which memory is no longer believed."""
CERTAIN_S = 3.0
"""For which a call waits to hear what came while this process was stopped."""
HEARD_MS = 5_000
"""Since a replica was last heard of, after which nobody waits for it. Longer than `CURRENT_S`: by then it
does not believe its memory any more."""
CONFIRM_S = 10.0
"""For all others to have applied a purge."""
PATIENCE_S = 2.0
"""For Redis at start."""
STOPPED_S = ANSWER_S + 1.0
"""Since Redis was asked, after which it was not Redis that was late, but this process that was stopped."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between attempts to reach Redis."""

_within = partial(within, ANSWER_S, "replication", who="Redis")

_ANNOUNCE = """
local epoch = redis.call('GET', KEYS[2])
if not epoch then return redis.error_reply('TRYAGAIN no epoch yet') end
if ARGV[3] == 'stored' and epoch ~= ARGV[2] then return false end
return redis.call(
  'XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*', 'kind', ARGV[3], 'by', ARGV[1], 'ids', ARGV[4]
)
"""


class Replication:
    """Made inside a running loop; `listen` and `announce` are to run for as long as the proxy does.

    `lease_s`: longest wait for another replica's answer to the same question; None: nobody waits.
    """

    def __init__(
        self, url: str, documents: BufferedDocuments, entries: Entries, lease_s: float | None
    ) -> None:
        """Raises ValueError for what is no Redis URL."""
        self.name = token_hex(6)
        self.take_in: Callable[[Entry, Vector | None], object] = lambda entry, vector: None
        """A document that another replica has stored."""
        self.drop: Callable[[Sequence[str]], None] = lambda ids: None
        """Another replica has deleted these."""
        self.purging: Callable[[], None] = lambda: None
        """Another replica has begun a purge."""
        self.give_up: Callable[[list[str]], None] = lambda ids: None
        """Of our own: out of memory and out of the store."""
        self.reload: Callable[[], Awaitable[None]] = _nothing
        """Makes memory what the store is."""
        self._client = connect(url, ANSWER_S, tries_again=0)
        self._documents = documents
        self._epoch = self.name
        self._run_id = ""
        self._cursor = ""
        """The last change that was applied; "" before the first contact."""
        self._told_at = float("-inf")
        """When Redis was asked, the last time that it told all that it knew."""
        self._asked_at = float("-inf")
        self._hearing = False
        """Waiting for Redis, and nothing says that it is away."""
        self._all_heard_at = 0.0
        """When a Redis that may have forgotten who is there has heard of all again."""
        self._connected = asyncio.Event()
        self._late = False
        """The index began to load before there was contact."""
        self._outbox = Outbox()
        self._work = asyncio.Event()
        self._last_announced = "0-0"
        self._counts = dict.fromkeys(("announced", "applied", "reloads", "given_up", "failures"), 0)
        self.leases = Leases(self._client, self.name, entries, lease_s, self)
        documents.on_saved = lambda ids: self._put("stored", ids)
        documents.on_deleted = lambda ids: self._put("gone", ids)
        documents.current = lambda: self.current

    @property
    def current(self) -> bool:
        """Whether whatever another replica has purged is known here."""
        return monotonic() - self._told_at < CURRENT_S

    def doubt(self) -> None:
        """Redis did not answer."""
        self._told_at = float("-inf")

    async def certain(self) -> None:
        """Before a call is looked at: a process that was stopped hears first what came meanwhile. Waits for
        milliseconds, for `CERTAIN_S` at the most, and not at all while Redis is away."""
        until = monotonic() + CERTAIN_S
        while self._hearing and not self.current and monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def stats(self) -> dict[str, Any]:
        told = self._told_at
        return {
            "name": self.name,
            "connected": self._connected.is_set(),
            "current": self.current,
            "behind_s": monotonic() - told if told > 0 else None,
            "waiting": len(self._outbox),
            **self._counts,
            **self.leases.counts,
        }

    async def joined(self) -> None:
        """Before the index is loaded: whatever changes from now on will be told. Returns in any case, after
        `PATIENCE_S` at the latest; then all is compared with the store at the first contact."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._connected.wait()
        self._late = not self._cursor

    async def close(self) -> None:
        """Tells what is left to tell, if Redis listens."""
        with suppress(StorageError):
            async with _within():
                while self._connected.is_set() and self._outbox:
                    await self._announce_some()
                await self._client.delete(REPLICA + self.name)
        with suppress(StorageError):
            async with _within():
                await self._client.aclose()

    # What the others did

    async def listen(self) -> None:
        """For ever: applies what the others tell, and reaches for Redis when it is away."""
        back_off = BackOff(FIRST_PAUSE, LONGEST_PAUSE)
        while not _cancelled():
            try:
                await self._meet()
                if back_off.failures:
                    log.info("replication: in contact again")
                back_off.succeeded()
                while not _cancelled():
                    await self._hear()
                return
            except StorageError as error:
                if not back_off.failures:
                    log.warning("this replica works alone until there is contact again: %s", error)
            except Exception:
                log.exception("replication failed in a way that it should not")
            self._lose_contact()
            await asyncio.sleep(back_off.failed() * (0.5 + random() / 2))

    def _lose_contact(self) -> None:
        self._hearing = self._hearing and monotonic() - self._asked_at > STOPPED_S
        self._connected.clear()
        self.doubt()
        self._counts["failures"] += 1

    async def _meet(self) -> None:
        asked = self._asked_at = monotonic()
        async with _within():
            info = await self._client.info("server")
            async with self._client.pipeline(transaction=True) as pipeline:
                # First of all, so that from now on every purge waits for this replica.
                pipeline.set(REPLICA + self.name, self._cursor or "0-0", px=HEARD_MS)
                pipeline.sadd(NAMES, self.name)
                pipeline.set(EPOCH, self._epoch, nx=True)
                pipeline.get(EPOCH)
                pipeline.xrange(STREAM, count=1)
                pipeline.xrevrange(STREAM, count=1)
                *_, epoch, first, last = await pipeline.execute()
        run_id, tail = str(info["run_id"]), last[0][0].decode() if last else "0-0"
        if self._run_id not in ("", run_id):
            self._all_heard_at = monotonic() + HEARD_MS / 1000
        known = bool(self._cursor) and run_id == self._run_id
        if not known or not _follows(self._cursor, first, tail):
            await self._start_over(epoch.decode(), tail)
        if self._cursor == tail:
            self._told_at = asked
        self._run_id = run_id
        self._connected.set()
        self._work.set()

    async def _start_over(self, epoch: str, tail: str) -> None:
        """From the end of the stream, after the whole store where something may have been missed."""
        if epoch != self._epoch:
            self._enter(epoch)
        if self._cursor or self._late:
            await self._compare()
        self._cursor = tail

    async def _hear(self) -> None:
        asked = self._asked_at = monotonic()
        self._hearing = True
        async with _within():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.set(REPLICA + self.name, self._cursor, px=HEARD_MS)
                pipeline.sadd(NAMES, self.name)
                await pipeline.execute()
            told = await self._client.xread({STREAM: self._cursor}, count=AT_ONCE, block=BLOCK_MS)
        if told:
            await self._apply(cast(Any, told)[0][1])
        if not told or len(cast(Any, told)[0][1]) < AT_ONCE:
            self._told_at = asked

    async def _apply(self, changes: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """May be done again with the same ones when it fails half way."""
        wanted, reloads = dict[str, None](), False
        for _, change in changes:
            kind, ours = change[b"kind"].decode(), change[b"by"].decode() == self.name
            ids = [id for id in change[b"ids"].decode().split(",") if id]
            match kind:
                case "purge":
                    self._epoch = ids[0]
                    if not ours:
                        self._enter(ids[0])
                case "reload":
                    reloads = reloads or not ours
                case "stored" if not ours:
                    wanted.update(dict.fromkeys(ids))
                case "gone" if not ours:
                    wanted = {id: None for id in wanted if id not in ids}
                    self.drop(ids)
        await self._load(list(wanted))
        if reloads:
            await self._compare()
        self._cursor = changes[-1][0].decode()
        self._counts["applied"] += len(changes)

    async def _compare(self) -> None:
        """With the whole store, which takes its time."""
        self._hearing = False
        self._counts["reloads"] += 1
        await self.reload()

    def _enter(self, epoch: str) -> None:
        """Somebody purges: what is on its way here may be part of it."""
        self._epoch = epoch
        self.purging()
        untold = self._outbox.take("stored")
        self._counts["given_up"] += len(untold)
        self.give_up([*self._documents.unwritten(), *untold])

    async def _load(self, ids: Sequence[str]) -> None:
        breath = Breath()
        for some in slices(ids, AT_ONCE):
            async for entry, vector in self._documents.each(some):
                self.take_in(entry, vector)
                self.leases.arrived(entry.exact)
                await breath.take()

    # What we did

    def _put(self, kind: Kind, ids: Sequence[str]) -> None:
        if len(self._outbox) + len(ids) <= WAITING:
            self._outbox.put(Change(kind, self._epoch), ids)
            self._work.set()
        elif kind == "stored":
            self._counts["given_up"] += len(ids)
            self.give_up(list(ids))
        else:
            self.tell_to_reload()

    def tell_to_reload(self) -> None:
        """Somebody else has written to the store: `nearhit import`, for one."""
        self._outbox.put(Change("reload", self._epoch), [""])
        self._work.set()

    async def announce(self) -> None:
        """For ever: tells the others, while there is contact."""
        while not _cancelled():
            await self._work.wait()
            await self._connected.wait()
            try:
                if not await self._announce_some():
                    self._work.clear()
            except StorageError:
                self._counts["failures"] += 1
                await asyncio.sleep(FIRST_PAUSE)

    async def _announce_some(self) -> bool:
        """False when there are none."""
        if (first := self._outbox.first(AT_ONCE)) is None:
            return False
        change, ids = first
        arguments = self.name, change.epoch, change.kind, ",".join(ids), str(CHANGES)
        async with _within():
            told = cast(bytes | None, await self._client.eval(_ANNOUNCE, 2, STREAM, EPOCH, *arguments))
        ids = self._outbox.done(change, ids)
        if told is None:
            self._counts["given_up"] += len(ids)
            self.give_up(ids)
        else:
            self._counts["announced"] += 1
            self._last_announced = told.decode()
        return True

    # Purging

    async def begin_purge(self) -> None:
        """When it returns, every replica that is heard of stores nothing any more that began before. Raises
        StorageError."""
        await asyncio.sleep(self._all_heard_at - monotonic())
        epoch = token_hex(8)
        fields: Any = {"kind": "purge", "by": self.name, "ids": epoch}
        async with _within(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(EPOCH, epoch)
            pipeline.xadd(STREAM, fields, maxlen=CHANGES, approximate=True)
            _, told = await pipeline.execute()
        await self._applied(told.decode())

    async def end_purge(self) -> None:
        """When it returns, what was deleted here is gone from every replica. Raises StorageError."""
        untold = [*self._outbox.ids("gone"), *self._outbox.ids("reload")]
        until = monotonic() + CONFIRM_S
        while any(id in self._outbox for id in untold):
            if monotonic() > until:
                raise StorageError("replication: the other replicas could not be told")
            await asyncio.sleep(0.005)
        await self._applied(self._last_announced)

    async def _applied(self, change: str) -> None:
        """By every other replica that is heard of. Those that are not do not believe their memory any more:
        they look into the store, and catch up before they do otherwise."""
        until = monotonic() + CONFIRM_S
        while behind := await self._behind(change):
            if monotonic() > until:
                raise StorageError(f"replication: {behind} other replicas have not confirmed")
            await asyncio.sleep(0.01)

    async def _behind(self, change: str) -> int:
        async with _within():
            names = cast(set[bytes], await self._client.smembers(NAMES)) - {self.name.encode()}
            if not names:
                return 0
            others = [name.decode() for name in names]
            places = cast(list[bytes | None], await self._client.mget([REPLICA + name for name in others]))
            if silent := [name for name, place in zip(others, places, strict=True) if place is None]:
                await self._client.srem(NAMES, *silent)
        return sum(place is not None and _place(place.decode()) < _place(change) for place in places)


def _follows(cursor: str, first: Any, tail: str) -> bool:
    """Whether nothing after `cursor` is missing from the stream."""
    oldest = _place(first[0][0].decode()) if first else (0, 0)
    return oldest <= _place(cursor) <= _place(tail)


def _place(id: str) -> tuple[int, int]:
    milliseconds, _, number = id.partition("-")
    return int(milliseconds), int(number or 0)


def _cancelled() -> bool:
    """A cancellation that comes while the driver looks at its connection is lost on the way."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _nothing() -> None:
    return None
