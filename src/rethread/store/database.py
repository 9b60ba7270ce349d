"""The seam: run this SQL. Opens the database by its place and brings its schema up to date.

SQL is written once with `$1` parameters. `write` takes statements that happen as a whole:
one with RETURNING is a check, and where it gives no row nothing of the write happens.
`notify` and `listen` carry wake-ups. What differs between databases are the words in braces,
which each of them lists, and what is marked `-- differs:` or, in the schema, `-- only:`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from rethread.errors import Misconfigured
from rethread.store.sqlite import Sqlite
from rethread.store.statements import Row, Statement, spoken
from rethread.store.wakeups import Wakeup

SCHEMA: Final = Path(__file__).parent / "schema"
FILE_NAME: Final = "rethread.sqlite3"

CREATE_VERSIONS = """
CREATE TABLE IF NOT EXISTS schema_versions (number BIGINT PRIMARY KEY, name TEXT NOT NULL)
"""
APPLIED = "SELECT number FROM schema_versions"
# A check: of two programs that start on a new file at once, one applies the schema.
RECORD = """
INSERT INTO schema_versions (number, name) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING number
"""

# Long enough for a restart of the database, short enough for a client that waits.
TIMEOUT_SECONDS: Final = 10.0

ONLY: Final = "-- only: "

# Stands among the versions while `rethread move` has not brought everything yet.
MOVING: Final = 0
IS_MOVING = f"SELECT 1 FROM schema_versions WHERE number = {MOVING}"

__all__ = [
    "Database",
    "Row",
    "Statement",
    "connect",
    "latest_version",
    "migrate",
    "open_database",
    "version",
]


class Database(Protocol):
    """What SQLite and PostgreSQL both are to the rest."""

    @property
    def place(self) -> str:
        """Where it is, for people; without a password."""

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Whose SQL it speaks."""

    @property
    def words(self) -> Mapping[str, str]:
        """What it puts in the place of the words in braces."""

    @property
    def look_again_seconds(self) -> float | None:
        """How long to trust in a wake-up; None where only this process writes."""

    async def read(self, sql: str, *arguments: Any) -> list[Row]:
        """The rows, as of the last commit."""

    async def write(self, *statements: Statement) -> list[Row]:
        """All or nothing, on disk when this returns: the first check's rows, or none if refused."""

    async def check_writable(self) -> None:
        """Unavailable if a write would fail now."""

    def now(self) -> float:
        """The time in Unix seconds, by the clock that all who share the database go by."""

    def migrating(self) -> AbstractAsyncContextManager[None]:
        """Keeps other programs from changing the schema meanwhile."""

    def notify(self, topic: str) -> None:
        """Wake those who listen to the topic, on whichever server."""

    def listen(self, topic: str) -> AbstractContextManager[Wakeup]:
        """Be woken when the topic is notified, from here on."""

    async def close(self) -> None:
        """Finish the writes that wait, then let go."""


async def open_database(
    data_dir: Path, url: str | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> Database:
    """The database, its schema current; close it after use. Misconfigured if it can't be had.

    By default a file in the folder, which is made if need be; else the PostgreSQL of that URL,
    which is waited for that long whenever it does not answer.
    """
    db = await connect(data_dir, url, timeout_seconds=timeout_seconds)
    try:
        await migrate(db)
        if await db.read(IS_MOVING):
            raise Misconfigured(
                f"the database {db.place} has only a part of what is being moved into it: "
                "run the same `rethread move` again, which goes on where it was"
            )
    except BaseException:
        await db.close()
        raise
    return db


async def connect(
    data_dir: Path, url: str | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> Database:
    """The same, with the schema and the rows that it has; for those who change just that."""
    if url is None:
        return await _open_file(data_dir)
    return await _open_server(url, timeout_seconds=timeout_seconds)


async def _open_file(data_dir: Path) -> Database:
    try:
        await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True, mode=0o700)
        return Sqlite(data_dir / FILE_NAME)
    except OSError as problem:
        raise Misconfigured(f"cannot use the data directory {data_dir}: {problem}") from problem


async def _open_server(url: str, *, timeout_seconds: float) -> Database:
    # Its driver is loaded by those who use it only: it would cost the others at the start.
    from rethread.store.postgres import open_postgres  # noqa: PLC0415

    return await open_postgres(url, wait_seconds=timeout_seconds)


async def migrate(db: Database) -> list[int]:
    """Apply what is missing, each file in a transaction; Misconfigured if the file is newer.

    The versions that were reached by this call, and not by another program at the same time.
    """
    reached: list[int] = []
    async with db.migrating():
        await db.write(Statement(CREATE_VERSIONS))
        applied = await version(db)
        if applied > latest_version():
            raise Misconfigured(
                f"the database {db.place} was made by a newer rethread (its schema is version "
                f"{applied}, this program knows {latest_version()}); install that version"
            )
        for number, path in _migrations():
            if number > applied:
                statements = [Statement(sql) for sql in _statements(path, db)]
                if await db.write(Statement(RECORD, number, path.stem), *statements):
                    reached.append(number)
    return reached


async def version(db: Database) -> int:
    """The number of the last schema file that was applied; 0 for none."""
    return max((number for (number,) in await db.read(APPLIED)), default=0)


def latest_version() -> int:
    """The number of the newest schema file that this program has."""
    return _migrations()[-1][0]


def _migrations() -> list[tuple[int, Path]]:
    return sorted((int(path.name[:4]), path) for path in SCHEMA.glob("[0-9]*.sql"))


def _statements(path: Path, db: Database) -> list[str]:
    """The file's statements, without those that are `-- only:` for another database."""
    text = "\n".join(
        line
        for line in path.read_text("utf-8").splitlines()
        if not line.startswith("--") or line.startswith(ONLY)
    )
    statements = (each.strip() for each in spoken(text, db.words).split(";"))
    return [each for each in statements if each and _is_for(each, db.dialect)]


def _is_for(statement: str, dialect: str) -> bool:
    first = statement.splitlines()[0]
    return not first.startswith(ONLY) or first == f"{ONLY}{dialect}"
