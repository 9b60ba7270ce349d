"""Migrations: in order, once, each in a transaction; a newer file is refused."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from rethread.errors import Misconfigured
from rethread.store import database
from rethread.store.database import FILE_NAME, Database, Statement, latest_version, open_database


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A schema folder of our own, with two files in it."""
    folder = tmp_path / "schema"
    folder.mkdir()
    (folder / "0001_first.sql").write_text(
        "-- A comment; with a semicolon.\n"
        "CREATE TABLE a (id {serial}, body {bytes});\nINSERT INTO a (body) VALUES ('first');\n"
    )
    (folder / "0002_second.sql").write_text("UPDATE a SET body = body || ', second';")
    monkeypatch.setattr(database, "SCHEMA", folder)
    return folder


async def body_of(db: Database) -> str:
    return str((await db.read("SELECT body FROM a"))[0][0])


async def test_files_are_applied_in_the_order_of_their_numbers(
    schema: Path, tmp_path: Path
) -> None:
    (schema / "0010_tenth.sql").write_text("UPDATE a SET body = body || ', tenth';")
    db = await open_database(tmp_path / "data")
    assert await body_of(db) == "first, second, tenth"
    assert await database.version(db) == latest_version() == 10
    await db.close()


async def test_each_file_is_applied_once(schema: Path, tmp_path: Path) -> None:
    for _ in range(3):
        db = await open_database(tmp_path / "data")
        assert await body_of(db) == "first, second"
        await db.close()
    (schema / "0003_third.sql").write_text("UPDATE a SET body = body || ', third';")
    db = await open_database(tmp_path / "data")
    assert await body_of(db) == "first, second, third"
    await db.close()


async def test_two_who_open_a_new_file_at_once_apply_the_schema_once(tmp_path: Path) -> None:
    opened = await asyncio.gather(*(open_database(tmp_path / "data") for _ in range(3)))
    for db in opened:
        assert await database.version(db) == latest_version()
        await db.close()


async def test_a_broken_migration_leaves_nothing(schema: Path, tmp_path: Path) -> None:
    broken = schema / "0003_third.sql"
    broken.write_text(
        "CREATE TABLE b (id {serial}); UPDATE a SET body = 'broken';INSERT INTO nowhere VALUES (1);"
    )
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        await open_database(tmp_path / "data")
    broken.unlink()
    db = await open_database(tmp_path / "data")
    assert await body_of(db) == "first, second"
    assert await database.version(db) == 2
    assert await db.read("SELECT 1 FROM sqlite_master WHERE name = 'b'") == []
    await db.close()


async def test_a_file_from_a_newer_version_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    db = await open_database(tmp_path / "data")
    newer = latest_version() + 7
    await db.write(Statement("INSERT INTO schema_versions VALUES ($1, 'from the future')", newer))
    await db.close()
    with pytest.raises(Misconfigured, match=f"newer rethread .*version {newer}.* knows"):
        await open_database(tmp_path / "data")
    file = sqlite3.connect(tmp_path / "data" / FILE_NAME)
    assert file.execute("SELECT MAX(number) FROM schema_versions").fetchone() == (newer,)
    file.close()


async def test_a_data_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured, match="cannot use the data directory"):
        await open_database(tmp_path / "file" / "data")


async def test_only_the_owner_may_look_into_the_data_directory(tmp_path: Path) -> None:
    db = await open_database(tmp_path / "data")
    await db.close()
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
