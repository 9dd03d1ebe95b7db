"""The HTTP client for one upstream: sends a request, returns the answer's head and its bytes as they arrive,
and translates foreign errors."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import inf
from time import monotonic
from typing import Any
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.controls import removed
from proxy.errors import CallError, Unreachable, UpstreamSlow

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""RFC 9110, section 7.6.1."""

_RECALCULATED = frozenset({"host", "content-length", "expect"})
ATTEMPTS = 4
"""How many connections are tried if each turns out to have been closed by the upstream."""
PAUSE_S, PAUSE_MOST_S = 0.2, 5.0
"""The pause before the first retry, doubled for each further one, and the longest pause; also for an upstream
that asks for a pause."""

_NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
AT_ONCE_S = 1.0
"""If a connection is dropped later than this, the upstream may already have acted on the request."""
AGE_MOST_S = 2.0**31
"""Cap for the value of `Age` (RFC 9111, section 1.2.2)."""
HEADER_BYTES = 2**16
"""Largest header in bytes, in both directions: tokens and cookies outgrow the usual 8 KiB."""
HEADERS = 512
"""Most headers, in both directions: aiohttp's limit of 128 is meant for web sites."""

_SKIP = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would otherwise add."""

_REUSED: ContextVar[bool] = ContextVar("reused")
"""Whether this task's last connection had been used before."""

_ANEW: ContextVar[bool] = ContextVar("anew", default=False)
"""Whether this task needs a new connection: its body cannot be sent again if the upstream has just closed an
idle one."""

Body = bytes | AsyncIterator[bytes] | None


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    reason: str
    headers: CIMultiDict[str]
    """End-to-end headers only."""

    @property
    def age(self) -> float:
        """Seconds the answer has spent in other caches (RFC 9111, section 5.1)."""
        told = self.headers.get("Age", "").partition(",")[0].strip()
        return min(float(told), AGE_MOST_S) if told.isascii() and told.isdigit() else 0.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds."""

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Which failures are retried, and how often."""

    most: int = 0
    on: frozenset[str] = frozenset()
    """Any of `429`, `5xx`, `broken`. A failure to connect is always retried."""

    def pauses(self) -> Iterator[float]:
        """Seconds before each retry, with jitter, so that calls that failed together do not retry
        together."""
        for number in range(self.most):
            yield min(PAUSE_MOST_S, PAUSE_S * 2**number) * random.uniform(0.5, 1.0)

    def wants(self, status: int) -> bool:
        return (status == 429 and "429" in self.on) or (status >= 500 and "5xx" in self.on)


_NEVER = Retry()


