"""A lean load generator: keep-alive connections on one epoll, requests encoded beforehand, answers read only
as far as their length. It costs 10 to 20 µs a call, so that what is measured is the server."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")
_CACHE = re.compile(rb"\r\nx-cache: (\w+)", re.IGNORECASE)
_TIER = re.compile(rb"\r\nx-cache-tier: (\w+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
"""Told apart from a chunk that ends so by there being none: events end in a line feed."""
_SILENCE_S = 30.0


@dataclass
class Load:
    """What came of one run."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds."""
    heads: list[bytes] = field(default_factory=list)

    @property
    def outcomes(self) -> list[str]:
        """Of each call: `200`, `200 MISS`, `200 HIT exact` ..."""
        return [" ".join(_told(head)) for head in self.heads]


def _told(head: bytes) -> Iterator[str]:
    for pattern in (_STATUS, _CACHE, _TIER):
        if found := pattern.search(head):
            yield found[1].decode()


def drive(port: int, requests: Iterator[bytes], callers: int, seconds: float) -> Load:
    """`callers` connections that each send the next request as soon as they have their answer.

    Ends after `seconds`, or when the requests are used up, with the answers that are still due. Raises
    `OSError` when the server hangs up or falls silent.
    """
    load = Load()
    connections = {c.socket.fileno(): c for c in (_Connection(port) for _ in range(callers))}
    poll = select.epoll()
    try:
        started = perf_counter()
        busy = 0
        for number, connection in connections.items():
            poll.register(number, select.EPOLLIN)
            busy += connection.send(next(requests, None))
        while busy:
            ready = poll.poll(_SILENCE_S)
            if not ready:
                raise TimeoutError(f"no answer within {_SILENCE_S:g} s")
            for number, _ in ready:
                connection = connections[number]
                if connection.receive():
                    now = perf_counter()
                    load.latencies.append(now - connection.sent)
                    load.heads.append(connection.head)
                    busy += connection.send(next(requests, None) if now < started + seconds else None) - 1
        load.seconds = perf_counter() - started
    finally:
        poll.close()
        for connection in connections.values():
            connection.socket.close()
    return load


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0.0
        self.head = b""
        self._due: int | None = None
        """Bytes of the body that are still to come; None: it comes in chunks."""
        self._seen = b""

    def send(self, request: bytes | None) -> bool:
        if request is None:
            return False
        self.head = self._seen = b""
        self.sent = perf_counter()
        self.socket.sendall(request)
        return True

    def receive(self) -> bool:
        """Whether the answer is there whole."""
        data = self.socket.recv(2**18)
        if not data:
            raise ConnectionError("the server hung up")
        if not self.head:
            self._seen += data
            head, found, data = self._seen.partition(b"\r\n\r\n")
            if not found:
                return False
            self.head = head
            length = _LENGTH.search(head)
            self._due = int(length[1]) if length else None
            self._seen = b"\r\n"
        if self._due is not None:
            self._due -= len(data)
            return self._due <= 0
        self._seen = (self._seen + data)[-len(_LAST_CHUNK) :]
        return self._seen == _LAST_CHUNK
