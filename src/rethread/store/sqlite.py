"""SQLite behind the seam: one writer thread that commits all waiting writes as one.

While one commit waits for the disk, the next writes gather; so many clients share the cost
of one flush. Readers have threads and connections of their own and see the last commit
(write-ahead log), without waiting for the writer. `synchronous=FULL`: answered means on disk.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from rethread.errors import Misconfigured, Unavailable
from rethread.store.wakeups import Wakeup, Wakeups

Row = tuple[Any, ...]

READERS: Final = 3  # threads; more only queue for the interpreter
MOST_WRITES_PER_COMMIT: Final = 512  # bounds how long the first of them waits
PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: a plain fsync leaves the data in the drive's cache
    "PRAGMA busy_timeout = 5000",  # another process (`rethread keys`) may write, briefly
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -8000",
    "PRAGMA journal_size_limit = 67108864",
)


class Statement:
    """A piece of SQL with its arguments: `$1` is the first."""

    __slots__ = ("arguments", "is_check", "sql")

    def __init__(self, sql: str, *arguments: Any) -> None:
        self.sql = sql
        self.arguments = _named(arguments)
        self.is_check = _has_returning(sql)


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


class Sqlite:
    """One SQLite file; open it on the event loop that uses it."""

    type_names: Final = {
        "{bytes}": "BLOB",
        "{serial}": "INTEGER PRIMARY KEY AUTOINCREMENT",
    }

    def __init__(self, path: Path) -> None:
        self.place = path
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[_Write | None] = SimpleQueue()
        self._wakeups = Wakeups()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._is_closed = False
        self._connection = self._open_for_writing()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._writer = threading.Thread(target=self._write_until_closed, name="writer", daemon=True)
        self._writer.start()

    async def read(self, sql: str, *arguments: Any) -> list[Row]:
        """The rows, as of the last commit."""
        return await self._loop.run_in_executor(self._pool, self._read, sql, _named(arguments))

    async def write(self, *statements: Statement) -> list[Row]:
        """All or nothing, on disk when this returns: the first check's rows, or none if refused."""
        if self._is_closed:
            raise Unavailable("The database is closed.")
        write = _Write(statements, self._loop.create_future())
        self._waiting.put(write)
        return await write.done

    async def check_writable(self) -> None:
        """Unavailable if a write would fail now: a row comes and goes, so something is written."""
        await self.write(
            Statement("INSERT INTO schema_versions (number, name) VALUES (-1, '')"),
            Statement("DELETE FROM schema_versions WHERE number < 0"),
        )

    def notify(self, topic: str) -> None:
        """Wake those who listen to the topic."""
        self._wakeups.notify(topic)

    def listen(self, topic: str) -> AbstractContextManager[Wakeup]:
        """Be woken when the topic is notified, from here on."""
        return self._wakeups.listen(topic)

    async def close(self) -> None:
        """Finish the writes that wait, then close the file."""
        self._is_closed = True
        self._waiting.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._readers:
            connection.close()
        self._connection.close()

    def _open_for_writing(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            connection = _connect(self.place)
            for pragma in PRAGMAS:
                connection.execute(pragma)
        except sqlite3.DatabaseError as problem:
            if connection is not None:
                connection.close()
            raise Misconfigured(f"cannot use the database {self.place}: {problem}") from problem
        return connection

    def _read(self, sql: str, arguments: dict[str, Any]) -> list[Row]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self.place)
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA busy_timeout = 5000")
            self._readers.append(connection)
        try:
            return connection.execute(sql, arguments).fetchall()
        except sqlite3.OperationalError as problem:
            raise Unavailable(f"The database does not answer: {problem}.") from problem

    def _write_until_closed(self) -> None:
        while (first := self._waiting.get()) is not None:
            writes = [first]
            closing = self._gather(writes)
            self._commit(writes)
            self._loop.call_soon_threadsafe(_settle, writes)
            if closing:
                return

    def _gather(self, writes: list[_Write]) -> bool:
        """Take along what waits already; True when the end of all writes was among it."""
        try:
            while len(writes) < MOST_WRITES_PER_COMMIT:
                write = self._waiting.get_nowait()
                if write is None:
                    return True
                writes.append(write)
        except Empty:
            pass
        return False

    def _commit(self, writes: Sequence[_Write]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                self._apply(write)
            self._connection.execute("COMMIT")
        except Exception as problem:  # the thread must live on, whatever it was
            # A full disk, a file that has gone: nothing of this was written, and all must know.
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            failure = Unavailable(f"The database cannot write: {problem}.")
            failure.__cause__ = problem
            for write in writes:
                write.error = failure

    def _apply(self, write: _Write) -> None:
        """One write inside the transaction: what refuses or breaks it leaves the others alone."""
        execute = self._connection.execute
        alone = len(write.statements) == 1  # SQLite undoes a failed statement by itself
        if not alone:
            execute("SAVEPOINT write")
        try:
            refused = self._execute_all(write, execute)
        except Exception as problem:  # a value that SQLite cannot take is no sqlite3.Error
            if not self._connection.in_transaction:  # a full disk takes back everybody's
                raise
            refused = True
            write.error = problem
        if refused:
            write.rows = []
        if not alone:
            execute("ROLLBACK TO write" if refused else "RELEASE write")
            if refused:
                execute("RELEASE write")

    @staticmethod
    def _execute_all(write: _Write, execute: Callable[..., sqlite3.Cursor]) -> bool:
        """True when a check refused."""
        for statement in write.statements:
            cursor = execute(statement.sql, statement.arguments)
            if statement.is_check:
                rows = cursor.fetchall()
                if not rows:
                    return True
                write.rows = write.rows or rows
        return False


def _settle(writes: Sequence[_Write]) -> None:
    for write in writes:
        write.settle()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _named(arguments: Sequence[Any]) -> dict[str, Any]:
    """SQLite takes `$1` as a parameter with the name 1."""
    return {str(place): value for place, value in enumerate(arguments, 1)}


@lru_cache(maxsize=512)
def _has_returning(sql: str) -> bool:
    return "RETURNING" in sql
