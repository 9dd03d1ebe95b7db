"""Vectors in PostgreSQL with pgvector: one table, a B-tree over partitions, and a graph (HNSW) over the
vectors of an embedding model.

A row is that of an entry's exact digest, in which the text is: whatever becomes of the entry, its vector is
the right one. Vectors of several models may lie in the table, as while one takes another's place: each has a
graph of its own (an index over its part of the table), and a search names the model, so they never meet.

A search either walks the graph and leaves out what is of other partitions, or reads the whole partition by
the B-tree and compares exactly. Which is better only the caller knows, who knows how large the partition is.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from math import ceil
from struct import pack
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import URL

from storage.base import Entry, StorageError, Vector
from storage.within import first_line, within

CONNECTIONS = 8
PATIENCE_S = 10.0
"""For everything but searches, which have a deadline of their own, and the building of a graph."""
BUILD_S = 6 * 3600.0
BUILDING_ELSEWHERE_S = 5.0
"""Between two looks whether another proxy has built the graph."""
WIDTH = 100
"""Of a search through the graph: vectors that are looked at before any is left out."""
ITERATED = 20_000
"""The same where pgvector goes on until it has enough (0.8 and later)."""
MOST_DIMENSIONS = 2_000
"""Of a graph."""
SETTLED_S = 60
"""A row this old has its document in the store, unless nobody has it any more."""
PREPARING, BUILDING = 0x6E656176, 0x6E656167
"""Advisory locks: one process at a time."""

_EXTENSION = """SELECT extversion, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
                WHERE extname = 'vector'"""
_TABLE = """CREATE TABLE nearhit_vectors (
              exact bytea PRIMARY KEY, id text NOT NULL, partition bytea NOT NULL, space text NOT NULL,
              stored timestamptz NOT NULL DEFAULT now(), vector vector NOT NULL);
            CREATE INDEX nearhit_vectors_partition ON nearhit_vectors (partition)"""
_TRY = "SELECT pg_try_advisory_lock($1)"
_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"
_DELETE = """DELETE FROM nearhit_vectors v USING unnest($1::bytea[], $2::text[]) AS gone (exact, id)
             WHERE v.exact = gone.exact AND v.id = gone.id"""
_ERASE = "DELETE FROM nearhit_vectors WHERE exact = ANY($1::bytea[])"
_ROWS = f"""SELECT exact, id FROM nearhit_vectors
            WHERE exact > $1 AND stored < now() - interval '{SETTLED_S} s' ORDER BY exact LIMIT $2"""


class Limits(NamedTuple):
    """Seconds of a statement."""

    whole: float
    """For all of it, as we count."""
    reach: float
    """To wait for a place and to connect."""
    run: float
    """In the server, from when the statement is there; 0: as long as it takes."""


_within = partial(within, who="PostgreSQL")

ORDERLY = Limits(PATIENCE_S, 0.4 * PATIENCE_S, 0.5 * PATIENCE_S)
"""The server gives up before we do, however long it took to get there: what we gave up must not be done
later."""

Known = tuple[bytes, str]
"""Exact digest and id of an entry."""


class Refused(StorageError):
    """It would fail at any other time as well."""


class Unreached(StorageError):
    """There was no connection in time."""


class Slow(StorageError):
    """The server was reached, or too much was going on here; the search took longer than it may."""


class PgVectors:
    """Every call raises StorageError, within `PATIENCE_S` seconds where nothing else is said. It connects
    when it is first needed, and again when a connection was lost.

    `fingerprint`: of the embedding model.
    """

    def __init__(self, url: URL, dimensions: int, fingerprint: str) -> None:
        self.graph = False
        """Whether there is one to be walked."""
        self.reach = WIDTH
        """Vectors that a walk looks at, at the most."""
        self._options = url.translate_connect_args(username="user") | dict(url.query)
        self._dimensions = dimensions
        self._sql = _statements(blake2b(fingerprint.encode(), digest_size=8).hexdigest(), dimensions)
        self._schema = ""
        self._idle = defaultdict[float, list[Any]](list)
        """By the time that a statement may run."""
        self._places = asyncio.Semaphore(CONNECTIONS)

    async def nearest(
        self, partition: bytes, vector: Vector, count: int, walk: bool, seconds: float
    ) -> list[tuple[float, bytes]]:
        """At most `count` (cosine, exact digest) of the partition, best first, within `seconds`. `walk`: the
        graph, which may give fewer than there are. Raises `Slow` when only time was lacking."""
        query, limits = self._sql.walk if walk else self._sql.scan, Limits(seconds, 0.9 * seconds, seconds)
        try:
            rows = await self._fetch("search", query, _packed(vector), partition, count, limits=limits)
        except StorageError as error:
            if isinstance(error.__cause__, TimeoutError | asyncpg.QueryCanceledError):
                raise Slow(str(error)) from error
            raise
        return [(row[0], row[1]) for row in rows]

    async def put(self, rows: Sequence[tuple[Entry, Vector]]) -> None:
        """All or none, of different exact digests; what is there is replaced. Raises `Refused` when it is the
        vectors that the database does not like."""
        columns = zip(*((e.exact, e.id, e.partition, _packed(vector)) for e, vector in rows), strict=True)
        await self._fetch("write", self._sql.put, *columns)

    async def delete(self, known: Sequence[Known]) -> None:
        """Unless another entry has taken their place, which another proxy may have stored."""
        await self._fetch("delete", _DELETE, *zip(*known, strict=True))

    async def erase(self, exact: Sequence[bytes]) -> None:
        """Whoever's they are now. Unknown ones are no error; when it returns they are gone."""
        await self._fetch("delete", _ERASE, exact)

    async def lacking(self, known: Sequence[Known]) -> list[str]:
        """Ids of those without a vector of this model."""
        return [row[0] for row in await self._fetch("compare", self._sql.lacking, *zip(*known, strict=True))]

    async def rows(self, after: bytes, count: int) -> list[Known]:
        """The next ones in the table, of all models, but for those that have just come."""
        return [(row[0], row[1]) for row in await self._fetch("compare", _ROWS, after, count)]

    async def build_graph(self) -> None:
        """Returns when there is one. Takes its time, so it is made when the vectors are there, and beside
        the writing of others; one proxy does it, the others wait."""
        if self._dimensions > MOST_DIMENSIONS:
            return
        async with _within(BUILD_S, "build"):
            connection = await self._connect(0)
            try:
                while not await connection.fetchval(_TRY, BUILDING):  # noqa: ASYNC110
                    await asyncio.sleep(BUILDING_ELSEWHERE_S)
                await self._build_with(connection)
            finally:
                connection.terminate()
        self.graph = True

    async def _build_with(self, connection: Any) -> None:
        valid = await connection.fetchval(_VALID, self._sql.graph)
        if valid:
            return
        if valid is False:  # somebody was interrupted
            await connection.execute(f"DROP INDEX CONCURRENTLY {self._sql.graph}")
        await connection.execute(self._sql.build)
        await connection.execute("ANALYZE nearhit_vectors")

    async def close(self) -> None:
        for idle in self._idle.values():
            while idle:
                idle.pop().terminate()

    async def _fetch(self, what: str, query: str, *arguments: Any, limits: Limits = ORDERLY) -> Any:
        async with _within(limits.whole, what), self._connection(limits) as connection:
            try:
                return await connection.fetch(query, *arguments)
            except asyncpg.DataError as error:
                raise Refused(f"{what}: {first_line(error)}") from error

    @asynccontextmanager
    async def _connection(self, limits: Limits) -> AsyncIterator[Any]:
        """One of a few. After any trouble it is given up at once: to be polite to a server that stalls would
        take longer than anybody waits."""
        until = asyncio.get_running_loop().time() + limits.reach
        async with self._places:
            if asyncio.get_running_loop().time() > until:
                raise TimeoutError
            connection = self._idle_one(limits.run) or await self._connect_until(until, limits)
            try:
                yield connection
            except BaseException:
                connection.terminate()
                raise
            self._idle[limits.run].append(connection)

    def _idle_one(self, run: float) -> Any:
        while idle := self._idle[run]:
            connection = idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _connect_until(self, until: float, limits: Limits) -> Any:
        try:
            async with asyncio.timeout_at(until):
                return await self._connect(limits.run)
        except TimeoutError:
            raise Unreached(f"connect: PostgreSQL did not answer in {limits.reach:g} s") from None

    async def _connect(self, run: float) -> Any:
        connection = await asyncpg.connect(**self._options)
        try:
            if not self._schema:
                await self._prepare(connection)
            # Rows are written packed, and vectors are not read.
            await connection.set_type_codec(
                "vector", schema=self._schema, encoder=bytes, decoder=bytes, format="binary"
            )
            await connection.execute(
                f"SET statement_timeout = {ceil(1000 * run)}; SET hnsw.ef_search = {WIDTH}"
            )
            if self.reach == ITERATED:
                await connection.execute(
                    f"SET hnsw.iterative_scan = strict_order; SET hnsw.max_scan_tuples = {ITERATED}"
                )
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _prepare(self, connection: Any) -> None:
        """Makes what is not there. Needs the right to, or somebody who has made it before."""
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", PREPARING)
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            version, schema = await connection.fetchrow(_EXTENSION)
            if await connection.fetchval("SELECT to_regclass('nearhit_vectors')") is None:
                await connection.execute(_TABLE)
            self.graph = bool(await connection.fetchval(_VALID, self._sql.graph))
        if [int(part) for part in version.split(".")[:2]] >= [0, 8]:
            self.reach = ITERATED
        self._schema = schema


