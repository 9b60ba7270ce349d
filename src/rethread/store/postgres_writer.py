"""Writes to PostgreSQL: what waits goes into one transaction, and nothing is written twice.

A batch is one question, so its commit is one wait for the disk. Where a connection is lost with
a batch under way, nobody here knows whether it was committed. But the database does: each
writing connection has a row that says which batch it committed last, and what came of it. The
connection that follows takes that row over, which shuts out the lost one, and asks.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import msgspec
from asyncpg import PostgresError

from rethread.errors import Unavailable
from rethread.store.postgres_connections import WAIT_SECONDS, Connect, Patience, is_lost, told
from rethread.store.postgres_shapes import (
    REPLACED,
    WORDS,
    Failed,
    Shape,
    columns_of,
    outcomes,
    shape_of,
    speak,
)
from rethread.store.statements import Row, Statement

if TYPE_CHECKING:
    from asyncpg import Connection

MOST_WRITES: Final = 64  # in one transaction; PostgreSQL keeps 64 subtransactions at hand
MOST_FUNCTIONS: Final = 200  # of one connection; rarer shapes run statement by statement
MOST_TRIES: Final = 5  # of a write that met another's locks
CONFLICTS: Final = ("40001", "40P01")  # serialization failure, deadlock
OUT_OF_RESOURCES: Final = "53"
LEAVE_SECONDS: Final = 2.0

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
LEAVE = "DELETE FROM writers WHERE id = $1 AND session = $2"


class _Refused(Exception):
    """A check gave no row: the transaction is to be undone."""


class _HasNoFunction(Exception):
    """One of the writes is to run statement by statement, so all go by themselves."""


class Write:
    """Statements on their way to the disk, and whoever waits for them."""

    __slots__ = ("asked_at", "done", "shape", "statements", "tries")

    def __init__(self, statements: Sequence[Statement], done: asyncio.Future[list[Row]]) -> None:
        self.statements = statements
        self.done = done
        self.shape = shape_of(statements)
        self.asked_at = time.monotonic()
        self.tries = 0

    @property
    def order(self) -> tuple[tuple[str, ...], str]:
        """The same order on every server, so that two never wait for each other's rows."""
        arguments = self.statements[0].arguments
        return (self.shape.statements if self.shape else ()), str(arguments[:1])

    def settle(self, outcome: list[Row] | BaseException) -> None:
        """Tell the one who waits, if it still does; the write stands either way."""
        if self.done.done():
            return
        if isinstance(outcome, BaseException):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


class Queue:
    """What waits to be written."""

    def __init__(self) -> None:
        self._waiting: deque[Write] = deque()
        self._is_filled = asyncio.Event()
        self.is_closed = False

    def put(self, write: Write) -> None:
        """Have it written."""
        self._waiting.append(write)
        self._is_filled.set()

    async def take(self) -> list[Write]:
        """What goes into the next transaction; nothing once the queue is closed and empty."""
        while not self._waiting and not self.is_closed:
            self._is_filled.clear()
            await self._is_filled.wait()
        batch: list[Write] = []
        while self._waiting and len(batch) < MOST_WRITES:
            if self._waiting[0].shape is None and batch:
                break  # a long write has a transaction of its own
            batch.append(self._waiting.popleft())
            if batch[0].shape is None:
                break
        return sorted(batch, key=lambda write: write.order)

    def close(self) -> None:
        """Let the writers go when nothing waits any more."""
        self.is_closed = True
        self._is_filled.set()


