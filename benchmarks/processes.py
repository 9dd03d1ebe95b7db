"""What is measured, each part in a process of its own: `python -m benchmarks.processes PART [ARGUMENTS]`.

    constant BYTES [LOOP]
                        an aiohttp server that always gives the same answer of so many bytes, on the loop of
                        asyncio or, as nearhit is, on `uvloop`
    upstream            an API that answers at once: a constant chat completion, or a stream of 200 events
    bare URL            the least reverse proxy that aiohttp's server and client make
    nearhit URL FOLDER [READER ...]
                        the proxy with its default settings, but for the upstream and its files in FOLDER;
                        the readers of what happened that are named hear nothing
    encoder             the encoder through its `Batcher`: takes jobs as JSON lines

Each prints its port (the encoder: 0) when it is ready, for every line that it is given its CPU time so far in
seconds (the encoder: what came of the job), and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict

import proxy.app
from embeddings.batcher import Batcher
from embeddings.opening import open_encoder
from proxy.economy import Economy
from proxy.serving import serving
from proxy.settings import Settings
from proxy.telemetry.history import History
from proxy.telemetry.ledger import Ledger
from proxy.telemetry.logs import logging_to
from proxy.telemetry.metrics import Metrics

EVENTS = 200
WORDS = "Wipe it with a soft dry cloth first, then let it rest for a day before you go on. " * 12
HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length")


class Part:
    """A process that was started, seen from here."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self.port = int(self._line())

    def ask(self, job: Any) -> Any:
        """Of the encoder: gives it a job and waits for what came of it. Of the others: their CPU time."""
        assert self._process.stdin is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        return json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise ChildProcessError(f"{self._process.args} has ended:\n{self._log.read_text()[-2000:]}")
        return line


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Part]:
    """What it says on standard error (the proxy: its log) goes into a file in `folder`."""
    path = folder / f"{'-'.join(arguments[:1] + arguments[3:])}.log"
    with path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.processes", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        try:
            with process:
                yield Part(process, path)
                process.stdin.close()  # type: ignore[union-attr]
                process.wait(20)
        finally:
            process.kill()


# The parts


def completion() -> bytes:
    message = {"role": "assistant", "content": WORDS}
    answer = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 250, "total_tokens": 290},
    }
    return json.dumps(answer).encode()


def events() -> list[bytes]:
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in (WORDS.split(" ") * EVENTS)[: EVENTS - 3]]
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"})
    head = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
    }
    texts = [json.dumps({**head, "choices": [choice]}) for choice in choices]
    return [f"data: {text}\n\n".encode() for text in (*texts, "[DONE]")]


class Upstream(asyncio.Protocol):
    """As little as can be, so that the cores are left to what is measured."""

    _BODY = completion()
    _WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(_BODY),
        _BODY,
    )
    _CHUNKS = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(b"%x\r\n%s\r\n" % (len(event), event) for event in events()),
        b"0\r\n\r\n",
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not found or len(body) < int(length[1] if length else 0):
            return
        self._seen = b""
        if re.search(rb'"stream": ?true', body):
            self._next(iter(self._CHUNKS))
        else:
            self._transport.write(self._WHOLE)

    def _next(self, chunks: Iterator[bytes]) -> None:
        """One write a turn of the loop, as tokens come."""
        if (chunk := next(chunks, None)) is not None and not self._transport.is_closing():
            self._transport.write(chunk)
            asyncio.get_running_loop().call_soon(self._next, chunks)


@asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def constant(size: str, _loop: str = "asyncio") -> AsyncIterator[int]:
    body = b"x" * int(size)

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    async with _served(answer) as port:
        yield port


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[int]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            headers = _end_to_end(request.headers)
            async with session.request(
                request.method, url + request.path_qs, headers=headers, data=body
            ) as up:
                response = web.StreamResponse(status=up.status, headers=_end_to_end(up.headers))
                await response.prepare(request)
                async for chunk in up.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response

        async with _served(answer) as port:
            yield port


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in (*HOP_BY_HOP, "Host"):
        kept.popall(name, None)
    return kept


@asynccontextmanager
async def _served(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


READERS: dict[str, tuple[Any, str]] = {
    "counts": (Ledger, "_count"),
    "metrics": (Metrics, "observe"),
    "history": (History, "observe"),
    "economy": (Economy, "observe"),
    "log": (proxy.app, "log_call"),
}
"""Who is told of a call, and where that is to be put out."""


@asynccontextmanager
async def nearhit(url: str, folder: str, *deaf: str) -> AsyncIterator[int]:
    for name in deaf:
        setattr(*READERS[name], lambda *_: None)
    settings = Settings.model_validate(
        {
            "upstream": {"url": url},
            "listen": {"port": 0},
            "admin": {"port": 0},
            "documents": {"url": f"sqlite+aiosqlite:///{folder}/nearhit.db"},
        }
    )
    with logging_to(sys.stderr.fileno(), settings.log):
        async with serving(settings) as banner:
            found = re.search(r"data plane +http://127\.0\.0\.1:(\d+)", banner)
            assert found, banner
            yield int(found[1])


async def encoder() -> None:
    """Jobs are {"texts", "callers", "seconds"}; the answer is {"seconds", "latencies"} of those that were
    done."""
    batcher = Batcher(open_encoder())
    print(0, flush=True)
    # Nothing else goes on between two jobs, so the loop may wait here.
    for line in sys.stdin:
        print(json.dumps(await _encode(batcher, **json.loads(line))), flush=True)
    await batcher.close()


async def _encode(batcher: Batcher, texts: list[str], callers: int, seconds: float) -> dict[str, Any]:
    latencies: list[float] = []
    waiting = iter(texts)
    began = perf_counter()

    async def ask() -> None:
        while (sent := perf_counter()) < began + seconds and (text := next(waiting, None)) is not None:
            await batcher.embed(text)
            latencies.append(perf_counter() - sent)

    await asyncio.gather(*(ask() for _ in range(callers)))
    return {"seconds": perf_counter() - began, "latencies": latencies}


async def _serve(part: Any, *arguments: str) -> None:
    async with part(*arguments) as port:
        print(port, flush=True)
        await asyncio.to_thread(_tell_cpu_time)


def _tell_cpu_time() -> None:
    for _ in sys.stdin:
        print(process_time(), flush=True)


def main() -> None:
    name, *arguments = sys.argv[1:]
    parts = {"constant": constant, "upstream": upstream, "bare": bare, "nearhit": nearhit}
    run = uvloop.run if name == "nearhit" or "uvloop" in arguments else asyncio.run
    run(encoder() if name == "encoder" else _serve(parts[name], *arguments))


if __name__ == "__main__":
    main()
