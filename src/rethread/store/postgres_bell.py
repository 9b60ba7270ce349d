"""Wake-ups between servers, and the time that all of them go by. One connection for both.

A topic that is notified here is heard here at once, and by the others through NOTIFY: what is
rung while one question is under way goes along with the next. A wake-up may be lost with a
connection; so whoever waits looks again now and then, and all do after it was.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from rethread.store.postgres_connections import told
from rethread.store.wakeups import Wakeups

if TYPE_CHECKING:
    from asyncpg import Connection

logger = logging.getLogger("rethread.store")

CHANNEL: Final = "rethread"
PAYLOAD_BYTES: Final = 7900  # PostgreSQL takes 7999
BEAT_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0  # a connection that is silent for longer is as good as lost
RETRY_SECONDS: Final = 0.2
CLOSE_SECONDS: Final = 2.0

# A notification is nothing that a crash could lose: no need to wait for the disk.
SET_UP = "SET synchronous_commit = off"
RING = "SELECT pg_notify($1, topics) FROM unnest(CAST($2 AS TEXT[])) AS topics"
TIME = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


class Bell:
    """The connection that rings, hears and tells the time; open it before use."""

    def __init__(
        self, connect: Callable[[], Awaitable["Connection[Any]"]], wakeups: Wakeups
    ) -> None:
        self._connect = connect
        self._wakeups = wakeups
        self._pending: dict[str, None] = {}  # a set that keeps its order
        self._is_rung = asyncio.Event()
        self._connection: Connection[Any] | None = None
        self._running: asyncio.Task[None] | None = None
        self._offset = time.time() - time.monotonic()  # until the database has said its own

    async def open(self) -> None:
        """Listen, and know the time, when this returns; whatever connecting raises."""
        self._connection = await self._hear()
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ring what waits, if that can be had quickly, and let go."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ring()
                assert self._connection is not None
                await self._connection.close()
        self._drop()

    def now(self) -> float:
        """The database's time in Unix seconds; a clock that jumps here does not move it."""
        return time.monotonic() + self._offset

    def ring(self, topic: str) -> None:
        """Have the other servers hear of the topic."""
        self._pending[topic] = None
        self._is_rung.set()

    async def _run(self) -> None:
        beat = 0.0
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._hear()
                    self._wakeups.notify_all()  # some may have been missed
                    logger.info("the database is back")
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_SECONDS):
                        await self._is_rung.wait()
                await self._ring()
                if time.monotonic() - beat > BEAT_SECONDS:
                    await self._look_at_the_clock(self._connection)
                    beat = time.monotonic()
            except Exception as problem:  # whatever it was: a server that is deaf is of no use
                if self._connection is not None:
                    fields = {"problem": told(problem)}
                    logger.warning("the database does not answer", extra={"fields": fields})
                self._drop()
                await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self) -> "Connection[Any]":
        connection = await self._connect()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await connection.execute(SET_UP)
                await connection.add_listener(CHANNEL, self._heard)
                await self._look_at_the_clock(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _heard(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        if pid == connection.get_server_pid():
            return  # it was heard here when it was rung
        for topic in str(payload).split():
            self._wakeups.notify(topic, from_afar=True)

    async def _ring(self) -> None:
        self._is_rung.clear()
        if not self._pending or self._connection is None:
            return
        topics, self._pending = self._pending, {}
        try:
            await self._connection.execute(RING, CHANNEL, _payloads(topics), timeout=ANSWER_SECONDS)
        except BaseException:
            self._pending = topics | self._pending  # for the next connection
            raise

    async def _look_at_the_clock(self, connection: "Connection[Any]") -> None:
        asked = time.monotonic()
        now = await connection.fetchval(TIME, timeout=ANSWER_SECONDS)
        self._offset = now - (asked + time.monotonic()) / 2

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None


def _payloads(topics: dict[str, None]) -> list[str]:
    """The topics with spaces between them, in as few pieces as PostgreSQL takes."""
    payloads = [""]
    for topic in topics:
        if len(payloads[-1]) + len(topic) >= PAYLOAD_BYTES:
            payloads.append("")
        payloads[-1] += f" {topic}"
    return payloads
