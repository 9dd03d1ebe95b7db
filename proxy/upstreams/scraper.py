"""Scrapes an upstream's own metrics in the background: how many calls wait and run there, and how full its
cache is. If that fails, pressure still follows from the other signals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from proxy.upstreams.load import UpstreamLoad

log = logging.getLogger("nearhit.load")

EVERY_S, EVERY_MOST_S = 2.0, 60.0
"""Seconds between scrapes; they double with each failure, up to the second value."""
DEADLINE_S = 2.0
LONGEST = 4 * 2**20
"""Most bytes of metrics that are read."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the metrics to read."""

    waiting: str
    running: str
    cache_usage: str


class Scraper:
    def __init__(self, url: str, names: Names, upstream: UpstreamLoad) -> None:
        self._url = url
        self._names = names
        self._upstream = upstream
        self._failing = False

    async def run(self) -> None:
        """Runs until cancelled."""
        pause = EVERY_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
            while True:
                pause = EVERY_S if await self._scrape(session) else min(EVERY_MOST_S, 2 * pause)
                await asyncio.sleep(pause)

    async def _scrape(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self._url) as response:
                response.raise_for_status()
                text = (await _read(response)).decode(errors="replace")
            values = await asyncio.to_thread(read_metrics, text, self._names)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._note(type(error).__name__)
            return False
        self._note("")
        self._upstream.own.pressure.scraped(*values, self._upstream.clock())
        return True

    def _note(self, problem: str) -> None:
        if problem and not self._failing:
            log.warning("cannot read the metrics of upstream %s: %s", self._upstream.name, problem)
        self._failing = bool(problem)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LONGEST:
            raise ValueError("too many metrics")
    return bytes(body)


def read_metrics(text: str, names: Names) -> tuple[float | None, float | None, float | None]:
    """Waiting and running calls, each summed over its labels, and the usage of the fullest cache, 0 to 1.
    None for a metric that is missing. Lines that cannot be parsed are skipped."""
    wanted = (names.waiting, names.running, names.cache_usage)
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    waiting, running, usage = (list(_values(lines, name)) for name in wanted)
    return sum(waiting) if waiting else None, sum(running) if running else None, max(usage, default=None)


def _values(lines: Iterable[str], name: str) -> Iterable[float]:
    for line in lines:
        try:
            families = list(text_string_to_metric_families(line + "\n"))
        except ValueError:
            continue
        yield from (
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and 0.0 <= sample.value < float("inf")
        )
