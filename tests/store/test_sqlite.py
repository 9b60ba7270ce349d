"""SQLite's writer: waiting writes share a commit, and no failure ends it. Others: test_writes."""

import asyncio
import resource
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rethread.errors import Misconfigured, Unavailable
from rethread.store.database import Statement
from rethread.store.sqlite import Sqlite

ADD = "INSERT INTO things (id) VALUES ($1)"
ADD_OR_REFUSE = "INSERT INTO things (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id"


@pytest.fixture
async def things(sqlite: Sqlite) -> Sqlite:
    """A database with an empty table of things."""
    await sqlite.write(Statement("CREATE TABLE things (id INTEGER PRIMARY KEY, body BLOB)"))
    return sqlite


async def ids(db: Sqlite) -> list[int]:
    return [row[0] for row in await db.read("SELECT id FROM things ORDER BY id")]


@contextmanager
def held_by_another(place: Path) -> Iterator[sqlite3.Connection]:
    """Another process's write, under way: our writer has to wait, so that writes gather."""
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        with suppress(sqlite3.OperationalError):
            other.execute("ROLLBACK")
        other.close()


def wal_commits(place: Path) -> int:
    """Commits in the write-ahead log: its frames that say how large the file is after them."""
    content = Path(f"{place}-wal").read_bytes()
    page = int.from_bytes(content[8:12], "big")
    headers = range(32, len(content), 24 + page)
    salt = content[16:24]
    return sum(
        content[at + 4 : at + 8] != b"\0\0\0\0" and content[at + 8 : at + 16] == salt
        for at in headers
    )


async def test_waiting_writes_share_commits(things: Sqlite) -> None:
    before = wal_commits(Path(things.place))
    with held_by_another(Path(things.place)):
        writes = [asyncio.ensure_future(things.write(Statement(ADD, n))) for n in range(200)]
        await asyncio.sleep(0)
    await asyncio.gather(*writes)
    assert await ids(things) == list(range(200))
    assert wal_commits(Path(things.place)) - before <= 3


