"""The admin plane over real sockets, beside a data plane that is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from world import Answer, World, listening

from proxy.admin import admin_app

API = "/api/v1"


@dataclass
class Plane:
    world: World
    url: str

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.world.session.request(method, self.url + path, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Any:
        answer = await self.call("GET", path, **options)
        assert answer.status == 200, answer.body
        return answer.json

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        answer = await self.call("POST", API + path, json=body, **options)
        assert answer.status == 200, answer.body
        return answer.json

    async def refused(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        answer = await self.call(method, path, **options)
        return answer.status, answer.json["error"]["message"]

    async def store(self, *texts: str, **options: Any) -> None:
        for text in texts:
            assert (await self.world.ask(text, **options)).cache == "MISS"
        await self.world.settled()


@asynccontextmanager
async def plane_of(world: World) -> AsyncIterator[Plane]:
    runner = web.AppRunner(admin_app(world.app), access_log=None, shutdown_timeout=0.1)
    async with listening(runner) as url:
        yield Plane(world, url)


async def loaded(plane: Plane) -> None:
    while not plane.world.app.warm_up.done:
        await asyncio.sleep(0.01)
