"""A client of a Redis server."""

from __future__ import annotations

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

TAG = "{nearhit}"
"""Hash tag of all our keys: a cluster has them in one slot."""


def connect(url: str, deadline: float, tries_again: int) -> Redis:
    """Connects when it is first used. A command ends within `deadline` seconds; one that failed is tried
    again on a new connection, `tries_again` times. Raises ValueError for what is no Redis URL."""
    return Redis.from_url(
        url,
        socket_connect_timeout=deadline,
        socket_timeout=deadline,
        retry=Retry(NoBackoff(), tries_again),
        # Else each connection looks for its version on the disk.
        driver_info=DriverInfo(lib_version=redis.__version__),
    )
