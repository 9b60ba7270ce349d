"""Moves everything from one database to another: copy, verify, and only then let it be served.

How far it has come stands in the target itself, in the table `moves`, and is written with the
rows; so it can be broken off at any moment and goes on when it is run again. Until it has ended,
a mark among the schema's versions keeps servers out of the target. The source is only read.
"""

import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import NamedTuple

import msgspec

from rethread.errors import Damaged, Misconfigured
from rethread.maintenance.places import Place
from rethread.maintenance.progress import Progress
from rethread.maintenance.reindex import index_words
from rethread.maintenance.rows import Batch, batches, count
from rethread.maintenance.tables import STATE, Table, counters_of, tables_to_move
from rethread.maintenance.targets import Target, target_at
from rethread.store.database import (
    FILE_NAME,
    MOVING,
    Database,
    Row,
    Statement,
    connect,
    migrate,
    open_database,
)
from rethread.store.folder import held
from rethread.store.servers import IS_ALIVE, SILENCE_SECONDS

# The mark's name says from where.
MARK = "INSERT INTO schema_versions (number, name) VALUES ($1, $2)"
MARKED = "SELECT name FROM schema_versions WHERE number = $1"
UNMARK = "DELETE FROM schema_versions WHERE number = $1"
CREATE = f"""
CREATE TABLE {STATE} (
    name TEXT PRIMARY KEY, last_key TEXT NOT NULL, copied BIGINT NOT NULL
)
"""
NOTE = f"""
INSERT INTO {STATE} (name, last_key, copied) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET last_key = $2, copied = $3
"""
NOTES = f"SELECT name, last_key, copied FROM {STATE}"
DROP = f"DROP TABLE {STATE}"
# Whoever had claimed a run or a file is not at the target: a server there takes it up, as after
# a crash.
RELEASE = "UPDATE {} SET claimed = 0, server = '', crashes = crashes + 1 WHERE claimed = 1"
# The vectors have not come along: until they are made anew, the stores are searched by words.
NO_VECTORS = "UPDATE vector_stores SET embedder = ''"
ALIVE = f"SELECT COUNT(*) FROM servers WHERE {IS_ALIVE}"


class Moved(NamedTuple):
    """What a move has brought over, in all, and how fast it was this time."""

    tables: dict[str, tuple[int, str]]
    rows: int
    copied: int
    copying_seconds: float
    verifying_seconds: float

    def __str__(self) -> str:
        lines = [
            f"{name:<20} {rows:>12,} rows  sha256 {checksum[:16]}"
            for name, (rows, checksum) in self.tables.items()
            if rows
        ]
        speed = self.copied / max(self.copying_seconds, 0.001)
        checking = self.rows / max(self.verifying_seconds, 0.001)
        if count := self.tables.get("blobs", (0, ""))[0]:
            lines.append(
                f"The content of {count:,} files is in no database: it stays where it is. A server "
                "on the target must be told where, with --files, or have a copy."
            )
        lines.append(
            f"Moved {self.rows:,} rows; both sides have the same. "
            f"Copied {speed:,.0f} rows/s, verified {checking:,.0f} rows/s."
        )
        return "\n".join(lines)


async def move(source: Place, target: Place, *, anew: bool = False) -> Moved:
    """Move what the source has into the target, which must be empty, or have a part of it.

    `anew` empties a target that has a part, of this move or of another, and begins again.
    """
    if source == target:
        raise Misconfigured(f"the source and the target are the same: {source}")
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(_source_at(source))
        there = await stack.enter_async_context(_opened(target))
        loading = await stack.enter_async_context(target_at(target, there))
        for place, db in ((source, here), (target, there)):
            await _check_no_server(place, db)
        tables = await tables_to_move(here, there)
        await _begin(str(source), there, loading, tables, anew=anew)
        progress = Progress()
        try:
            copied, copying_seconds = await _copy(here, there, loading, tables, progress)
            began = time.monotonic()
            found = {table.name: await _verify(here, loading, table, progress) for table in tables}
            await _check_counts(there, tables, found)
            await index_words(there, progress)
        except BaseException:
            progress.break_off()
            raise
        verifying_seconds = time.monotonic() - began
        for name, last in (await counters_of(here)).items():
            await loading.count_on(name, last)
        for name in {table.into for table in tables}:
            await loading.prepare_to_serve(name)
        await there.write(
            *(Statement(RELEASE.format(name)) for name in ("work", "ingestions")),
            Statement(NO_VECTORS),
            Statement(DROP),
            Statement(UNMARK, MOVING),
        )
    rows = sum(rows for rows, _ in found.values())
    return Moved(found, rows, copied, copying_seconds, verifying_seconds)


@asynccontextmanager
async def _source_at(place: Place) -> AsyncIterator[Database]:
    async with AsyncExitStack() as stack:
        if place.url is None:
            if not (place.data_dir / FILE_NAME).is_file():
                raise Misconfigured(f"there is no database in {place.data_dir}")
            stack.enter_context(held(place.data_dir))
        db = await open_database(place.data_dir, place.url)
        stack.push_async_callback(db.close)
        yield db


