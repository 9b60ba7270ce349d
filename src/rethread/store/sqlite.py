"""SQLite behind the seam: one writer, which commits all waiting writes as one transaction.

While one commit waits for the disk, the next writes gather; so many clients share the cost
of one flush. Only the disk is waited for in the writer's thread: a statement takes some 10 µs,
and a thread that runs it would ask a busy event loop for the interpreter after every one (with
200 streams, batches of 80 statements took 30 to 90 ms). A write of many statements is left to
the thread whole, so that the loop is not held up.

Readers have threads and connections of their own and see the last commit (write-ahead log),
without waiting for the writer. `synchronous=FULL`: answered means on disk.
"""

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from rethread.errors import Misconfigured, Unavailable
from rethread.store.statements import Row, Statement, spoken
from rethread.store.wakeups import Wakeup, Wakeups

READERS: Final = 3  # threads; more only queue for the interpreter
NAMES: Final = tuple(str(place) for place in range(1, 100))
MOST_WRITES_PER_COMMIT: Final = 256  # bounds how long the first of them waits
MOST_STATEMENTS_ON_LOOP: Final = 16  # of one write; a longer one is the thread's
BUSY_PAUSE_SECONDS: Final = 0.005
BUSY_SECONDS: Final = 5.0  # another process (`rethread keys`) may write, briefly
# differs: SQLite's words; PostgreSQL's stand in `postgres.py`.
WORDS: Final = {
    "{bytes}": "BLOB",
    "{serial}": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "{key}": "TEXT NOT NULL UNIQUE",
    "{json}": "TEXT",
    "{pairs_of}": "json_each",  # of a JSON object: rows of a key and a value
    "{rowid}": "rowid",
    "{now}": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",  # Unix milliseconds
    "{row_lock}": "",  # there is one writer
    "{share_lock}": "",
    "{skip_locked}": "",
}
PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: a plain fsync leaves the data in the drive's cache
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -8000",
    "PRAGMA journal_size_limit = 67108864",
)


class _Write:
    """Statements on their way to the disk, and whoever waits for them."""

    __slots__ = ("done", "error", "rows", "statements")

    def __init__(self, statements: Sequence[Statement], done: asyncio.Future[list[Row]]) -> None:
        self.statements = statements
        self.done = done
        self.rows: list[Row] = []
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.done.done():  # its waiter was cancelled; the write stands
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.rows)


class _HalfDone(Exception):
    """A write was refused after a part of it was done, and nothing had set it apart."""