class Answer:
    """An upstream's answer while it arrives."""

    def __init__(self, response: aiohttp.ClientResponse, idle_s: float) -> None:
        self.size = 0
        """Bytes of the body received so far."""
        self._response = response
        self._idle_s = idle_s
        self._waits_since: float | None = None
        headers = end_to_end(response.headers)
        self.head = Head(response.status, response.reason or "", headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes, still in their content coding. Raises `UpstreamSlow` and `Unreachable`."""
        loop, content = asyncio.get_running_loop(), self._response.content
        self._watch(loop)
        try:
            with _translated("the upstream broke off its answer"):
                while True:
                    self._waits_since = loop.time()
                    chunk = await content.readany()
                    self._waits_since = None
                    if not chunk:
                        return
                    self.size += len(chunk)
                    yield chunk
        finally:
            self._timer.cancel()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends a wait for bytes that takes too long. One timer serves all waits: creating one for each event
        of a stream takes as much time as relaying the event."""
        now = loop.time()
        began = now if self._waits_since is None else self._waits_since
        if now - began < self._idle_s:
            self._timer = loop.call_at(began + self._idle_s, self._watch, loop)
        else:
            self._response.content.set_exception(TimeoutError())

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """An answer that has been read completely."""

    head: Head
    body: bytes

    @property
    def size(self) -> int:
        return len(self.body)

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body


class Upstream:
    def __init__(self, url: str, deadlines: Deadlines, retry: Retry = _NEVER) -> None:
        self._base = URL(url)
        self._deadlines = deadlines
        self._retry = retry
        self._session = aiohttp.ClientSession(
            connector=_Pool(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=deadlines.connect),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Not trust_env: it reads ~/.netrc for every call, and puts the passwords from there into it.
            proxy=_proxy_of(URL(url)),
            read_bufsize=2**18,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=HEADERS,
        )

    @asynccontextmanager
    async def send(
        self, method: str, target: str, headers: CIMultiDict[str], body: Body, retry: bool = False
    ) -> AsyncIterator[Answer]:
        """`target`: path and query, as received from the caller. `retry`: the call may be repeated. Raises
        `Unreachable` or `UpstreamSlow`."""
        response = await self._open(method, self._at(target), headers, body, retry)
        try:
            yield Answer(response, self._deadlines.idle)
        finally:
            # The connection goes back to the pool if the answer was read to its end.
            response.release() if response.content.at_eof() else response.close()

    async def _open(
        self, method: str, url: URL, headers: CIMultiDict[str], body: Body, retry: bool
    ) -> aiohttp.ClientResponse:
        """The response, once its head has arrived. All tries and the pauses between them share the deadline
        for the first byte."""
        until = monotonic() + self._deadlines.first_byte
        pauses = self._retry.pauses() if isinstance(body, bytes | None) else iter(())
        while True:
            outcome: aiohttp.ClientResponse | Unreachable | UpstreamSlow
            try:
                outcome = await self._reach(method, url, headers, body, until)
            except (Unreachable, UpstreamSlow) as error:
                outcome = error
            pause = self._pause(outcome, retry, pauses)
            if monotonic() + pause >= until:
                if isinstance(outcome, CallError):
                    raise outcome
                return outcome
            if not isinstance(outcome, CallError):
                outcome.close()
            await asyncio.sleep(pause)

    def _pause(
        self, outcome: aiohttp.ClientResponse | CallError, retry: bool, pauses: Iterator[float]
    ) -> float:
        """Seconds until the next try; infinity: there is none. A call that could not connect may always be
        repeated, as no work on it has begun."""
        if isinstance(outcome, CallError):
            never_there = isinstance(outcome.__cause__, _NO_CONNECTION)
            broken = isinstance(outcome, Unreachable)
            again = never_there or (broken and retry and "broken" in self._retry.on)
            return next(pauses, inf) if again else inf
        if not retry or not self._retry.wants(outcome.status):
            return inf
        asked = _asked_pause(outcome)
        return max(asked, next(pauses, inf)) if asked <= PAUSE_MOST_S else inf

    async def _reach(
        self, method: str, url: URL, headers: CIMultiDict[str], body: Body, until: float
    ) -> aiohttp.ClientResponse:
        for attempt in range(ATTEMPTS):
            sent = monotonic()
            _REUSED.set(False)
            _ANEW.set(not isinstance(body, bytes | None))
            try:
                with _translated("the upstream cannot be reached"):
                    async with asyncio.timeout(until - sent):
                        response = await self._session.request(
                            method, url, headers=headers, data=_payload(body), allow_redirects=False,
                            skip_auto_headers=_SKIP,
                        )  # fmt: skip
                return _readable(response)
            except Unreachable as error:
                # The upstream may have closed an idle connection: then no work on the call has begun.
                at_once = _REUSED.get() and _was_dropped(error) and monotonic() - sent < AT_ONCE_S
                if not at_once or not isinstance(body, bytes | None) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    async def connect(
        self,
        target: str,
        headers: CIMultiDict[str],
        protocols: list[str],
        heartbeat_s: float,
        message_bytes: int,
    ) -> aiohttp.ClientWebSocketResponse:
        """Opens a WebSocket. Raises `Unreachable`, `UpstreamSlow`, and `aiohttp.WSServerHandshakeError` if it
        is refused."""
        with _translated("the upstream cannot be reached"):
            async with asyncio.timeout(self._deadlines.first_byte):
                return await self._session.ws_connect(
                    self._at(target), headers=headers, protocols=protocols,
                    heartbeat=heartbeat_s, max_msg_size=message_bytes,
                )  # fmt: skip

    def _at(self, target: str) -> URL:
        """The URL for a path and query. The query is passed as a part of the path, as yarl would drop an
        empty one, and anything after a `#`."""
        base, path = self._base, self._base.raw_path.rstrip("/") + target
        return URL.build(scheme=base.scheme, authority=base.raw_authority, path=path, encoded=True)

    async def close(self) -> None:
        await self._session.close()


class _Pool(aiohttp.TCPConnector):
    """Never hands out a connection with unexpected data on it: aiohttp would take the data for the answer to
    the next request, and we would store it. Also notes in `_REUSED` whether the connection was used before,
    as aiohttp's tracing would add a tenth to the cost of a call."""

    def __init__(self) -> None:
        super().__init__(limit=0)
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]  # is one of them
        self._used: WeakSet[Any] = WeakSet()

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        for _ in range(ATTEMPTS):
            connection = await super().connect(req, traces, timeout)
            _REUSED.set(connection.protocol in self._used)
            if connection.protocol is not None and not connection.protocol.should_close:
                self._used.add(connection.protocol)
                return connection
            connection.close()
        raise aiohttp.ServerDisconnectedError

    async def _get(self, key: Any, traces: Any) -> Any:
        """An idle connection, or None to open a new one."""
        return None if _ANEW.get() else await super()._get(key, traces)