@asynccontextmanager
async def _opened(place: Place) -> AsyncIterator[Database]:
    """With its schema current, and with the half of a move that may be in it."""
    db = await connect(place.data_dir, place.url)
    try:
        await migrate(db)
        yield db
    finally:
        await db.close()


async def _check_no_server(place: Place, db: Database) -> None:
    """For a folder, its lock says so."""
    if place.url is None:
        return
    servers = (await db.read(ALIVE))[0][0]
    if servers:
        raise Misconfigured(
            f"{servers} servers run on {place}; stop them first (one that was killed counts for "
            f"{SILENCE_SECONDS:g} seconds more)"
        )


# Where it stands


async def _begin(
    source: str, there: Database, loading: Target, tables: list[Table], *, anew: bool
) -> None:
    marked = await there.read(MARKED, MOVING)
    if marked and not anew:
        if marked[0][0] != source:
            raise Misconfigured(
                f"{there.place} has a part of what is being moved from {marked[0][0]}; "
                "--restart empties it and begins again"
            )
        return
    if marked:
        for name in dict.fromkeys(table.into for table in tables):
            await loading.empty(name)
        await there.write(Statement(DROP), Statement(UNMARK, MOVING))
    for table in tables:
        if rows := await count(there, table.into):
            raise Misconfigured(
                f"{there.place} is not empty: {table.into} has {rows:,} rows; "
                "move into a database that has none"
            )
    await there.write(Statement(CREATE), Statement(MARK, MOVING, source))


# Copying


async def _copy(
    here: Database, there: Database, loading: Target, tables: list[Table], progress: Progress
) -> tuple[int, float]:
    """How many rows were copied this time, and in which time."""
    began = time.monotonic()
    notes = {name: (json.loads(key), copied) for name, key, copied in await there.read(NOTES)}
    count_now = 0
    for table in tables:
        last_key, copied = notes.get(table.name, (None, 0))
        progress.begin(
            f"copy {table.name}", await count(here, table.name), unit="rows", done=copied
        )
        after = None if last_key is None else tuple(last_key)
        async with aclosing(batches(here, table, after=after)) as reading:
            async for batch in reading:
                copied += len(batch.rows)
                note = Statement(NOTE, table.name, json.dumps(batch.last), copied)
                await loading.load(table, batch.rows, note)
                count_now += len(batch.rows)
                progress.reach(copied)
        progress.end()
    return count_now, time.monotonic() - began


# Verifying


async def _verify(
    here: Database, loading: Target, table: Table, progress: Progress
) -> tuple[int, str]:
    """The number and the checksum of a table's rows, which the target has all the same.

    Both sides' rows are taken in the order of the source's key, and rendered in the same way.
    """
    checksum = hashlib.sha256()
    rows = 0
    progress.begin(f"verify {table.name}", await count(here, table.name), unit="rows")
    async with aclosing(batches(here, table, after=None)) as reading:
        async for batch in reading:
            checksum.update(await _rendered_if_same(loading, table, batch))
            rows += len(batch.rows)
            progress.reach(rows)
    progress.end()
    return rows, checksum.hexdigest()


async def _rendered_if_same(loading: Target, table: Table, batch: Batch) -> bytes:
    keys = [table.key_of(row) for row in batch.rows]
    found = {table.key_of(row): row for row in await loading.find(table, keys)}
    there = [found.get(key) for key in keys]
    rendered = [_rendered(row) for row in batch.rows]
    if rendered != [_rendered(row) for row in there]:
        wrong = next(
            key
            for key, row, other in zip(keys, batch.rows, there, strict=True)
            if _rendered(row) != _rendered(other)
        )
        named = ", ".join(
            f"{column} {value}" for column, value in zip(table.key_there, wrong, strict=True)
        )
        problem = "missing in the target" if found.get(wrong) is None else "not the same"
        raise Damaged(
            f"{table.into}: the row with {named} is {problem}. Nothing was lost, the source is as "
            "it was; if it was served since the move began, --restart begins again"
        )
    return b"".join(rendered)


def _rendered(row: Row | None) -> bytes:
    """The same bytes for the same values, and for no others: each has its type and length."""
    return msgspec.msgpack.encode(row)


async def _check_counts(
    there: Database, tables: list[Table], found: dict[str, tuple[int, str]]
) -> None:
    """What was found is all that there is: else the target has rows that nobody moved."""
    moved: dict[str, int] = {}
    for table in tables:
        moved[table.into] = moved.get(table.into, 0) + found[table.name][0]
    for name, rows in moved.items():
        if (has := await count(there, name)) != rows:
            raise Damaged(
                f"{name} has {has:,} rows in the target and {rows:,} in the source; if the source "
                "was served since the move began, --restart begins again"
            )
