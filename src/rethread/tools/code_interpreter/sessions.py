"""code_interpreter, as a run uses it: code goes to the session of its thread, outputs come back.

Before the code, the session gets the files that it does not have yet; after it, what the code has
made becomes files. A session that was made anew has those, and none of the variables.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from rethread.blobs import Blobs
from rethread.contract.steps import CodeOutput, MadeFile
from rethread.errors import ModelError, RethreadError
from rethread.store.database import Database
from rethread.store.files import StoredFile
from rethread.tools.code_interpreter.keeping import keep_image
from rethread.tools.code_interpreter.outputs import ImageOut, LogsOut, Output, Outputs
from rethread.tools.code_interpreter.pool import Held, Pool
from rethread.tools.code_interpreter.sandbox import Limits, NoSandbox, Sandbox, StartFailed
from rethread.tools.code_interpreter.session import MOST_BYTES, Ended, Session, Stop
from rethread.tools.code_interpreter.shelf import Shelf

__all__ = ["Executed", "ImageOut", "LogsOut", "Output", "Sessions", "Terms"]

logger = logging.getLogger("rethread")

MIB: Final = 1024 * 1024
# A machine that is very busy may look as if it had no sandbox, and one may be installed meanwhile.
LOOK_AGAIN_SECONDS: Final = 60.0
ANEW: Final = "The session was started anew: variables of before are gone, files are there."
NOT_STARTED: Final = "No session for code could be started on this server."
OVER: Final = "The session has ended: its variables are gone, its files are kept."


class Terms(NamedTuple):
    """What a session may take, and for how long."""

    limits: Limits
    call_seconds: float
    output_characters: int
    idle_seconds: float
    sessions: int
    warm: int


class Executed(NamedTuple):
    """What came of code; `note` is for the model, beside the outputs."""

    outputs: list[CodeOutput]
    made: list[MadeFile]
    note: str


class Sessions:
    """The sessions of this server, in the sandbox that `find_sandbox` finds when one is needed."""

    def __init__(
        self,
        db: Database,
        blobs: Blobs,
        find_sandbox: Callable[[], Awaitable[Sandbox]],
        terms: Terms,
        *,
        server: str,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._find_sandbox = find_sandbox
        self._terms = terms
        self._server = server
        self._opening: asyncio.Future[tuple[Sandbox, Pool]] | None = None
        self._look_again_at = 0.0  # for a sandbox, where none was found; by the loop's clock
        self._pool: Pool | None = None
        self._in_runs: Counter[str] = Counter()  # threads
        self._warming_up: asyncio.Task[None] | None = None

    async def refusal(self) -> str | None:
        """Why no code can be run here, with what to install; None where it can."""
        try:
            await self._opened()
        except NoSandbox as problem:
            return problem.message
        return None

    async def offers(self) -> str:
        """What the code has to work with, in sentences; nothing where there is no sandbox."""
        try:
            sandbox, _ = await self._opened()
        except NoSandbox:
            return ""
        seconds, memory = self._terms.call_seconds, self._terms.limits.memory_bytes // MIB
        limits = f"A call may take {seconds:g} seconds, and all {memory} MB of memory."
        return f"{sandbox.offers}. {limits}"

    @contextmanager
    def in_run(self, thread_id: str) -> Iterator[None]:
        """Have the thread keep its session meanwhile: between two calls a run asks its model."""
        self._in_runs[thread_id] += 1
        try:
            yield
        finally:
            self._in_runs[thread_id] -= 1
            if not self._in_runs[thread_id]:
                del self._in_runs[thread_id]
            if self._pool is not None:
                self._pool.look_again()

    def start(self) -> None:
        """Have kernels wait for the first calls; they come up in their own time."""
        if self._terms.warm:
            self._warming_up = asyncio.create_task(self._warm_up())

    async def close(self) -> None:
        """End all sessions; nothing of them is left."""
        if self._warming_up is not None:
            await asyncio.gather(self._warming_up, return_exceptions=True)
        if self._opening is not None:
            (opened,) = await asyncio.gather(self._opening, return_exceptions=True)
            if not isinstance(opened, BaseException):
                sandbox, pool = opened
                await pool.aclose()
                await sandbox.aclose()

    async def run(
        self,
        project: str,
        thread_id: str,
        files: Sequence[StoredFile],
        code: str,
        *,
        on_output: Callable[[Output], None],
    ) -> Executed:
        """Run code for a thread that has these files; ModelError if there can be no session.

        What goes wrong with the code is an output. Who is cancelled waits for less than a second.
        """
        shelf = Shelf(self._db, self._blobs, project, thread_id)
        outputs = self._outputs(project, on_output)
        try:
            _, pool = await self._opened()
            async with pool.held(thread_id) as held:
                notes = await self._prepare(pool, held, shelf, files)
                ended = await self._execute(held, code, outputs)
                return await self._result(pool, held, shelf, ended, outputs, notes)
        except (NoSandbox, StartFailed) as problem:
            logger.error("no session for code", extra={"fields": {"problem": problem.message}})
            what = problem.message if isinstance(problem, NoSandbox) else NOT_STARTED
            raise ModelError(what, reason="code_interpreter") from problem

    async def _prepare(
        self, pool: Pool, held: Held, shelf: Shelf, files: Sequence[StoredFile]
    ) -> list[str]:
        """Have a session there with all its files; what the model should know of that."""
        most_bytes = self._terms.limits.disk_bytes
        if await pool.is_current(held):
            assert held.session is not None
            return await shelf.put_in(held.session, files, most_bytes=most_bytes)
        pool.drop(held)
        notes = [ANEW] if await pool.begin(held) else []
        assert held.session is not None
        try:
            notes += await shelf.put_in(held.session, files, most_bytes=most_bytes)
            notes += await shelf.put_back(held.session, files, most_bytes=most_bytes)
        except BaseException:
            pool.drop(held)  # half of its files is less than the next call expects
            raise
        return notes

    async def _execute(self, held: Held, code: str, outputs: Outputs) -> Ended:
        assert held.session is not None
        return await held.session.run(code, outputs.take, seconds=self._terms.call_seconds)

    async def _result(
        self,
        pool: Pool,
        held: Held,
        shelf: Shelf,
        ended: Ended,
        outputs: Outputs,
        notes: list[str],
    ) -> Executed:
        assert held.session is not None
        if ended.stop is not None:
            outputs.say(f"{self._words(ended.stop)}{f' {OVER}' if ended.is_over else ''}\n")
        try:
            made, left_out = await shelf.keep_made(held.session)
        except RethreadError as problem:  # the next call may do it
            made, left_out = [], [f"What the code has made is not kept yet: {problem.message}"]
        if ended.is_over:
            pool.drop(held)
        return Executed(outputs.end(), made, "\n".join([*notes, *left_out]))

    def _outputs(self, project: str, on_output: Callable[[Output], None]) -> Outputs:
        async def kept(content: bytes, kind: str) -> str | None:
            try:
                return await keep_image(self._db, self._blobs, project, content, kind=kind)
            except RethreadError as problem:
                fields = {"problem": problem.message}
                logger.error("image not kept", extra={"fields": fields})
                return None

        most = self._terms.output_characters
        return Outputs(most_characters=most, keep_image=kept, on_output=on_output)

    def _words(self, stop: Stop) -> str:
        limits = self._terms.limits
        why: Mapping[Stop, str] = {
            "time": f"it ran for more than {self._terms.call_seconds:g} seconds",
            "output": f"it put out more than {MOST_BYTES // MIB} MB",
            "memory": f"it took more than {limits.memory_bytes // MIB} MB of memory",
            "processes": f"it had more than {limits.processes} processes and threads",
            "disk": f"its files took more than {limits.disk_bytes // MIB} MB",
        }
        if stop == "exit":
            return "The Python process has exited or crashed."
        return f"The code was stopped: {why[stop]}."

    async def _warm_up(self) -> None:
        try:
            _, pool = await self._opened()
        except NoSandbox as problem:
            logger.info("no code can be run", extra={"fields": {"problem": problem.message}})
        else:
            pool.fill()

    async def _opened(self) -> tuple[Sandbox, Pool]:
        now = asyncio.get_running_loop().time()
        if self._opening is None or (_has_failed(self._opening) and now >= self._look_again_at):
            self._opening = asyncio.ensure_future(self._open())
            self._look_again_at = now + LOOK_AGAIN_SECONDS
        return await asyncio.shield(self._opening)

    async def _open(self) -> tuple[Sandbox, Pool]:
        sandbox = await self._find_sandbox()
        level = logging.WARNING if sandbox.name == "none" else logging.INFO
        logger.log(level, "code can be run", extra={"fields": {"sandbox": sandbox.name}})
        terms = self._terms

        async def start_session() -> Session:
            return await Session.started(sandbox, terms.limits)

        pool = Pool(
            self._db,
            start_session,
            server=self._server,
            most=terms.sessions,
            warm=terms.warm,
            idle_seconds=terms.idle_seconds,
            in_runs=self._in_runs,
        )
        self._pool = pool
        return sandbox, pool


def _has_failed(opening: asyncio.Future[tuple[Sandbox, Pool]]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)
