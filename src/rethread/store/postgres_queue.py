"""What waits to be written to PostgreSQL, and what of it goes into one transaction.

Nothing of the database here: `postgres_writer` takes from it.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from rethread.store.postgres_shapes import HELD, shape_of
from rethread.store.statements import Row, Statement

MOST_WRITES: Final = 64  # in one transaction; PostgreSQL keeps 64 subtransactions at hand
MOST_BYTES: Final = 32 * 1024 * 1024  # likewise; PostgreSQL takes no question of a gigabyte
CONFLICT_PAUSE_SECONDS: Final = 0.25


class Write:
    """Statements on their way to the disk, and whoever waits for them."""

    __slots__ = ("asked_at", "done", "shape", "size", "statements")

    def __init__(self, statements: Sequence[Statement], done: asyncio.Future[list[Row]]) -> None:
        self.statements = statements
        self.done = done
        self.shape = shape_of(statements)
        self.size = sum(
            len(value)
            for statement in statements
            for value in statement.arguments
            if isinstance(value, bytes | str)
        )
        self.asked_at = time.monotonic()

    @property
    def order(self) -> tuple[tuple[str, ...], str]:
        """The same order on every server, so that two never wait for each other's rows."""
        arguments = self.statements[0].arguments
        return (self.shape.statements if self.shape else ()), str(arguments[:1])

    @property
    def changes_schema(self) -> bool:
        """Whether it is one of those that may take minutes."""
        return any(each.sql.split(maxsplit=1)[0] not in HELD for each in self.statements)

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
        self._put_back = 0  # how many are not to be tried again just yet
        self.is_closed = False

    def put(self, write: Write) -> None:
        """Have it written."""
        self._waiting.append(write)
        self._is_filled.set()

    def put_back(self, write: Write) -> None:
        """Have it tried again in a moment."""
        self._put_back += 1
        pause = CONFLICT_PAUSE_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - to part two
        asyncio.get_running_loop().call_later(pause, self._take_up, write)

    async def take(self) -> list[Write]:
        """What goes into the next transaction; nothing once the queue is closed and empty."""
        while not self._waiting and not (self.is_closed and not self._put_back):
            self._is_filled.clear()
            await self._is_filled.wait()
        batch: list[Write] = []
        size = 0
        while self._waiting and len(batch) < MOST_WRITES:
            size += self._waiting[0].size
            if batch and (self._waiting[0].shape is None or size > MOST_BYTES):
                break  # a long write has a transaction of its own
            batch.append(self._waiting.popleft())
            if batch[0].shape is None:
                break
        return sorted(batch, key=lambda write: write.order)

    def close(self) -> None:
        """Let the writers go when nothing waits any more."""
        self.is_closed = True
        self._is_filled.set()

    def _take_up(self, write: Write) -> None:
        self._put_back -= 1
        self.put(write)
