"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from doubles import Clock, WordEmbedder
from world import CATEGORIES, MakeWorld, World, open_world

from embeddings.base import Embedder
from proxy.demo.upstream import Behaviour
from proxy.settings import Settings

# How long an example takes says something of the machine only.
hypothesis.settings.register_profile("nearhit", deadline=None)
hypothesis.settings.load_profile("nearhit")


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> Iterator[BlockBuster]:
    with blockbuster_ctx(["proxy", "policies", "storage", "embeddings"]) as guard:
        # asyncpg looks for ~/.pgpass when it connects; SQLAlchemy's greenlets hide that from the guard.
        guard.functions["os.stat"].can_block_in("asyncpg/connect_utils.py", "_read_password_file")
        yield guard


@pytest.fixture
def categories(tmp_path: Path) -> Path:
    folder = tmp_path / "categories"
    folder.mkdir()
    for name, text in CATEGORIES.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
async def make_world(categories: Path) -> AsyncIterator[MakeWorld]:
    """Opens worlds, and closes them after the test. Settings go by section: `limits={"in_flight": 1}`."""
    async with AsyncExitStack() as stack:

        async def make(
            behaviour: Behaviour | None = None,
            embedder: Embedder | None = None,
            clock: Clock | None = None,
            upstream_url: str | None = None,
            **sections: Any,
        ) -> World:
            chosen = {"documents": {"url": "memory"}, "categories": categories, **sections}
            world = open_world(
                Settings.model_validate(chosen),
                behaviour or Behaviour(),
                embedder or WordEmbedder(),
                clock or Clock(),
                upstream_url,
            )
            return await stack.enter_async_context(world)

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world()