class Sqlite:
    """One SQLite file; open it on the event loop that uses it."""

    dialect: Final = "sqlite"
    words: Final = WORDS
    look_again_seconds: Final = None  # every wake-up is this process's own: none is lost

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Write] = deque()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._wakeups = Wakeups()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._is_closed = False
        self._connection = self._open_for_writing()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")

    async def read(self, sql: str, *arguments: Any) -> list[Row]:
        """The rows, as of the last commit."""
        return await self._loop.run_in_executor(self._pool, self._read, sql, arguments)

    async def write(self, *statements: Statement) -> list[Row]:
        """All or nothing, on disk when this returns: the first check's rows, or none if refused."""
        if self._is_closed:
            raise Unavailable("The database is closed.")
        write = _Write(statements, self._loop.create_future())
        self._waiting.append(write)
        if self._is_idle.is_set():
            # What else is asked for in this turn of the loop goes along.
            self._is_idle.clear()
            self._loop.call_soon(self._begin)
        return await write.done

    async def check_writable(self) -> None:
        """Unavailable if a write would fail now: a row comes and goes, so something is written."""
        await self.write(
            Statement("INSERT INTO schema_versions (number, name) VALUES (-1, '')"),
            Statement("DELETE FROM schema_versions WHERE number < 0"),
        )

    def now(self) -> float:
        """The time, in Unix seconds: the machine's, as the file is on it."""
        return time.time()

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[None]:
        """Nothing to hold: the row that records a schema file lets one apply it."""
        yield

    def notify(self, topic: str) -> None:
        """Wake those who listen to the topic."""
        self._wakeups.notify(topic)

    def listen(self, topic: str) -> AbstractContextManager[Wakeup]:
        """Be woken when the topic is notified, from here on."""
        return self._wakeups.listen(topic)

    async def close(self) -> None:
        """Finish the writes that wait, then close the file."""
        self._is_closed = True
        await self._is_idle.wait()
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._readers:
            connection.close()
        self._connection.close()

    def _open_for_writing(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            connection = _connect(self._path)
            for pragma in PRAGMAS:
                # Of several that make a file at once SQLite refuses some unasked, time-out or not.
                _execute_patiently(connection, pragma)
            connection.execute("PRAGMA busy_timeout = 0")  # the loop never waits for a lock
        except sqlite3.DatabaseError as problem:
            if connection is not None:
                connection.close()
            raise Misconfigured(f"cannot use the database {self.place}: {problem}") from problem
        return connection

    def _read(self, sql: str, arguments: Sequence[Any]) -> list[Row]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self._path)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA busy_timeout = 5000")
            self._readers.append(connection)
        try:
            return connection.execute(_spoken(sql), _named(arguments)).fetchall()
        except sqlite3.OperationalError as problem:
            raise Unavailable(f"The database does not answer: {problem}.") from problem

    def _begin(self) -> None:
        """Take what waits into a transaction, and have the thread wait for the disk."""
        count = min(len(self._waiting), MOST_WRITES_PER_COMMIT)
        writes = [self._waiting.popleft() for _ in range(count)]
        is_long = any(len(write.statements) > MOST_STATEMENTS_ON_LOOP for write in writes)
        is_applied = not is_long and self._apply_now(writes)
        self._writer.submit(self._commit, writes, is_applied)

    def _end(self, writes: Sequence[_Write]) -> None:
        for write in writes:
            write.settle()
        if self._waiting:
            self._begin()
        else:
            self._is_idle.set()

    def _apply_now(self, writes: Sequence[_Write]) -> bool:
        """Run the statements on the loop; False where that can't be, with nothing done."""
        try:
            try:
                self._apply_all(writes, apart=False)
            except _HalfDone:
                self._roll_back(writes)
                self._apply_all(writes, apart=True)
        except sqlite3.Error:  # another process writes, or the disk is full: the thread finds out
            self._roll_back(writes)
            return False
        return True

    def _apply_all(self, writes: Sequence[_Write], *, apart: bool) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for write in writes:
            self._apply(write, apart=apart)

    def _commit(self, writes: Sequence[_Write], is_applied: bool) -> None:
        try:
            if not is_applied:
                _execute_patiently(self._connection, "BEGIN IMMEDIATE")
                for write in writes:
                    self._apply(write, apart=True)
            self._connection.execute("COMMIT")
        except Exception as problem:  # the thread must live on, whatever it was
            # A full disk, a file that has gone: nothing of this was written, and all must know.
            self._roll_back(writes)
            failure = Unavailable(f"The database cannot write: {problem}.")
            failure.__cause__ = problem
            for write in writes:
                write.error = failure
        self._loop.call_soon_threadsafe(self._end, writes)

    def _roll_back(self, writes: Sequence[_Write]) -> None:
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")
        for write in writes:
            write.rows, write.error = [], None

    def _apply(self, write: _Write, *, apart: bool) -> None:
        """One write inside the transaction: what refuses or breaks it leaves the others alone.

        To set it apart with a savepoint costs as much as a statement, and most writes that are
        refused are so by their first. So it may be left out; _HalfDone where it was needed.
        """
        execute = self._connection.execute
        apart = apart and len(write.statements) > 1  # SQLite undoes a failed statement by itself
        if apart:
            execute("SAVEPOINT write")
        done = 0
        refused = False
        try:
            for statement in write.statements:
                if statement.is_lock:
                    continue
                cursor = execute(_spoken(statement.sql), _named(statement.arguments))
                if statement.is_check:
                    rows = cursor.fetchall()
                    if not rows:
                        refused = True
                        break
                    write.rows = write.rows or rows
                done += 1
        except Exception as problem:  # a value that SQLite cannot take is no sqlite3.Error
            if not self._connection.in_transaction:  # a full disk takes back everybody's
                raise
            refused = True
            write.error = problem
        if refused:
            write.rows = []
            if done and not apart:
                raise _HalfDone
        if apart:
            execute("ROLLBACK TO write" if refused else "RELEASE write")
            if refused:
                execute("RELEASE write")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _execute_patiently(connection: sqlite3.Connection, sql: str) -> None:
    """Execute it, again and again for a while if another process has the file."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(sql)
            return
        except sqlite3.OperationalError as problem:
            is_busy = problem.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > until:
                raise
            time.sleep(BUSY_PAUSE_SECONDS)


def _named(arguments: Sequence[Any]) -> dict[str, Any]:
    """SQLite takes `$1` as a parameter with the name 1."""
    return dict(zip(NAMES, arguments, strict=False))


@lru_cache(maxsize=512)
def _spoken(sql: str) -> str:
    return spoken(sql, WORDS)
