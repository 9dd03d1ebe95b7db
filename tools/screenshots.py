"""Pictures of the dashboard for the docs: `python tools/screenshots.py`.

Starts the proxy with the demo upstream, sends it the first calls of the labelled stream (NEARHIT_DATA or
../shared/data) for two minutes, and writes meanwhile docs/images/dashboard-*.png.
Needs playwright and Chromium.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import aiohttp
from playwright.async_api import async_playwright

from proxy.serving import serving
from proxy.settings import Settings

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
DATA = Path(os.environ.get("NEARHIT_DATA", ROOT.parent / "shared" / "data"))
DATA_PORT, ADMIN_PORT = 18080, 18081
CALLS, SECONDS = 3500, 140.0
LOOK_AFTER_S = 100.0
SHOTS = (
    ("overview", "light", 1280), ("overview", "dark", 1280), ("overview", "light", 390),
    ("categories", "light", 1280), ("categories/code", "light", 1280), ("decisions", "dark", 1280),
    ("economics", "light", 1280),
    ("load", "light", 1280),
)  # fmt: skip


async def ask(session: aiohttp.ClientSession, query: str) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": query}]}
    url = f"http://127.0.0.1:{DATA_PORT}/v1/chat/completions"
    headers = {"X-Demo-Latency": str(random.uniform(0.2, 1.2))}
    async with session.post(url, json=body, headers=headers) as answer:
        await answer.read()


async def traffic() -> None:
    with gzip.open(DATA / "stream_dev.jsonl.gz", "rt") as lines:
        queries = [json.loads(line)["query"] for line, _ in zip(lines, range(CALLS), strict=False)]
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for query in queries:
            group.create_task(ask(session, query))
            await asyncio.sleep(SECONDS / CALLS)


async def take(chromium: str) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        for view, scheme, width in SHOTS:
            context = await browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 860}, device_scale_factor=1
            )
            page = await context.new_page()
            await page.goto(f"http://127.0.0.1:{ADMIN_PORT}/#/{view}")
            if view == "overview":
                await page.locator("select").select_option("900")
            await page.wait_for_timeout(2500)
            size = "-phone" if width < 600 else ""
            await page.screenshot(path=IMAGES / f"dashboard-{view.replace('/', '-')}-{scheme}{size}.png")
        await browser.close()


async def main() -> None:
    chromium = shutil.which("chromium") or sys.exit("install Chromium first")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate(
            {
                "upstream": {"limit": 32},
                "listen": {"port": DATA_PORT},
                "admin": {"port": ADMIN_PORT},
                "documents": {"url": f"sqlite+aiosqlite:///{folder}/nearhit.db"},
            }
        )
        async with serving(settings), asyncio.timeout(600), asyncio.TaskGroup() as group:
            group.create_task(traffic())
            await asyncio.sleep(LOOK_AFTER_S)
            await take(chromium)


if __name__ == "__main__":
    asyncio.run(main())
