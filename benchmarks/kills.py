"""Kills the proxy again and again while it is used, and looks at what is left.

    python -m benchmarks.kills [--kills 50] [--seed N] [--folder DIR] [--json]

The real `python -m proxy serve` runs on one data folder. Callers ask questions of eight tags, somebody purges
tags, and after a random time the process gets SIGKILL: under load, while it loads its index, or before it
listens. Then a copy of the files is read, and the proxy is started again. Counted are

    failed starts       it did not get ready within a minute
    torn                answers, served or stored, that are not what the upstream said to that question
    resurrected         answers, served or stored, given before a purge that was acknowledged
    strays              entries in memory without a document, or the other way round, once all is written

The upstream numbers its answers, so an answer tells whether it is older than a purge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import aiohttp
from aiohttp import web

from storage.opening import open_documents

QUESTIONS, TAGS, CALLERS = 240, 8, 12
ROOM = 160
"""Entries: fewer than questions, so that some are pushed out."""
LONGEST_LIFE_S = 1.6
EARLY = 0.15
"""Share of the kills that do not wait until the proxy is ready."""
START_S = 60.0
TOPICS = ["compilers", "glaciers", "violins", "bridges", "orchards", "tides", "lenses", "pottery"]


@dataclass
class Tally:
    kills: int = 0
    calls: int = 0
    hits: int = 0
    purges: int = 0
    """Acknowledged."""
    while_loading: int = 0
    """Of these, sent before the index had loaded."""
    stored: int = 0
    """Documents that were read after the kills."""
    failed_starts: int = 0
    torn: int = 0
    resurrected: int = 0
    strays: int = 0
    slowest_start_s: float = 0.0

    @property
    def faults(self) -> int:
        return self.failed_starts + self.torn + self.resurrected + self.strays


@dataclass
class Upstream:
    """Says to each question something that can be recognised, and that grows with its number."""

    numbers: Any = field(default_factory=count)
    given: int = -1

    async def answer(self, request: web.BaseRequest) -> web.Response:
        question = (await request.json())["messages"][-1]["content"]
        self.given = number = next(self.numbers)
        await asyncio.sleep(0.005)
        message = {"role": "assistant", "content": said(question, number)}
        return web.json_response(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )


def question(number: int) -> str:
    return f"Tell me fact {number} about {TOPICS[number % TAGS]}"


def tag_of(asked: str) -> str:
    return asked.rsplit(" ", 1)[1]


def said(asked: str, number: int) -> str:
    head = f"{number}|{asked}|"
    digest = sha256(head.encode()).hexdigest()
    return head + digest * (1 + number % 300)


def number_of(body: bytes, asked: str) -> int | None:
    """Of the answer; None when it is not one to that question, or not all of it."""
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
        number = int(content.split("|", 1)[0])
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return number if content == said(asked, number) else None


class Proxy:
    """The process, its ports and its files."""

    def __init__(self, folder: Path, upstream: str, entries: int = ROOM) -> None:
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "NEARHIT_UPSTREAM__URL": upstream,
            "NEARHIT_LISTEN__PORT": str(self.port),
            "NEARHIT_ADMIN__PORT": str(self.admin_port),
            "NEARHIT_DOCUMENTS__URL": f"sqlite+aiosqlite:///{folder / 'data' / 'nearhit.db'}",
            "NEARHIT_CAPACITY__ENTRIES": str(entries),
            "NEARHIT_LOG__LEVEL": "warning",
        }

    async def start(self) -> asyncio.subprocess.Process:
        with (self.folder / "proxy.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve",
                env=self._environment, cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip

    async def ready(self, session: aiohttp.ClientSession) -> Any:
        """What `/readyz` says once it answers; None when it does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while True:
                    with suppress(aiohttp.ClientError):
                        return await self.state(session)
                    await asyncio.sleep(0.02)
        return None

    async def state(self, session: aiohttp.ClientSession) -> Any:
        async with session.get(f"{self.admin}/readyz") as answer:
            return await answer.json()


