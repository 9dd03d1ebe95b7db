"""Server-sent events with the decisions as they are made, for the dashboard and `nearhit watch`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import islice

from aiohttp import web

from proxy.admin import shown
from proxy.admin.errors import Unavailable
from proxy.app import App

EVERY_S = 1.0
MOST_CALLS = 100
"""Most calls in one event; if there are more, the newest."""
MOST_LISTENERS = 32
PATIENCE_S = 10.0
"""Time for a listener to accept an event. A browser tab that was asleep reconnects."""


class Live:
    def __init__(self, app: App) -> None:
        self._app = app
        self._dumps = shown.as_json(app.settings.admin.show_text)
        self._listeners = 0

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """One event a second: the calls since the last one, oldest first, and the counts since the start."""
        if self._listeners >= MOST_LISTENERS:
            raise Unavailable(f"{MOST_LISTENERS} listeners are connected already; close some")
        self._listeners += 1
        try:
            return await self._tell(request)
        finally:
            self._listeners -= 1

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        with suppress(ConnectionError, TimeoutError):
            await self._go_on(response)
        if request.transport is not None:
            request.transport.abort()  # a listener that does not read would also hold up a clean close
        return response

    async def _go_on(self, response: web.StreamResponse) -> None:
        """Runs until the listener leaves or stops reading."""
        seen = self._app.ledger.published
        while True:
            told, seen = self._since(seen)
            async with asyncio.timeout(PATIENCE_S):
                await response.write(f"data: {self._dumps(told)}\n\n".encode())
            await asyncio.sleep(EVERY_S)

    def _since(self, seen: int) -> tuple[shown.Json, int]:
        ledger = self._app.ledger
        new = min(ledger.published - seen, MOST_CALLS)
        calls = [shown.report(each) for each in islice(reversed(ledger.recent), new)]
        told = {
            "at": self._app.clock(),
            "skipped": ledger.published - seen - new,
            "overall": shown.total(list(ledger.tallies.values())),
            "calls": calls[::-1],
        }
        return told, ledger.published
