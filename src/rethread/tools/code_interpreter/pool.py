"""The sessions of this server: so many at most, those of threads and those that wait for one.

A thread keeps its session until it was not used for long, until another thread needs its place, or
until it has one on another server; while a run of its is under way, nobody takes its place. Nothing
is known here of files, nor of what code does.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Container
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from msgspec import Struct

from rethread.errors import RethreadError
from rethread.store import code_sessions
from rethread.store.database import Database
from rethread.tools.code_interpreter.sandbox import StartFailed
from rethread.tools.code_interpreter.session import Session

logger = logging.getLogger("rethread")

SWEEP_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 3.0  # for code to end, before a kernel is started beside it
TOUCH_SECONDS: Final = 60.0  # how old the time of a session's last use may be in the database

Start = Callable[[], Awaitable[Session]]


class Held(Struct):
    """A thread's place among the sessions; its session, once it has one."""

    thread_id: str
    lock: asyncio.Lock
    session: Session | None = None
    users: int = 0
    used_at: float = 0.0  # by the loop's clock
    touched_at: float = 0.0


class Pool:
    """Sessions; started by `start_session` when they are needed, or a little before."""

    def __init__(
        self,
        db: Database,
        start_session: Start,
        *,
        server: str,
        most: int,
        warm: int,
        idle_seconds: float,
        in_runs: Container[str] = (),
    ) -> None:
        self._db = db
        self._start_session = start_session
        self._server = server
        self._most = most
        self._warm = warm
        self._idle_seconds = idle_seconds
        self._in_runs = in_runs  # threads whose runs are under way
        self._held: dict[str, Held] = {}
        self._waiting: deque[Session] = deque()  # for a thread
        self._starting: asyncio.Task[None] | None = None  # another one that will wait
        self._freed = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()
        self._sweeping = asyncio.create_task(self._sweep())

    @asynccontextmanager
    async def held(self, thread_id: str) -> AsyncGenerator[Held]:
        """The thread's place, for one user at a time. Waits for one while all are in use."""
        while thread_id not in self._held:
            if len(self._held) < self._most:
                lock = asyncio.Lock()
                self._held[thread_id] = Held(thread_id, lock)
            elif free := [each for each in self._held.values() if self._is_free(each)]:
                await self.end(min(free, key=lambda each: each.used_at))
            else:
                await self._freed.wait()
        held = self._held[thread_id]
        held.users += 1
        try:
            async with held.lock:
                yield held
        finally:
            held.users -= 1
            held.used_at = _now()
            if held.session is None and not held.users:
                self._let_go(held)
            self.look_again()
            self._fill()

    def look_again(self) -> None:
        """Have those who wait for a place see whether there is one now."""
        self._freed.set()
        self._freed = asyncio.Event()

    async def begin(self, held: Held) -> bool:
        """Give it a session of its own; whether the thread had one before, here or elsewhere."""
        assert held.session is None
        session = await self._taken()
        self._fill()
        try:
            was_there = await code_sessions.begin(
                self._db, held.thread_id, session.id, server=self._server
            )
        except BaseException:
            self._close(session)
            raise
        held.session, held.touched_at = session, _now()
        return was_there

    async def is_current(self, held: Held) -> bool:
        """Whether it has a session that runs, and the thread has none elsewhere."""
        if held.session is None or held.session.is_over:
            return False
        if _now() - held.touched_at > TOUCH_SECONDS:
            held.touched_at = _now()
            await code_sessions.touch(self._db, held.thread_id, held.session.id)
        current = await code_sessions.current(self._db, [held.thread_id])
        return current.get(held.thread_id) == held.session.id

    def drop(self, held: Held) -> None:
        """Have its session end by itself, without another place for its thread."""
        if held.session is not None:
            self._close(held.session)
            held.session = None

    async def end(self, held: Held) -> None:
        """End its session, and have its place free."""
        session = held.session
        self._let_go(held)
        self.drop(held)
        if session is not None:
            await code_sessions.end(self._db, held.thread_id, session.id)

    def fill(self) -> None:
        """Start what shall wait for a thread."""
        self._fill()

    async def aclose(self) -> None:
        """End them all."""
        self._sweeping.cancel()
        self._warm = 0
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        for held in list(self._held.values()):
            self.drop(held)
        while self._waiting:
            self._close(self._waiting.popleft())
        await asyncio.gather(self._sweeping, *self._ending, return_exceptions=True)
        with suppress(RethreadError):  # a database that is away learns it by our silence
            await code_sessions.end_all(self._db, self._server)

    def _is_free(self, held: Held) -> bool:
        """Whether another thread may have the place."""
        return not held.users and held.thread_id not in self._in_runs

    def _let_go(self, held: Held) -> None:
        if self._held.get(held.thread_id) is held:
            del self._held[held.thread_id]

    def _close(self, session: Session) -> None:
        """Kill it now; the rest goes on by itself."""
        session.kill()
        closing = asyncio.create_task(session.aclose())
        self._ending.add(closing)
        closing.add_done_callback(self._ending.discard)

    async def _taken(self) -> Session:
        """One that waits, or will soon; else a new one."""
        while self._waiting or self._starting:
            if self._waiting:
                session = self._waiting.popleft()
                if not session.is_over:
                    return session
                self._close(session)
            elif self._starting:
                await asyncio.wait({self._starting})
        return await self._start_session()

    def _fill(self, *, is_urgent: bool = False) -> None:
        """Start one that waits, where one is missing; a little later, while code is run."""
        if len(self._waiting) >= self._warm or self._starting is not None:
            return
        if is_urgent or not any(each.users for each in self._held.values()):
            self._starting = asyncio.create_task(self._start_one())
        else:
            later = partial(self._fill, is_urgent=True)
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, later)

    async def _start_one(self) -> None:
        try:
            self._waiting.append(await self._start_session())
        except StartFailed as problem:  # whoever needs one learns it, too
            logger.error("no session for code", extra={"fields": {"problem": problem.message}})
        else:
            asyncio.get_running_loop().call_soon(self._fill)
        finally:
            self._starting = None

    async def _sweep(self) -> None:
        """End the sessions that were not used for long, and those that are not the thread's."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            idle = [each for each in self._held.values() if not each.users]
            if not idle:
                continue
            try:
                current = await code_sessions.current(self._db, [each.thread_id for each in idle])
                for held in idle:
                    if not held.users and not self._is_wanted(held, current.get(held.thread_id)):
                        await self.end(held)
            except RethreadError as problem:
                fields = {"problem": problem.message}
                logger.warning("sessions not looked after", extra={"fields": fields})

    def _is_wanted(self, held: Held, current: str | None) -> bool:
        session = held.session
        is_used = _now() - held.used_at <= self._idle_seconds
        return session is not None and not session.is_over and session.id == current and is_used


def _now() -> float:
    return asyncio.get_running_loop().time()
