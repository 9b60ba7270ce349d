"""Writes to PostgreSQL: what waits goes into one transaction, and nothing is written twice.

A batch is one question, so its commit is one wait for the disk. Where a connection is lost with
a batch under way, nobody here knows whether it was committed. But the database does: each
writing connection has a row that says which batch it committed last, and what came of it. The
connection that follows takes that row over, which shuts out the lost one, and asks.

A write that meets a lock which somebody keeps is put back and tried again: it must not hold up
the others, of which one says that this server is alive.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count, groupby
from typing import TYPE_CHECKING, Any, Final

import msgspec
from asyncpg import PostgresError

from rethread.errors import Unavailable
from rethread.store.postgres_connections import (
    LOCKED,
    Connect,
    Patience,
    is_lost,
    may_pass,
    told,
)
from rethread.store.postgres_queue import Queue, Write
from rethread.store.postgres_shapes import (
    REPLACED,
    WORDS,
    Failed,
    Shape,
    columns_of,
    outcomes,
    speak,
)
from rethread.store.statements import Row, Statement

if TYPE_CHECKING:
    from asyncpg import Connection

logger = logging.getLogger("rethread.store")

MOST_FUNCTIONS: Final = 200  # of one connection
CONFLICTS: Final = ("40001", "40P01", LOCKED)  # serialization failure, deadlock, a lock kept
SCHEMA_SECONDS: Final = 3600.0  # an index on a large table takes as long as it takes
LAST_LOOK_SECONDS: Final = 1.0
LEAVE_SECONDS: Final = 2.0
LOCK_MILLISECONDS: Final = 250  # shorter than the second after which PostgreSQL sees a deadlock
IDLE_MILLISECONDS: Final = 15_000

CREATE = """
CREATE TABLE IF NOT EXISTS writers (
    id TEXT PRIMARY KEY,
    session BIGINT NOT NULL,
    batch BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    changed_at BIGINT NOT NULL
)
"""
TAKE_OVER = f"""
INSERT INTO writers (id, session, batch, outcome, changed_at)
VALUES ($1, 1, 0, '', {WORDS["{now}"]})
ON CONFLICT (id) DO UPDATE SET session = writers.session + 1, changed_at = {WORDS["{now}"]}
RETURNING session, batch, outcome
"""
REMEMBER = f"""
UPDATE writers SET batch = $3, outcome = $4, changed_at = {WORDS["{now}"]}
 WHERE id = $1 AND session = $2 RETURNING id
"""
# Of servers that did not come to take them along. One that is only idle makes its row again.
FORGET = f"DELETE FROM writers WHERE id <> '' AND changed_at < {WORDS['{now}']} - 86400000"
# What a session whose client has gone may hold up: not a lock, nor a transaction, for long. And
# an answer stands for what is on disk, whatever the database is set up for.
SET_UP = f"""
SELECT set_config('lock_timeout', '{LOCK_MILLISECONDS}', false),
       set_config('idle_in_transaction_session_timeout', '{IDLE_MILLISECONDS}', false),
       CASE WHEN current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', false) END