async def test_in_one_commit_each_write_stands_or_falls_alone(things: Sqlite) -> None:
    await things.write(Statement(ADD, 1))
    with held_by_another(Path(things.place)):
        writes = asyncio.gather(
            things.write(Statement(ADD, 2)),
            things.write(Statement(ADD, 1)),  # breaks
            things.write(Statement(ADD, 3), Statement(ADD_OR_REFUSE, 1)),  # is refused
            things.write(Statement(ADD, 2**70)),  # a value that SQLite has no room for
            things.write(Statement(ADD, 4), Statement("INSERT INTO nowhere VALUES (1)")),
            things.write(Statement("UPDATE things SET id = 5 WHERE id = $1 RETURNING id", 99)),
            things.write(Statement(ADD_OR_REFUSE, 6), Statement(ADD, 7)),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
    results = await writes
    assert results[0] == []
    assert isinstance(results[1], sqlite3.IntegrityError)
    assert results[2] == []
    assert isinstance(results[3], OverflowError)
    assert isinstance(results[4], sqlite3.OperationalError)
    assert results[5] == []
    assert results[6] == [(6,)]
    assert await ids(things) == [1, 2, 6, 7]


async def test_a_write_survives_the_cancellation_of_its_waiter(things: Sqlite) -> None:
    with held_by_another(Path(things.place)):
        waiter = asyncio.ensure_future(things.write(Statement(ADD, 1)))
        await asyncio.sleep(0)
        waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await things.write(Statement(ADD, 2))
    assert await ids(things) == [1, 2]


async def test_reads_do_not_wait_for_writes(things: Sqlite) -> None:
    await things.write(Statement(ADD, 1))
    with held_by_another(Path(things.place)) as other:
        other.execute("INSERT INTO things (id) VALUES (2)")
        write = asyncio.ensure_future(things.write(Statement(ADD, 3)))
        assert await ids(things) == [1]
        assert not write.done()
    await write
    assert await ids(things) == [1, 3]


async def test_a_reader_cannot_write(things: Sqlite) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await things.read(ADD, 1)


def files_of(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@contextmanager
def full_disk(place: Path) -> Iterator[None]:
    """No file of this process may grow past what the write-ahead log has now."""
    size = Path(f"{place}-wal").stat().st_size
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_full_disk_fails_all_waiting_writes_and_the_writer_lives_on(
    things: Sqlite,
) -> None:
    await things.write(Statement(ADD, 1))
    with full_disk(Path(things.place)):
        failed = await asyncio.gather(
            *(
                things.write(Statement("INSERT INTO things VALUES ($1, zeroblob(20000))", n))
                for n in range(2, 12)
            ),
            return_exceptions=True,
        )
        assert [type(result) for result in failed] == [Unavailable] * 10
        with pytest.raises(Unavailable, match="cannot write"):
            await things.check_writable()
        assert await ids(things) == [1]
    await things.check_writable()
    await things.write(Statement(ADD, 2))
    assert await ids(things) == [1, 2]


async def test_a_full_disk_in_the_middle_of_a_large_write_is_no_fault_of_that_write(
    things: Sqlite,
) -> None:
    """Past the cache's size SQLite writes to the disk before the commit."""
    with full_disk(Path(things.place)):
        failed = await asyncio.gather(
            things.write(Statement(ADD, 1)),
            things.write(Statement("INSERT INTO things VALUES (2, zeroblob(30000000))")),
            return_exceptions=True,
        )
    assert [type(result) for result in failed] == [Unavailable] * 2
    await things.write(Statement(ADD, 3))
    assert await ids(things) == [3]


async def test_a_full_database_is_the_fault_of_no_single_write(things: Sqlite) -> None:
    """SQLite takes back the whole transaction then: no write of it may be told that all is well."""
    pages = things._connection.execute("PRAGMA page_count").fetchone()[0]
    things._connection.execute(f"PRAGMA max_page_count = {pages}")
    with held_by_another(Path(things.place)):
        writes = asyncio.gather(
            things.write(Statement(ADD, 1)),
            things.write(Statement("INSERT INTO things VALUES (2, zeroblob(20000))")),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
    assert [type(result) for result in await writes] == [Unavailable] * 2
    things._connection.execute("PRAGMA max_page_count = 1000000")
    await things.write(Statement(ADD, 3))
    assert await ids(things) == [3]


async def test_the_file_cut_off_under_it_fails_writes_and_ends_no_thread(
    things: Sqlite,
) -> None:
    await things.write(Statement(ADD, 1))
    writer = next(each for each in threading.enumerate() if each.name.startswith("writer"))
    things._connection.close()
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot write"):
            await things.write(Statement(ADD, 2))
    assert writer.is_alive()


async def test_a_lock_held_too_long_is_unavailable_and_not_the_end(
    things: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rethread.store.sqlite.BUSY_SECONDS", 0.05)
    with held_by_another(Path(things.place)), pytest.raises(Unavailable, match="locked"):
        await things.write(Statement(ADD, 1))
    await things.write(Statement(ADD, 2))
    assert await ids(things) == [2]


async def test_an_answered_write_is_on_disk(things: Sqlite) -> None:
    """The settings that promise it, as the writer's connection has them."""

    def pragma(name: str) -> object:
        return things._connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2  # FULL
    assert pragma("fullfsync") == 1


async def test_closing_finishes_what_waits_and_takes_nothing_more(tmp_path: Path) -> None:
    place = tmp_path / "x.sqlite3"
    db = Sqlite(place)
    await db.write(Statement("CREATE TABLE things (id INTEGER PRIMARY KEY)"))
    writes = [asyncio.ensure_future(db.write(Statement(ADD, n))) for n in range(2000)]
    await asyncio.sleep(0)
    await db.close()
    assert await asyncio.gather(*writes) == [[]] * 2000
    with pytest.raises(Unavailable, match="closed"):
        await db.write(Statement(ADD, 2001))
    assert [path.name for path in files_of(tmp_path)] == [place.name]


async def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    place = tmp_path / "x.sqlite3"
    place.write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(Misconfigured, match=r"cannot use the database .*x\.sqlite3"):
        Sqlite(place)


async def test_a_place_that_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot use the database"):
        Sqlite(tmp_path)
