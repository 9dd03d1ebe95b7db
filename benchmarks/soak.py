"""Memory of the proxy and of an open dashboard under steady traffic, minute by minute.

    python -m benchmarks.soak [--minutes 10] [--per-minute 10000] [--view decisions] [--json]

The real `python -m proxy serve` with little room, so that what is bounded is full before it counts: 2,000
entries, 8 MiB of answers in memory. First so many different questions are asked, and asked again in other
words, that all of it is full. Then, each minute, out of a thousand calls

    850   repeat one of the last questions to the letter        (one in five as a stream)
    100   ask one of them in other words
     50   are new

while a browser shows the dashboard. After each minute the resident memory of the proxy is read, and the
browser's JavaScript heap after a forced collection. `python -m benchmarks.soak` ends with 1 when one of them
grew, by a line through the minutes, more than `GROWTH` of what it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import urlopen

import yaml
from playwright.async_api import CDPSession, Page, async_playwright

from benchmarks.kills import free_port
from benchmarks.load import drive
from benchmarks.processes import started
from benchmarks.traffic import ASKED, ASKED_AGAIN, chat, topics

ROOT = Path(__file__).parents[1]
ENTRIES, HOT_BYTES = 2_000, 8 * 2**20
WARM = 2_200
"""Questions before the first minute: more than any memory of texts has room for."""
LATELY = 1_000
CALLERS = 16
NEW, REWORDED, STREAMED = 0.05, 0.1, 0.2
COLLECTIONS = 4
START_S = 60.0
GROWTH = 0.02
"""Of the first measurement, over all minutes: more of it is no noise."""
BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--js-flags=--expose-gc"]


@dataclass(frozen=True)
class Minute:
    calls: int
    hits: int
    rss_mb: float
    heap_mb: float
    nodes: int
    """DOM nodes that the page holds."""


@dataclass(frozen=True)
class Proxy:
    port: int
    admin_port: int
    pid: int

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024


@contextmanager
def proxy(folder: Path, upstream_port: int) -> Iterator[Proxy]:
    port, admin = free_port(), free_port()
    settings = {
        "upstream": {"url": f"http://127.0.0.1:{upstream_port}"},
        "listen": {"port": port},
        "admin": {"port": admin},
        "documents": {"url": f"sqlite+aiosqlite:///{folder}/nearhit.db", "hot_bytes": HOT_BYTES},
        "capacity": {"entries": ENTRIES},
        "log": {"level": "warning"},
    }
    (folder / "nearhit.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(folder / "nearhit.yaml")]
    with (
        (folder / "proxy.log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{admin}/readyz", folder / "proxy.log")
            yield Proxy(port, admin, process.pid)
        finally:
            process.terminate()


def _wait_for(url: str, log: Path) -> None:
    until = monotonic() + START_S
    while monotonic() < until:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            sleep(0.2)
    raise TimeoutError(f"the proxy did not start:\n{log.read_text()[-2000:]}")


class Traffic:
    """Requests without end, of which the same share is new at any time."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._topics = topics(seed)
        self._lately = list(islice(self._topics, LATELY))

    def warming(self) -> Iterator[bytes]:
        for topic in islice(self._topics, WARM):
            yield self._ask(f"{ASKED} {topic}?")
            yield self._ask(self._reworded(topic))
            self._lately[self._dice.randrange(LATELY)] = topic

    def steady(self, per_second: float) -> Iterator[bytes]:
        """As fast as that and no faster."""
        began = monotonic()
        for number, request in enumerate(self._mixed()):
            sleep(max(0.0, began + number / per_second - monotonic()))
            yield request

    def _mixed(self) -> Iterator[bytes]:
        while True:
            place, chance = self._dice.randrange(LATELY), self._dice.random()
            if chance < NEW:
                self._lately[place] = next(self._topics)
            topic = self._lately[place]
            again = NEW <= chance < NEW + REWORDED
            yield self._ask(self._reworded(topic) if again else f"{ASKED} {topic}?")

    def _reworded(self, topic: str) -> str:
        return f"{self._dice.choice(ASKED_AGAIN)} {topic}?"

    def _ask(self, question: str) -> bytes:
        return chat(question, "caller", stream=self._dice.random() < STREAMED)


@asynccontextmanager
async def dashboard(admin_port: int, view: str) -> AsyncIterator[tuple[Page, CDPSession]]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
        page = await browser.new_page()
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable")
        await page.goto(f"http://127.0.0.1:{admin_port}/#/{view}")
        yield page, session
        await browser.close()


async def browser_holds(session: CDPSession) -> tuple[float, int]:
    """MB of JavaScript heap in use, and DOM nodes: the least after some collections, as one does not always
    find all of what the page has let go."""
    found = []
    for _ in range(COLLECTIONS):
        await session.send("HeapProfiler.collectGarbage")
        told = await session.send("Performance.getMetrics")
        metrics = {each["name"]: each["value"] for each in told["metrics"]}
        found.append((metrics["JSHeapUsedSize"] / 2**20, int(metrics["Nodes"])))
        await asyncio.sleep(1.0)
    return min(found)


async def soak(minutes: int, per_minute: int, view: str, seconds: float = 60.0) -> list[Minute]:
    found = []
    with tempfile.TemporaryDirectory() as name, started(Path(name), "upstream") as upstream:
        folder, traffic = Path(name), Traffic(7)
        with proxy(folder, upstream.port) as there:
            await asyncio.to_thread(drive, there.port, traffic.warming(), CALLERS, 3600.0)
            async with dashboard(there.admin_port, view) as (page, session):
                for _ in range(minutes):
                    requests = traffic.steady(per_minute / 60)
                    load = await asyncio.to_thread(drive, there.port, requests, CALLERS, seconds)
                    outcomes = Counter(load.outcomes)
                    hits = sum(n for outcome, n in outcomes.items() if "HIT" in outcome)
                    heap, nodes = await browser_holds(session)
                    found.append(Minute(outcomes.total(), hits, there.rss_mb(), heap, nodes))
                    print(line(len(found), found[-1]), file=sys.stderr, flush=True)
                assert await page.inner_text("#state") == "live"
    return found


def grown(values: list[float]) -> float:
    """Of the first, along a straight line through all."""
    slope = statistics.linear_regression(range(len(values)), values).slope
    return slope * (len(values) - 1) / values[0]


def line(number: int, minute: Minute) -> str:
    return (
        f"{number:6}  {minute.calls:7,}  {minute.hits / max(1, minute.calls):6.1%}  {minute.rss_mb:9.1f}"
        f"  {minute.heap_mb:12.2f}  {minute.nodes:9,}"
    )


HEAD = "minute    calls    hits  proxy, MB  JS heap, MB  DOM nodes"


def report(minutes: list[Minute]) -> Any:
    rss, heap = grown([each.rss_mb for each in minutes]), grown([each.heap_mb for each in minutes])
    return {
        "minutes": [asdict(each) for each in minutes],
        "rss_grown": rss,
        "heap_grown": heap,
        "flat": rss <= GROWTH and heap <= GROWTH,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--per-minute", type=int, default=10_000)
    parser.add_argument("--view", default="decisions", help="of the dashboard")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    print(HEAD, file=sys.stderr)
    found = report(asyncio.run(soak(given.minutes, given.per_minute, given.view)))
    if given.json:
        print(json.dumps(found))
    else:
        verdict = "flat" if found["flat"] else "GROWS"
        print(
            f"{verdict}: proxy {found['rss_grown']:+.1%}, JS heap {found['heap_grown']:+.1%} over all minutes"
        )
    return 0 if found["flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