class Writer:
    """One writing connection, made again whenever it is lost."""

    def __init__(self, connect: Connect, queue: Queue) -> None:
        self._id = secrets.token_hex(8)
        self._connect = connect
        self._queue = queue
        self._connection: Connection[Any] | None = None
        self._functions: dict[Shape, str] = {}
        self._session = 0
        self._number = 0  # of the batch that is under way, or was last
        self._committed = 0  # the number that the database knew when the session began
        self._outcome = ""

    async def run(self) -> None:
        """Write what the queue gives, until it is closed and empty."""
        while batch := await self._queue.take():
            self._number += 1
            await self._settle(batch)
        await self._leave()

    async def _settle(self, batch: list[Write]) -> None:
        """Carry the batch out as a whole; one by one if something in it breaks it all."""
        try:
            found = await self._carry_out(batch)
        except Unavailable as problem:
            for write in batch:
                write.settle(problem)
        except Exception as problem:  # a value that PostgreSQL does not take: whose was it?
            if len(batch) == 1:
                batch[0].settle(_shown(problem))
                return
            for write in batch:
                self._number += 1
                await self._settle([write])
        else:
            for write, outcome in zip(batch, found, strict=True):
                self._settle_one(write, outcome)

    def _settle_one(self, write: Write, outcome: list[Row] | Failed) -> None:
        if not isinstance(outcome, Failed):
            write.settle(outcome)
        elif outcome.state in CONFLICTS and write.tries < MOST_TRIES:
            write.tries += 1
            self._queue.put(write)
        elif outcome.state.startswith(OUT_OF_RESOURCES):
            write.settle(Unavailable(f"The database cannot write: {outcome.message}."))
        else:
            write.settle(RuntimeError(f"{outcome.state}: {outcome.message}"))

    async def _carry_out(self, batch: list[Write]) -> list[list[Row] | Failed]:
        patience = Patience(since=min(write.asked_at for write in batch))
        while True:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    connection = await self._connected()
                    if self._committed == self._number:  # it was, before the connection was lost
                        return outcomes(self._outcome)
                    return await self._ask(connection, batch)
            except Exception as problem:
                if not is_lost(problem) and not _is_replaced(problem):
                    raise
                self._drop()
                await asyncio.sleep(patience.next_pause(problem))

    async def _ask(
        self, connection: "Connection[Any]", batch: list[Write]
    ) -> list[list[Row] | Failed]:
        """One question for the whole batch: a call of one function for each shape in it."""
        calls: list[str] = []
        arguments: list[Any] = [self._id, self._session, self._number]
        for shape, writes in groupby(batch, key=lambda write: write.shape):
            name = await self._function(connection, shape)
            if name is None and len(batch) > 1:
                raise _HasNoFunction
            if name is None:
                return [await self._transact(connection, batch[0].statements)]
            columns = columns_of([write.statements for write in writes])
            places = range(len(arguments) + 1, len(arguments) + len(columns) + 1)
            is_first = "false" if calls else "true"
            calls.append(f"{name}($1, $2, $3, {is_first}, {', '.join(f'${n}' for n in places)})")
            arguments += columns
        answer = await connection.fetchrow(f"SELECT {', '.join(calls)}", *arguments)
        return outcomes(",".join(answer or ()))

    async def _function(self, connection: "Connection[Any]", shape: Shape | None) -> str | None:
        """The session's function for a shape; None where it shall have none."""
        if shape is None:
            return None
        if shape not in self._functions and len(self._functions) < MOST_FUNCTIONS:
            name = f"pg_temp.write_{len(self._functions)}"
            await shape.create(connection, name)
            self._functions[shape] = name
        return self._functions.get(shape)

    async def _transact(
        self, connection: "Connection[Any]", statements: Sequence[Statement]
    ) -> list[Row]:
        """One write, statement by statement; what is said again and again goes out as one."""
        rows: list[Row] = []
        try:
            async with connection.transaction():
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
                outcome = msgspec.json.encode([dict(enumerate(row)) for row in rows]).decode()
                remembering = (self._id, self._session, self._number, outcome)
                if not await connection.fetch(REMEMBER, *remembering):
                    raise ConnectionError("another session writes in place of this one")
        except _Refused:
            return []
        return rows

    async def _connected(self) -> "Connection[Any]":
        if self._connection is None or self._connection.is_closed():
            self._drop()
            connection = await self._connect()
            try:
                row = await connection.fetchrow(TAKE_OVER, self._id)
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
        """Take the row along; one that is left behind is cleaned away some day."""
        with suppress(Exception):
            async with asyncio.timeout(LEAVE_SECONDS):
                if self._connection is not None:
                    await self._connection.execute(LEAVE, self._id, self._session)
                    await self._connection.close()
        self._drop()


async def _execute(connection: "Connection[Any]", statements: Sequence[Statement]) -> None:
    sql = speak(statements[0].sql)
    if statements[0].arguments:
        await connection.executemany(sql, [statement.arguments for statement in statements])
    else:
        for _ in statements:
            await connection.execute(sql)


def _is_replaced(problem: BaseException) -> bool:
    return isinstance(problem, PostgresError) and problem.sqlstate == REPLACED


def _shown(problem: Exception) -> Exception:
    """What the one who asked is told: a server without room is away, the rest is a fault."""
    state = getattr(problem, "sqlstate", None) or ""
    if state.startswith(OUT_OF_RESOURCES):
        return Unavailable(f"The database cannot write: {told(problem)}.")
    return problem