class _Statements(NamedTuple):
    """For the vectors of one model."""

    graph: str
    """Name of the index."""
    walk: str
    scan: str
    put: str
    lacking: str
    build: str


def _statements(space: str, dimensions: int) -> _Statements:
    """`space`: short name of the embedding model."""
    graph, column = f"nearhit_vectors_{space}", f"(vector::vector({dimensions}))"
    where = f"FROM nearhit_vectors WHERE partition = $2 AND space = '{space}'"
    return _Statements(
        graph,
        walk=f"SELECT -({column} <#> $1) AS cosine, exact {where} ORDER BY {column} <#> $1 LIMIT $3",
        scan=f"SELECT -(vector <#> $1) AS cosine, exact {where} ORDER BY cosine DESC LIMIT $3",
        put=f"""INSERT INTO nearhit_vectors (exact, id, partition, space, vector)
                SELECT exact, id, partition, '{space}', vector
                FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::vector[])
                  AS new (exact, id, partition, vector)
                ON CONFLICT (exact) DO UPDATE SET id = excluded.id, stored = excluded.stored,
                  space = excluded.space, vector = excluded.vector""",
        lacking=f"""SELECT id FROM unnest($1::bytea[], $2::text[]) AS asked (exact, id)
                    WHERE NOT EXISTS (SELECT FROM nearhit_vectors v WHERE v.exact = asked.exact
                                      AND v.id = asked.id AND space = '{space}')""",
        build=f"""CREATE INDEX CONCURRENTLY {graph} ON nearhit_vectors
                  USING hnsw ({column} vector_ip_ops) WITH (m = 16, ef_construction = 100)
                  WHERE space = '{space}'""",
    )


def _packed(vector: Vector) -> bytes:
    """As pgvector sends and receives it: dimensions, a number that is not used, components."""
    return pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()
