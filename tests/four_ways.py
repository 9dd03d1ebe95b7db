"""An answer that was asked for in one way, asked for again in another, through the real packages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from world import World

ASKED = "how are you today my friend"
REWORDED = "how are you my friend"

Ask = Callable[..., Awaitable[tuple[str, Any]]]
"""Takes a client, a text and options; gives what `cache_of` says and the answer."""


def cache_of(headers: Any) -> str:
    """`HIT exact`, `MISS` ..."""
    return f"{headers['x-cache']} {headers.get('x-cache-tier', '')}".strip()


async def replayed(
    world: World, sdk: Any, first: Ask, second: Ask, plain: Callable[[Any], Any], **options: Any
) -> Any:
    """The fresh answer, once all hits were the same; `plain`: what of it has to be."""
    cache, fresh = await first(sdk, ASKED, **options)
    assert cache == "MISS"
    await world.settled()
    for text, expected in ((ASKED, "HIT exact"), (REWORDED, "HIT semantic")):
        cache, again = await second(sdk, text, **options)
        assert (cache, plain(again)) == (expected, plain(fresh))
    return fresh
