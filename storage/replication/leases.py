"""One question goes up once among all replicas: whoever has its lease asks the upstream, the others wait.

{nearhit}:lease:DIGEST     name of the replica that asks, or `done`; expires
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any, Literal, Protocol

from redis.asyncio import Redis

from storage.base import StorageError
from storage.index.entries import Entries
from storage.redis_client import TAG
from storage.within import within

LEASE = f"{TAG}:lease:"
LEASE_MS = 1_500
"""Renewed while the call is under way: when its replica dies, the others wait no longer than this. It stays
for as long after the call, so that a replica that is slow to hear of the answer does not ask again."""
DONE = "done"
"""In place of its holder's name, once there is an answer."""
ASK_S = 0.25
"""For Redis to answer for a lease, while a caller waits."""
ANSWER_S = 2.0
"""For Redis to answer while nobody waits."""
LOOK_S = 0.1
"""Between two attempts to get a lease that somebody else holds."""

_TAKE = """
local holder = redis.call('GET', KEYS[1])
if not holder then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return holder
"""
_IF_MINE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
_RENEW = _IF_MINE.format("'PEXPIRE', KEYS[1], ARGV[2]")
_RELEASE = _IF_MINE.format("'DEL', KEYS[1]")
_ANSWERED = _IF_MINE.format("'SET', KEYS[1], ARGV[2], 'PX', ARGV[3]")

_within = partial(within, what="lease", who="Redis")

Asked = Literal["mine", "told", "alone"]


class Contact(Protocol):
    """With Redis."""

    @property
    def current(self) -> bool: ...

    def doubt(self) -> None:
        """Redis did not answer."""


class Leases:
    def __init__(
        self, client: Redis, name: str, entries: Entries, lease_s: float | None, contact: Contact
    ) -> None:
        """`name`: of this replica. `lease_s`: longest wait for another's answer; None: nobody waits."""
        self._client = client
        self._name = name
        self._entries = entries
        self._lease_s = lease_s
        self._contact = contact
        self._awaited: defaultdict[bytes, set[asyncio.Event]] = defaultdict(set)
        self._asking: dict[bytes, asyncio.Future[None]] = {}
        self.counts = {"waited": 0, "shared": 0}

    async def ask(self, digest: bytes) -> Asked:
        """Before a call goes up. `mine`: it is for this replica, and `hold` is to follow; `told`: look again,
        somebody else may have the answer by now; `alone`: nobody knows, or it takes too long."""
        if self._lease_s is None or not self._contact.current:
            return "alone"
        if (asking := self._asking.get(digest)) is not None:
            await asyncio.wait([asking], timeout=self._lease_s)
            return "told"
        asking = self._asking[digest] = asyncio.get_running_loop().create_future()
        try:
            return await self._ask(digest, monotonic() + self._lease_s)
        finally:
            del self._asking[digest]
            asking.set_result(None)

    async def hold(self, digest: bytes, call: asyncio.Future[Any], id: str) -> None:
        """Keeps what `ask` said was ours until the call is over, and says whether there is entry `id` now."""
        with suppress(StorageError):
            while not call.done():
                await self._of_ours(_RENEW, digest, str(LEASE_MS))
                await asyncio.wait([call], timeout=LEASE_MS / 3000)
            if self._entries.get(id) is not None:
                await self._of_ours(_ANSWERED, digest, DONE, str(LEASE_MS))
                return
        await self.release(digest)

    async def release(self, digest: bytes) -> None:
        with suppress(StorageError):
            await self._of_ours(_RELEASE, digest)

    def arrived(self, digest: bytes) -> None:
        """An answer to this question is known here now."""
        for arrived in self._awaited.get(digest, ()):
            arrived.set()

    async def _ask(self, digest: bytes, until: float) -> Asked:
        with self._awaiting(digest) as arrived:
            waits = False
            while holder := await self._holder(digest):
                if holder == DONE and self._entries.by_exact(digest) is not None:
                    return "told"
                self.counts["waited"] += not waits
                waits = True
                if not self._contact.current or monotonic() > until:
                    return "alone"
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await arrived.wait()
                if arrived.is_set():
                    self.counts["shared"] += 1
                    return "told"
        return "mine"

    async def _holder(self, digest: bytes) -> str:
        """Who asks the upstream; "" when it is for us now. Also when Redis does not say: then the call is not
        held up."""
        try:
            async with _within(ASK_S):
                holder = await self._client.eval(_TAKE, 1, _key(digest), self._name, str(LEASE_MS))
        except StorageError:
            self._contact.doubt()
            return ""
        return holder.decode() if isinstance(holder, bytes) else ""

    async def _of_ours(self, script: str, digest: bytes, *arguments: str) -> None:
        async with _within(ANSWER_S):
            await self._client.eval(script, 1, _key(digest), self._name, *arguments)

    @contextmanager
    def _awaiting(self, digest: bytes) -> Iterator[asyncio.Event]:
        """Set when an answer to this question is known to all."""
        arrived = asyncio.Event()
        self._awaited[digest].add(arrived)
        try:
            yield arrived
        finally:
            self._awaited[digest].discard(arrived)
            if not self._awaited[digest]:
                del self._awaited[digest]


def _key(digest: bytes) -> str:
    return LEASE + digest.hex()