class Trial:
    def __init__(self, proxy: Proxy, upstream: Upstream, session: aiohttp.ClientSession, seed: int) -> None:
        self.tally = Tally()
        self._proxy = proxy
        self._upstream = upstream
        self._session = session
        self._random = Random(seed)
        self._purged: Counter[str] = Counter(dict.fromkeys(TOPICS, -1))
        """By tag: the last number that had been given when a purge was sent that was acknowledged later."""

    async def run(self, kills: int) -> Tally:
        for _ in range(kills):
            await self._life(killed=True)
            await self._autopsy()
        await self._life(killed=False)
        return self.tally

    async def _life(self, killed: bool) -> None:
        process, started = await self._proxy.start(), monotonic()
        end = cache(process.kill if killed else process.terminate)  # once
        try:
            if killed and self._random.random() < EARLY:
                await asyncio.sleep(self._random.uniform(0.0, LONGEST_LIFE_S))
            elif await self._proxy.ready(self._session) is None:
                self.tally.failed_starts += 1
            else:
                self.tally.slowest_start_s = max(self.tally.slowest_start_s, monotonic() - started)
                await self._use(end if killed else lambda: None)
                if not killed:
                    await self._compare()
        finally:
            end()
            await process.wait()
        self.tally.kills += killed

    async def _use(self, end: Callable[[], None]) -> None:
        """Calls and purges, in the middle of which `end` comes."""
        loop = asyncio.get_running_loop()
        work = [loop.create_task(self._ask_for_ever(), name="caller") for _ in range(CALLERS)]
        work.append(loop.create_task(self._purge_for_ever(), name="purger"))
        await asyncio.sleep(self._random.uniform(0.05, LONGEST_LIFE_S))
        end()
        await asyncio.sleep(0.02)
        for task in work:
            task.cancel()
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, aiohttp.ClientError | OSError):
                raise outcome

    async def _ask_for_ever(self) -> None:
        while True:
            asked = question(self._random.randrange(QUESTIONS))
            floor = self._purged[tag_of(asked)]
            headers = {
                "Authorization": "Bearer caller",
                "X-Nearhit-Category": "tech_docs",
                "X-Nearhit-Tags": tag_of(asked),
            }
            body = {"model": "m", "messages": [{"role": "user", "content": asked}]}
            async with self._session.post(self._proxy.url, json=body, headers=headers) as answer:
                self._judge(asked, floor, answer.headers.get("X-Cache", ""), await answer.read())

    def _judge(self, asked: str, floor: int, outcome: str, body: bytes) -> None:
        self.tally.calls += 1
        self.tally.hits += outcome == "HIT"
        number = number_of(body, asked)
        self.tally.torn += number is None
        self.tally.resurrected += number is not None and number <= floor

    async def _purge_for_ever(self) -> None:
        while True:
            topic, given = self._random.choice(TOPICS), self._upstream.given
            loading = not (await self._proxy.state(self._session))["index"]["done"]
            order = {"tag": topic}
            async with self._session.post(f"{self._proxy.admin}/api/v1/purge", json=order) as answer:
                if answer.status == 200:
                    self.tally.purges += 1
                    self.tally.while_loading += loading
                    self._purged[topic] = max(self._purged[topic], given)
            await asyncio.sleep(self._random.uniform(0.0, 0.3))

    async def _autopsy(self) -> None:
        """Of a copy, so that the proxy itself has to put the files in order."""
        if not (self._proxy.folder / "data" / "nearhit.db").exists():
            return
        with tempfile.TemporaryDirectory() as folder:
            for file in (self._proxy.folder / "data").glob("nearhit.db*"):
                shutil.copy(file, folder)
            for asked, body in (await stored(Path(folder))).values():
                number = number_of(body, asked) if body is not None else None
                self.tally.stored += 1
                self.tally.torn += number is None
                self.tally.resurrected += number is not None and number <= self._purged[tag_of(asked)]

    async def _compare(self) -> None:
        """Entries in memory with documents, once nothing waits to be written."""
        while not _at_rest(await self._proxy.state(self._session)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        async with self._session.get(f"{self._proxy.admin}/api/v1/entries?limit=500") as answer:
            known = {entry["id"] for entry in (await answer.json())["entries"]}
        self.tally.strays += len(known ^ (await stored(self._proxy.folder / "data")).keys())


def _at_rest(state: Any) -> bool:
    waiting = state["documents"]["pending"] + state["documents"]["deletes_pending"]
    return bool(state["index"]["done"]) and not waiting


async def stored(folder: Path) -> dict[str, tuple[str, bytes | None]]:
    """Question and answer by id."""
    documents = await open_documents(f"sqlite+aiosqlite:///{folder / 'nearhit.db'}")
    try:
        entries = [entry async for batch in documents.scan() for entry, _ in batch]
        return {entry.id: (entry.text, await documents.load(entry.id)) for entry in entries}
    finally:
        await documents.close()


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


async def trial(folder: Path, kills: int, seed: int) -> Tally:
    upstream = Upstream()
    runner = web.ServerRunner(web.Server(upstream.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    proxy = Proxy(folder, f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=START_S)) as session:
            return await Trial(proxy, upstream, session, seed).run(kills)
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill the proxy at random and look at what is left.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept afterwards; else a temporary one")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        tally = asyncio.run(trial(folder, given.kills, given.seed))
    if given.json:
        print(json.dumps(asdict(tally)))
    else:
        for name, value in asdict(tally).items():
            print(f"{name.replace('_', ' '):16} {value:10.4g}")
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
