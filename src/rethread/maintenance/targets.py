"""What a move asks of its target that each kind of database does in its own way.

Each batch is written in one transaction with the note of how far the move has come: a move that
is broken off anywhere has written every row once or not at all.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from rethread.errors import Misconfigured, Unavailable
from rethread.maintenance.places import Place
from rethread.maintenance.tables import Table, listed
from rethread.store.database import Database, Row, Statement
from rethread.store.folder import held

if TYPE_CHECKING:
    from asyncpg import Connection

# A move that was killed may hold the lock for a moment longer.
WAIT_FOR_LOCK = "SET lock_timeout = '10s'"
LOCK_OUT_OTHER_MOVES = "SELECT pg_advisory_lock($1)"
# A batch is found by its keys, row by row: a plan for the whole table would be made for no batch.
# What a crash of the database takes back, it takes back from the end, with the note of it.
SESSION = """
SET enable_hashjoin = off; SET enable_mergejoin = off; SET synchronous_commit = off;
SET lock_timeout = 0
"""
COUNT_ON = """
SELECT setval(pg_get_serial_sequence($1, 'number'), GREATEST($2, (SELECT MAX(number) FROM {}), 1))
"""

# Any number that nobody else uses: the letters of "move".
LOCK: Final = 0x6D6F_7665


class Target(Protocol):
    """Where rows go."""

    async def load(self, table: Table, rows: Sequence[Row], note: Statement) -> None:
        """Write the rows, and the note, as a whole."""

    async def find(self, table: Table, keys: Sequence[Row]) -> list[Row]:
        """The rows that have these keys, in any order."""

    async def count_on(self, name: str, last: int) -> None:
        """Have the table's next number be past this one and past those that it has."""

    async def empty(self, name: str) -> None:
        """Delete all rows of a table."""

    async def prepare_to_serve(self, name: str) -> None:
        """Have the database know the table as it is now, so that its plans are good."""


@asynccontextmanager
async def target_at(place: Place, db: Database) -> AsyncIterator[Target]:
    """The target's own way; nobody else moves into it, or serves its folder, meanwhile."""
    if place.url is None:
        with held(place.data_dir):
            yield _File(db)
        return
    from asyncpg import LockNotAvailableError  # noqa: PLC0415 - only where it is used

    from rethread.store.postgres_connections import connector  # noqa: PLC0415

    with _told(place):
        connection = await connector(place.url)()
        try:
            await connection.execute(WAIT_FOR_LOCK)
            try:
                await connection.execute(LOCK_OUT_OTHER_MOVES, LOCK)
            except LockNotAvailableError as problem:
                raise Misconfigured(f"another move into {place} is under way") from problem
            await connection.execute(SESSION)
            yield _Server(connection)
        finally:
            await connection.close(timeout=5)


class _File:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def load(self, table: Table, rows: Sequence[Row], note: Statement) -> None:
        parameters = ", ".join(f"${number + 1}" for number in range(len(table.columns)))
        sql = f'INSERT INTO "{table.into}" ({listed(table.columns)}) VALUES ({parameters})'
        await self._db.write(*(Statement(sql, *row) for row in rows), note)

    async def find(self, table: Table, keys: Sequence[Row]) -> list[Row]:
        # CROSS JOIN: the keys first, then each one's row.
        conditions = " AND ".join(
            f"there.\"{column}\" = json_extract(wanted.value, '$[{place}]')"
            for place, column in enumerate(table.key_there)
        )
        sql = (
            f"SELECT {listed(table.columns, of='there')} FROM json_each($1) AS wanted "
            f'CROSS JOIN "{table.into}" AS there WHERE {conditions}'
        )
        return await self._db.read(sql, json.dumps(keys))

    async def count_on(self, name: str, last: int) -> None:
        # Its rows have brought the counter along; it may have been further.
        await self._db.write(
            Statement(
                "INSERT INTO sqlite_sequence (name, seq) SELECT $1, 0"
                " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = $1)",
                name,
            ),
            Statement("UPDATE sqlite_sequence SET seq = MAX(seq, $2) WHERE name = $1", name, last),
        )

    async def empty(self, name: str) -> None:
        await self._db.write(Statement(f'DELETE FROM "{name}"'))

    async def prepare_to_serve(self, name: str) -> None:
        pass  # plans do not depend on what is in it


class _Server:
    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def load(self, table: Table, rows: Sequence[Row], note: Statement) -> None:
        async with self._connection.transaction():
            await self._connection.copy_records_to_table(
                table.into, records=rows, columns=table.columns
            )
            await self._connection.execute(note.sql, *note.arguments)

    async def find(self, table: Table, keys: Sequence[Row]) -> list[Row]:
        kinds = ("TEXT" if column in table.long else "BIGINT" for column in table.key_there)
        arrays = ", ".join(f"CAST(${place} AS {kind}[])" for place, kind in enumerate(kinds, 1))
        wanted = [f"key_{place}" for place in range(len(table.key_there))]
        sql = (
            f"SELECT {listed(table.columns, of='there')}"
            f" FROM unnest({arrays}) AS wanted ({', '.join(wanted)})"
            f' JOIN "{table.into}" AS there'
            f" ON ({listed(table.key_there, of='there')}) = ({listed(wanted, of='wanted')})"
        )
        found = await self._connection.fetch(sql, *zip(*keys, strict=True))
        return [tuple(row) for row in found]

    async def count_on(self, name: str, last: int) -> None:
        await self._connection.execute(COUNT_ON.format(name), name, last)

    async def empty(self, name: str) -> None:
        await self._connection.execute(f'TRUNCATE "{name}"')

    async def prepare_to_serve(self, name: str) -> None:
        await self._connection.execute(f'ANALYZE "{name}"')


@contextmanager
def _told(place: Place) -> Iterator[None]:
    """What breaks a connection, in a line."""
    from asyncpg import InterfaceError, PostgresError  # noqa: PLC0415 - only where it is used

    try:
        yield
    except (OSError, TimeoutError, InterfaceError, PostgresError) as problem:
        words = str(problem).strip() or type(problem).__name__
        raise Unavailable(
            f"the database {place} does not go on: {words}; run the same command again later, "
            "which goes on where it was"
        ) from problem
