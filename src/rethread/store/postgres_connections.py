"""Connections to PostgreSQL, and which problems mean that one is lost rather than wrong."""

import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from asyncpg import exceptions

from rethread.errors import Unavailable

if TYPE_CHECKING:
    from asyncpg import Connection

CONNECT_SECONDS: Final = 5.0
APPLICATION: Final = "rethread"

Connect = Callable[[], Awaitable["Connection[Any]"]]

# What is wrong at the start, and passes where it was right before: a password that is being
# changed, a database that is being put back.
_NOT_LET_IN: Final = (
    exceptions.InvalidAuthorizationSpecificationError,
    exceptions.InvalidCatalogNameError,
)
# What a database says that stops, starts, has failed over, or has no connection to spare.
_LOST: Final = (
    OSError,
    TimeoutError,
    EOFError,
    exceptions.PostgresConnectionError,
    exceptions.AdminShutdownError,
    exceptions.CrashShutdownError,
    exceptions.CannotConnectNowError,
    exceptions.IdleInTransactionSessionTimeoutError,
    exceptions.IdleSessionTimeoutError,
    exceptions.TooManyConnectionsError,
    exceptions.ReadOnlySQLTransactionError,
    exceptions.InternalClientError,
    *_NOT_LET_IN,
)
# The server has no room or no time for it: nobody's fault here, and it may pass.
OUT_OF_RESOURCES: Final = "53"
LOCKED: Final = "55P03"
CANCELLED: Final = "57014"  # by a time limit of the database, or by whoever looks after it


def is_lost(problem: BaseException) -> bool:
    """Whether the same question may be answered on another connection."""
    if isinstance(problem, exceptions.InterfaceError):
        return not isinstance(problem, ValueError)  # that would be a wrong argument
    return isinstance(problem, _LOST)


def is_let_in(problem: BaseException) -> bool:
    """Whether it is no refusal of the user, the password or the database's name."""
    return not isinstance(problem, _NOT_LET_IN)


def may_pass(state: str) -> bool:
    """Whether what a database says with this code is about its own condition."""
    return state.startswith(OUT_OF_RESOURCES) or state in (LOCKED, CANCELLED)


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

    def __init__(self, seconds: float, *, since: float | None = None) -> None:
        self._until = (time.monotonic() if since is None else since) + seconds
        self._pause = 0.05

    @property
    def seconds_left(self) -> float:
        """What is left of it; 0 when it is over."""
        return max(0.0, self._until - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether there is no time for another try."""
        return self.seconds_left <= self._pause

    def next_pause(self, problem: BaseException) -> float:
        """Seconds until the next try; Unavailable when there is no time for one."""
        if self.is_over:
            raise Unavailable(f"The database does not answer: {told(problem)}.") from problem
        pause, self._pause = self._pause, min(0.5, self._pause * 2)
        return pause


def told(problem: BaseException) -> str:
    """A problem in a line, without the addresses that a socket's errors hold."""
    if isinstance(problem, TimeoutError):
        return "it is silent"
    if isinstance(problem, OSError) and problem.errno and problem.errno > 0:
        return os.strerror(problem.errno)
    return str(problem).strip().rstrip(".") or type(problem).__name__