"""
LEAVE = "DELETE FROM writers WHERE id = $1 AND session = $2"


class _Refused(Exception):
    """A check gave no row: the transaction is to be undone."""


class Writer:
    """One writing connection, made again whenever it is lost."""

    def __init__(self, connect: Connect, queue: Queue, *, wait_seconds: float) -> None:
        self._id = secrets.token_hex(8)
        self._connect = connect
        self._queue = queue
        self._wait_seconds = wait_seconds
        self._connection: Connection[Any] | None = None
        self._functions: dict[Shape, str] = {}  # the one that was used last stands last
        self._made = count()
        self._session = 0
        self._number = 0  # of the batch that is under way, or was last
        self._committed = 0  # the number that the database knew when the session began
        self._outcome = ""
        self._unmade: dict[Shape | None, Failed] = {}  # of that batch: what was not asked for

    async def run(self) -> None:
        """Write what the queue gives, until it is closed and empty."""
        while batch := await self._queue.take():
            self._number += 1
            try:
                await self._settle(self._in_time(batch))
            except Exception as problem:  # whatever it was: without a writer all would wait
                logger.exception("writer failed")
                for write in batch:
                    write.settle(problem)
        await self._leave()

    def _in_time(self, batch: list[Write]) -> list[Write]:
        """Those that have not waited in the queue for too long: their turn may never have come."""
        since = time.monotonic() - self._wait_seconds
        for write in batch:
            if write.asked_at < since:
                write.settle(
                    Unavailable("The database does not keep up with what is to be written.")
                )
        return [write for write in batch if write.asked_at >= since]

    async def _settle(self, batch: list[Write]) -> None:
        """Carry the batch out as a whole; one by one if something in it breaks it all."""
        if not batch:
            return
        try:
            found = await self._carry_out(batch)
        except Unavailable as problem:
            for write in batch:
                write.settle(problem)
        except Exception as problem:  # a value that PostgreSQL does not take: whose was it?
            if len(batch) == 1:
                self._settle_broken(batch[0], problem)
                return
            for write in batch:
                self._number += 1
                await self._settle([write])
        else:
            for write, outcome in zip(batch, found, strict=True):
                if isinstance(outcome, Failed):
                    self._settle_failed(write, outcome)
                else:
                    write.settle(outcome)

    def _settle_broken(self, write: Write, problem: Exception) -> None:
        state = getattr(problem, "sqlstate", None) or ""
        if state in CONFLICTS or may_pass(state):
            self._settle_failed(write, Failed(state, told(problem)))
        else:
            write.settle(problem)

    def _settle_failed(self, write: Write, failed: Failed) -> None:
        is_in_time = time.monotonic() - write.asked_at < self._wait_seconds
        if failed.state in CONFLICTS and is_in_time:
            self._queue.put_back(write)
        elif failed.state in CONFLICTS or may_pass(failed.state):
            write.settle(Unavailable(f"The database cannot write: {failed.message}."))
        else:
            write.settle(RuntimeError(f"{failed.state}: {failed.message}"))

    async def _carry_out(self, batch: list[Write]) -> list[list[Row] | Failed]:
        patience = Patience(self._wait_seconds, since=min(write.asked_at for write in batch))
        is_long = any(write.changes_schema for write in batch)
        is_asked = False
        while True:
            try:
                async with asyncio.timeout(patience.seconds_left):
                    connection = await self._connected()
                if self._committed == self._number:  # it was, before the connection was lost
                    return self._outcomes(batch, self._outcome)
                is_asked = True
                async with asyncio.timeout(SCHEMA_SECONDS if is_long else self._wait_seconds):
                    return await self._ask(connection, batch)
            except Exception as problem:
                if not is_lost(problem) and not _is_replaced(problem):
                    raise
                self._drop()
                if patience.is_over and is_asked and await self._was_committed():
                    return self._outcomes(batch, self._outcome)
                await asyncio.sleep(patience.next_pause(problem))

    async def _was_committed(self) -> bool:
        """A last look at what came of a question; it also shuts out a session still at it."""
        with suppress(Exception):
            async with asyncio.timeout(LAST_LOOK_SECONDS):
                await self._connected()
                return self._committed == self._number
        return False

    async def _ask(
        self, connection: "Connection[Any]", batch: list[Write]
    ) -> list[list[Row] | Failed]:
        """One question for the whole batch: a call of one function for each shape in it."""
        self._unmade.clear()
        calls: list[str] = []
        arguments: list[Any] = [self._id, self._session, self._number]
        for shape, writes in groupby(batch, key=lambda write: write.shape):
            if shape is None:  # it is alone
                return [await self._transact(connection, batch[0].statements)]
            try:
                name = await self._function(connection, shape)
            except PostgresError as problem:
                if is_lost(problem):
                    raise
                self._unmade[shape] = Failed(problem.sqlstate or "", told(problem))
                continue
            columns = columns_of([write.statements for write in writes])
            places = range(len(arguments) + 1, len(arguments) + len(columns) + 1)
            is_first = "false" if calls else "true"
            calls.append(f"{name}($1, $2, $3, {is_first}, {', '.join(f'${n}' for n in places)})")
            arguments += columns
        answer = (
            await connection.fetchrow(f"SELECT {', '.join(calls)}", *arguments) if calls else ()
        )
        return self._outcomes(batch, ",".join(answer or ()))

    def _outcomes(self, batch: list[Write], text: str) -> list[list[Row] | Failed]:
        found = iter(outcomes(text))
        return [self._unmade.get(write.shape) or next(found) for write in batch]

    async def _function(self, connection: "Connection[Any]", shape: Shape) -> str:
        """The session's function for a shape; the one that was not used for longest makes room."""
        name = self._functions.pop(shape, None)
        if name is None:
            if len(self._functions) >= MOST_FUNCTIONS:
                unused = self._functions.pop(next(iter(self._functions)))
                await connection.execute(f"DROP FUNCTION {unused}")
            name = f"pg_temp.write_{next(self._made)}"
            await shape.create(connection, name)
        self._functions[shape] = name
        return name

    async def _transact(
        self, connection: "Connection[Any]", statements: Sequence[Statement]
    ) -> list[Row]:
        """One write, statement by statement, for what no function holds."""
        await connection.execute("BEGIN")
        try:
            rows = await _say(connection, statements)
            outcome = msgspec.json.encode([dict(enumerate(row)) for row in rows]).decode()
            remembering = (self._id, self._session, self._number, outcome)
            if not await connection.fetch(REMEMBER, *remembering):
                raise ConnectionError("another session writes in place of this one")
            await connection.execute("COMMIT")
        except _Refused:
            await connection.execute("ROLLBACK")
            return []
        except Exception as problem:
            # Not where the connection is given up: a ROLLBACK would wait for its answer.
            if not is_lost(problem):
                await connection.execute("ROLLBACK")
            raise
        return rows

    async def _connected(self) -> "Connection[Any]":
        if self._connection is None or self._connection.is_closed():
            self._drop()
            connection = await self._connect()
            try:
                row = await connection.fetchrow(TAKE_OVER, self._id)
                await connection.execute(SET_UP)
            except BaseException:
                connection.terminate()
                raise
            assert row is not None
            self._session, self._committed, self._outcome = row
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None
        self._functions.clear()

    async def _leave(self) -> None:
        """Take the row along; one that is left behind goes with a later start."""
        with suppress(Exception):
            async with asyncio.timeout(LEAVE_SECONDS):
                if self._connection is not None:
                    await self._connection.execute(LEAVE, self._id, self._session)
                    await self._connection.close()
        self._drop()


async def _say(connection: "Connection[Any]", statements: Sequence[Statement]) -> list[Row]:
    """The first check's rows, or _Refused; what is said again and again goes out as one."""
    rows: list[Row] = []
    for sql, alike in groupby(statements, key=lambda statement: statement.sql):
        asked = list(alike)
        if not asked[0].is_check:
            await _execute(connection, asked)
            continue
        for statement in asked:
            found = await connection.fetch(speak(sql), *statement.arguments)
            if not found:
                raise _Refused
            rows = rows or [tuple(row) for row in found]
    return rows


async def _execute(connection: "Connection[Any]", statements: Sequence[Statement]) -> None:
    sql = speak(statements[0].sql)
    if statements[0].arguments:
        await connection.executemany(sql, [statement.arguments for statement in statements])
    else:
        for _ in statements:
            await connection.execute(sql)


def _is_replaced(problem: BaseException) -> bool:
    return isinstance(problem, PostgresError) and problem.sqlstate == REPLACED
