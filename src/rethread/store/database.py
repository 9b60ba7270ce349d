"""The seam: run this SQL. Opens the database by its place and brings its schema up to date.

SQL is written once with `$1` parameters. `write` takes statements that happen as a whole:
one with RETURNING is a check, and where it gives no row nothing of the write happens.
`notify` and `listen` carry wake-ups. What differs between databases is marked `-- differs:`.
"""

import asyncio
from pathlib import Path
from typing import Final

from rethread.errors import Misconfigured
from rethread.store.sqlite import Row, Sqlite, Statement

Database = Sqlite

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

__all__ = ["Database", "Row", "Statement", "latest_version", "migrate", "open_database", "version"]


async def open_database(data_dir: Path) -> Database:
    """The database in a folder (made if need be), its schema current; close it after use."""
    try:
        await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True, mode=0o700)
        db = Sqlite(data_dir / FILE_NAME)
    except OSError as problem:
        raise Misconfigured(f"cannot use the data directory {data_dir}: {problem}") from problem
    try:
        await migrate(db)
    except BaseException:
        await db.close()
        raise
    return db


async def migrate(db: Database) -> None:
    """Apply what is missing, each file in a transaction; Misconfigured if the file is newer."""
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
            await db.write(Statement(RECORD, number, path.stem), *statements)


async def version(db: Database) -> int:
    """The number of the last schema file that was applied; 0 for none."""
    return max((number for (number,) in await db.read(APPLIED)), default=0)


def latest_version() -> int:
    """The number of the newest schema file that this program has."""
    return _migrations()[-1][0]


def _migrations() -> list[tuple[int, Path]]:
    return sorted((int(path.name[:4]), path) for path in SCHEMA.glob("[0-9]*.sql"))


def _statements(path: Path, db: Database) -> list[str]:
    text = "\n".join(
        line for line in path.read_text("utf-8").splitlines() if not line.startswith("--")
    )
    for word, type_name in db.type_names.items():
        text = text.replace(word, type_name)
    return [statement.strip() for statement in text.split(";") if statement.strip()]
