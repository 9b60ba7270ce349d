"""Connections to PostgreSQL, and which problems mean that one is lost rather than wrong."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from asyncpg import exceptions

from rethread.errors import Unavailable

if TYPE_CHECKING:
    from asyncpg import Connection

# Long enough for a restart of the database, short enough for a client that waits.
WAIT_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
APPLICATION: Final = "rethread"

Connect = Callable[[], Awaitable["Connection[Any]"]]

# What a database says that stops, starts, has failed over, or has no connection to spare.
_LOST: Final = (
    OSError,
    TimeoutError,
    EOFError,
    exceptions.PostgresConnectionError,
    exceptions.AdminShutdownError,
    exceptions.CrashShutdownError,
    exceptions.CannotConnectNowError,
    exceptions.TooManyConnectionsError,
    exceptions.ReadOnlySQLTransactionError,
    exceptions.InternalClientError,
)


def is_lost(problem: BaseException) -> bool:
    """Whether the same question may be answered on another connection."""
    if isinstance(problem, exceptions.InterfaceError):
        return not isinstance(problem, ValueError)  # that would be a wrong argument
    return isinstance(problem, _LOST)


def connector(url: str, *, statement_cache_size: int = 200) -> Connect:
    """Opens one connection a call."""

    async def connect() -> "Connection[Any]":
        return await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            statement_cache_size=statement_cache_size,
            server_settings={"application_name": APPLICATION},
        )

    return connect


class Patience:
    """How long one request may wait for a database that is away."""

    def __init__(self, since: float | None = None) -> None:
        self._until = (time.monotonic() if since is None else since) + WAIT_SECONDS
        self._pause = 0.05

    @property
    def seconds_left(self) -> float:
        """What is left of it; 0 when it is over."""
        return max(0.0, self._until - time.monotonic())

    def next_pause(self, problem: BaseException) -> float:
        """Seconds until the next try; Unavailable when there is no time for one."""
        if self.seconds_left <= self._pause:
            raise Unavailable(f"The database does not answer: {told(problem)}.") from problem
        pause, self._pause = self._pause, min(0.5, self._pause * 2)
        return pause


def told(problem: BaseException) -> str:
    """A problem in a line; a time-out has no words of its own."""
    return str(problem).strip().rstrip(".") or type(problem).__name__
