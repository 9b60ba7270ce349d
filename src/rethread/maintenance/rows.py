"""A table's rows in the order of its key, a bounded number of bytes at a time."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

from rethread.maintenance.tables import Table, listed
from rethread.store.database import Database, Row

MOST_ROWS: Final = 2000
MOST_BYTES: Final = 8 * 2**20  # a row that is larger comes alone


class Batch(NamedTuple):
    """Rows that follow each other, and the key of the last of them."""

    rows: list[Row]
    last: Row


async def batches(db: Database, table: Table, *, after: Row | None) -> AsyncGenerator[Batch, None]:
    """All rows past a key. While one batch is worked on, the next one is read."""
    reading = asyncio.create_task(_read(db, table, after))
    try:
        while batch := await reading:
            reading = asyncio.create_task(_read(db, table, batch.last))
            yield batch
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def count(db: Database, name: str) -> int:
    """How many rows a table has."""
    return int((await db.read(f'SELECT COUNT(*) FROM "{name}"'))[0][0])


async def _read(db: Database, table: Table, after: Row | None) -> Batch | None:
    last = await _end_of_batch(db, table, after)
    if last is None:
        return None
    key = listed(table.key)
    begin = "" if after is None else f"({key}) > ({_parameters(len(last), len(last))}) AND"
    sql = (
        f'SELECT {listed(table.columns)} FROM "{table.name}"'
        f" WHERE {begin} ({key}) <= ({_parameters(0, len(last))}) ORDER BY {key}"
    )
    rows = await db.read(sql, *last, *(after or ()))
    return Batch([tuple(row) for row in rows], last)


async def _end_of_batch(db: Database, table: Table, after: Row | None) -> Row | None:
    """The last key that still has room; the sizes are known without reading what is long."""
    key = listed(table.key)
    sizes = (f'COALESCE(LENGTH("{name}"), 0)' for name in table.columns if name in table.long)
    where = "" if after is None else f"WHERE ({key}) > ({_parameters(0, len(after))})"
    sql = (
        f'SELECT {key}, {" + ".join(sizes) or 0} FROM "{table.name}" {where}'
        f" ORDER BY {key} LIMIT {MOST_ROWS}"
    )
    last: Row | None = None
    room = MOST_BYTES
    for *found, size in await db.read(sql, *(after or ())):
        room -= size
        if last is not None and room < 0:
            break
        last = tuple(found)
    return last


def _parameters(after: int, count: int) -> str:
    return ", ".join(f"${number}" for number in range(after + 1, after + count + 1))
