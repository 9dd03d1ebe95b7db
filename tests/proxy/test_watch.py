"""`nearhit watch` beside a proxy that is used: as a process, on a terminal and on a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from planes import plane_of
from rich.console import Console
from world import MakeWorld

from proxy.cli.watching import Watch, line

ROOT = Path(__file__).parents[2]
CALL: dict[str, Any] = {
    "at": 1_700_000_000.0, "outcome": "HIT", "tier": "semantic", "reason": "", "error": "",
    "category": "code", "similarity": 0.93, "total_ms": 5.25, "query": "how do I undo it",
}  # fmt: skip
COUNTS = {
    "requests": 0, "hits": 0, "exact": 0, "semantic": 0, "inflight": 0, "stale": 0, "hit_rate": 0.0,
    "stored": 0, "saved_ms": 0.0, "tokens_saved": 0, "errors": 0,
}  # fmt: skip


@asynccontextmanager
async def watching(url: str, *flags: str, **streams: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "120",
        "LINES": "30",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "watch", "--url", url, *flags, env=environ, cwd="/", **streams
    )
    try:
        yield process
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


async def until_line(process: asyncio.subprocess.Process, ask: Any, wanted: str) -> str:
    """Asks until a line of it comes out: whoever starts to watch has not seen what was before."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while True:
            await ask()
            try:
                async with asyncio.timeout(1):
                    while wanted not in (text := (await process.stdout.readline()).decode()):
                        assert text, "it ended"
                    return text
            except TimeoutError:
                continue


async def test_on_a_pipe_it_is_a_line_per_call(make_world: MakeWorld) -> None:
    world = await make_world()

    async def ask() -> None:
        await world.ask("how are you today \x1b[31m my friend")

    async with plane_of(world) as plane, watching(plane.url, stdout=asyncio.subprocess.PIPE) as process:
        text = await until_line(process, ask, "HIT exact")
    assert re.search(r"\d\d:\d\d:\d\d  HIT exact  default  .*  how are you today  \[31m my friend", text)


async def test_json_is_what_the_admin_plane_tells(make_world: MakeWorld) -> None:
    world = await make_world()

    async def ask() -> None:
        await world.ask("how are you today my friend")

    async with (
        plane_of(world) as plane,
        watching(plane.url, "--json", stdout=asyncio.subprocess.PIPE) as process,
    ):
        told = json.loads(await until_line(process, ask, '"HIT"'))
    assert told["calls"][0]["query"] == "how are you today my friend"
    assert told["overall"]["exact"] >= 1


async def test_on_a_terminal_it_is_a_table(make_world: MakeWorld) -> None:
    world, (ours, theirs) = await make_world(), pty.openpty()
    shown = b""
    try:
        async with plane_of(world) as plane, watching(plane.url, stdin=theirs, stdout=theirs) as _:
            async with asyncio.timeout(60):
                while b"HIT exact" not in shown:
                    await world.ask("how are you today my friend")
                    await asyncio.sleep(0.2)
                    shown += await asyncio.to_thread(os.read, ours, 65536)
        assert b"last minute" in shown
        assert b"how are you today my friend" in shown
    finally:
        os.close(ours)
        os.close(theirs)


def test_shares_are_those_of_the_last_minute() -> None:
    watch = Watch()
    watch.take({"at": 0.0, "overall": {**COUNTS, "requests": 1000}, "calls": []})
    watch.take({"at": 100.0, "overall": {**COUNTS, "requests": 2000}, "calls": []})
    watch.take({"at": 110.0, "overall": {**COUNTS, "requests": 2020, "hits": 5, "exact": 5}, "calls": [CALL]})
    assert watch.now()["rate"] == 2.0
    assert watch.now()["hits"] == watch.now()["exact"] == 0.25


@pytest.mark.parametrize("lines", [1, 5, 6, 24])
def test_it_fits_on_the_screen(lines: int) -> None:
    watch, console = Watch(), Console(width=80, height=lines, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    watch.take({"at": 0.0, "overall": COUNTS, "calls": [CALL] * 100})
    console.print(watch.view(lines))
    assert len(console.export_text().rstrip("\n").split("\n")) <= max(lines, 5)
    console.file.close()


def test_a_question_cannot_drive_the_terminal() -> None:
    assert "\x1b" not in line({**CALL, "query": "\x1b]0;gotcha\x07"})
    assert "semantic" in line(CALL)