class _Protocol(ResponseHandler):
    """Reports invalid HTTP to the reader of an answer too. aiohttp only reports it to those who wait for a
    head, and the reader would wait for `idle_timeout`."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        payload = self._payload
        if isinstance(exc, HttpProcessingError) and payload is not None and not payload.is_eof():
            payload.set_exception(aiohttp.ClientPayloadError("not HTTP any more"))


def _readable(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    """Raises `Unreachable` for answers that were not asked for and that no caller could read: a switch of
    protocols, an invalid status, a transfer coding that would be lost on the way."""
    codings = ", ".join(response.headers.getall("Transfer-Encoding", ["chunked"])).strip().lower()
    if response.status >= 200 and codings == "chunked":
        return response
    response.close()
    what = f"status {response.status}" if response.status < 200 else f"the transfer coding {codings}"
    raise Unreachable(f"the upstream answered with {what}, which was not asked for")


def _asked_pause(response: aiohttp.ClientResponse) -> float:
    """The pause in seconds that an answer asks for; infinity for a date, which is not supported."""
    try:
        return float(response.headers.get("Retry-After", "0"))
    except ValueError:
        return inf


def _proxy_of(origin: URL) -> str | None:
    """The proxy that the environment sets for an origin (HTTPS_PROXY, NO_PROXY ...)."""
    if origin.host is None or proxy_bypass(origin.host):
        return None
    return getproxies().get(origin.scheme)


def _payload(body: Body) -> Body | BytesIO:
    """The body, wrapped if it is large: aiohttp writes plain bytes in one piece, which would block the
    loop."""
    return BytesIO(body) if isinstance(body, bytes) and len(body) > 2**20 else body


def _was_dropped(error: Unreachable) -> bool:
    cause = error.__cause__
    dropped = isinstance(cause, aiohttp.ServerDisconnectedError | OSError)
    return dropped and not isinstance(cause, _NO_CONNECTION)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except aiohttp.WSServerHandshakeError:
        raise
    except aiohttp.ClientResponseError as error:
        limits = f"more than {HEADERS} headers, or one of more than {HEADER_BYTES} bytes"
        raise Unreachable(f"the upstream's answer cannot be read: it is not HTTP, or has {limits}") from error
    except TimeoutError as error:
        raise UpstreamSlow(f"{what}: it did not answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error.__cause__, CallError):
            raise error.__cause__ from error  # the caller's body broke off, which is not the upstream's fault
        # The error's text may contain the URL and with it a password; its type is enough.
        raise Unreachable(f"{what}: {type(error).__name__}") from error


def end_to_end(
    headers: CIMultiDictProxy[str], drop: Callable[[str], bool] = lambda name: False
) -> CIMultiDict[str]:
    """The headers without the hop-by-hop ones, including those that `Connection` names, and without those
    that `drop` selects by their name in lower case."""
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    kept: CIMultiDict[str] = CIMultiDict()
    spelled: dict[str, str] = {}  # of a header spelled in two ways, aiohttp's client would send only one
    for name, value in headers.items():
        lower = name.lower()
        if lower not in HOP_BY_HOP and lower not in named and not drop(lower):
            kept.add(spelled.setdefault(lower, name), value)
    return kept


def forwarded(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """A caller's headers for the upstream: without ours, and without those that are set again."""
    return end_to_end(headers, lambda name: name in _RECALCULATED or removed(name))
