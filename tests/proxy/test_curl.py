"""Plain curl, by the script that `make clients` runs too."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from world import CATEGORIES, MakeWorld

SCRIPT = Path(__file__).parents[2] / "clients" / "with_curl.sh"


async def test_every_step(make_world: MakeWorld, categories: Path) -> None:
    """With a threshold that suits an embedder which only counts words."""
    (categories / "default.yaml").write_text(CATEGORIES["default"].replace("0.8", "0.3"))
    world = await make_world()
    process = await asyncio.create_subprocess_exec(
        "sh", str(SCRIPT), stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NEARHIT_URL": world.url, "NEARHIT_KEY": "one"},
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0
    steps = [line.split("\t") for line in told.decode().splitlines()]
    assert len(steps) == 18
    assert [step for step in steps if step[2] != "ok"] == []
