"""PostgreSQL behind the seam: readers in a pool, writers with a queue, one bell for wake-ups.

Whoever asks while the database is away waits for it, a bounded time; then it is Unavailable.
A read is simply asked again; how a write that was under way is not done twice: `postgres_writer`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from asyncpg import PostgresError

from rethread.errors import Misconfigured, Unavailable
from rethread.store.postgres_bell import Bell
from rethread.store.postgres_connections import (
    APPLICATION,
    CONNECT_SECONDS,
    Connect,
    Patience,
    connector,
    is_let_in,
    is_lost,
    may_pass,
    told,
)
from rethread.store.postgres_queue import Queue, Write
from rethread.store.postgres_shapes import WORDS, speak
from rethread.store.postgres_writer import CREATE, FORGET, Writer
from rethread.store.statements import Row, Statement
from rethread.store.urls import ODD, without_password
from rethread.store.wakeups import Wakeup, Wakeups

if TYPE_CHECKING:
    from asyncpg import Connection, Pool

logger = logging.getLogger("rethread.store")

READERS: Final = 8  # connections; more only wait for the same cores
WRITERS: Final = 2  # while one waits for the disk, the other gathers and sends
OLDEST: Final = 140000
# Guards the schema. Any number will do that nobody else uses: these are the letters of "rethread".
LOCK: Final = 0x7265_7468_7265_6164
CLOSE_SECONDS: Final = 2.0
WRITABLE_SECONDS: Final = 2.0  # who asks whether a server is ready does not ask for long
LOOK_AGAIN_SECONDS: Final = 2.0

WRITABLE = """
INSERT INTO writers (id, session, batch, outcome, changed_at) VALUES ('', 0, 0, '', 0)
ON CONFLICT (id) DO UPDATE SET batch = writers.batch + 1 RETURNING id
"""


async def open_postgres(url: str, *, wait_seconds: float) -> "Postgres":
    """The database of a URL, without its schema; Misconfigured if it can't be had.

    One that is just starting, or has no connection to spare, is waited for as in a request.
    """
    place = without_password(url)
    connect = connector(url)
    patience = Patience(wait_seconds)
    while True:
        db = Postgres(url, connect, place, wait_seconds=wait_seconds)
        try:
            await _prepare(connect, place)
            await db.open()
            return db
        except (OSError, ValueError, asyncpg.InterfaceError, PostgresError) as problem:
            if patience.is_over or not is_lost(problem) or not is_let_in(problem):
                raise Misconfigured(
                    f"cannot use the database {place}: {_told(problem, place)}"
                ) from problem
            await asyncio.sleep(patience.next_pause(problem))


class Postgres:
    """One database; opened by `open_postgres` on the event loop that uses it."""

    dialect: Final = "postgresql"
    words: Final = WORDS
    look_again_seconds: Final = LOOK_AGAIN_SECONDS

    def __init__(self, url: str, connect: Connect, place: str, *, wait_seconds: float) -> None:
        self.place = place
        self._wait_seconds = wait_seconds
        self._url = url
        self._connect = connect
        self._wakeups = Wakeups()
        self._bell = Bell(connect, self._wakeups)
        self._queue = Queue()
        self._writers: list[asyncio.Task[None]] = []
        self._pool: Pool[Any] | None = None

    async def open(self) -> None:
        """Connect; whatever connecting raises."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,  # else the pool would log each try to have one, while there is none
            max_size=READERS,
            timeout=CONNECT_SECONDS,
            reset=_leave_as_it_is,
            server_settings={"application_name": APPLICATION},
        )
        try:
            await self._bell.open()
        except BaseException:
            self._pool.terminate()
            raise
        self._writers = [
            asyncio.create_task(
                Writer(self._connect, self._queue, wait_seconds=self._wait_seconds).run()
            )
            for _ in range(WRITERS)
        ]

    async def read(self, sql: str, *arguments: Any) -> list[Row]:
        """The rows, as of the last commit."""
        patience = Patience(self._wait_seconds)
        while True:
            try:
                async with asyncio.timeout(patience.seconds_left):
                    return await self._fetch(speak(sql), arguments)
            except Exception as problem:
                if not is_lost(problem) and may_pass(getattr(problem, "sqlstate", None) or ""):
                    raise Unavailable(f"The database cannot read: {told(problem)}.") from problem
                if not is_lost(problem):
                    raise
                await asyncio.sleep(patience.next_pause(problem))

    async def _fetch(self, sql: str, arguments: Sequence[Any]) -> list[Any]:
        assert self._pool is not None
        connection = await self._pool.acquire()
        try:
            return await connection.fetch(sql, *arguments)
        except (asyncio.CancelledError, OSError):
            # To have the question taken back, the database would have to answer.
            connection.terminate()
            raise
        finally:
            await self._pool.release(connection)

    async def write(self, *statements: Statement) -> list[Row]:
        """All or nothing, on disk when this returns: the first check's rows, or none if refused."""
        if self._queue.is_closed:
            raise Unavailable("The database is closed.")
        write = Write(statements, asyncio.get_running_loop().create_future())
        self._queue.put(write)
        return await write.done

    async def check_writable(self) -> None:
        """Unavailable if a write would fail now: a row is changed, so something is written."""
        try:
            async with asyncio.timeout(min(WRITABLE_SECONDS, self._wait_seconds)):
                await self.write(Statement(WRITABLE))
        except TimeoutError as problem:
            raise Unavailable("The database does not answer.") from problem

    def now(self) -> float:
        """The time, in Unix seconds: the database's, whatever the clock of this machine says."""
        return self._bell.now()

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[None]:
        """Hold the lock of the schema: of ten servers that start at once, one changes it."""
        connection = await self._connect()
        try:
            await _lock_schema(connection)
            yield
        finally:
            await connection.close()

    def notify(self, topic: str) -> None:
        """Wake those who listen to the topic, here at once, on other servers in a moment."""
        self._wakeups.notify(topic)
        self._bell.ring(topic)

    def listen(self, topic: str) -> AbstractContextManager[Wakeup]:
        """Be woken when the topic is notified, from here on."""
        return self._wakeups.listen(topic)

    async def close(self) -> None:
        """Finish the writes that wait, then let go."""
        self._queue.close()
        await asyncio.gather(*self._writers, return_exceptions=True)
        await asyncio.gather(self._bell.close(), self._close_pool())

    async def _close_pool(self) -> None:
        assert self._pool is not None
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except (OSError, PostgresError, asyncpg.InterfaceError):
            self._pool.terminate()


def _told(problem: Exception, place: str) -> str:
    """What is wrong; what a parser says of a URL may quote the password that has misled it."""
    is_config = isinstance(problem, asyncpg.InterfaceError) and not place.endswith(ODD)
    if isinstance(problem, ValueError) and not is_config:
        return "its URL cannot be read (are the special characters of the password escaped?)"
    return told(problem)


async def _prepare(connect: Connect, place: str) -> None:
    """Check that it is new enough, and make `writers`."""
    connection = await connect()
    try:
        number = int(await connection.fetchval("SHOW server_version_num"))
        if number < OLDEST:
            raise Misconfigured(
                f"the database {place} is PostgreSQL {number // 10000}; rethread needs "
                f"{OLDEST // 10000} or newer"
            )
        await _lock_schema(connection)
        await connection.execute(CREATE)
        await connection.execute(FORGET)
    finally:
        await connection.close()


async def _lock_schema(connection: "Connection[Any]") -> None:
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        logger.info("waiting for another server, which may change the schema")
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)


async def _leave_as_it_is(connection: "Connection[Any]") -> None:
    """Readers change nothing in their session; to reset it would cost more than to read."""
