"""One session: a kernel in its box, with the folder of its files. It runs one code at a time.

What may go wrong with code ends here: it is interrupted at its limits, and its box is killed when
it does not heed that. Nothing is known here of threads, nor of the database.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from functools import cache
from importlib import resources
from typing import Final, Literal, NamedTuple, Self

from rethread.tools.code_interpreter.files import Folder, Look
from rethread.tools.code_interpreter.kernel import Closed, Event, Kernel
from rethread.tools.code_interpreter.sandbox import (
    DATA,
    SOCKETS,
    Box,
    Command,
    Limit,
    Limits,
    Place,
    Sandbox,
    StartFailed,
    hand_in,
)

START_SECONDS: Final = 60.0  # on a machine that is very busy
HEED_SECONDS: Final = 2.0  # from the interrupt on, before the box is killed
HEED_FLOOD_SECONDS: Final = 10.0  # the same where all that is on its way has to be read first
HEED_CANCEL_SECONDS: Final = 0.8  # the same for code whose run was cancelled
GONE_SECONDS: Final = 5.0  # for what a box leaves behind to go, once its kernel has
# What a call may put out in all, shown or not: then it is stopped, as it would go on for ever.
MOST_BYTES: Final = 64 * 1024 * 1024
MOST_MESSAGES: Final = 20_000
DATA_PATH: Final = re.compile(rf"{DATA}(?![\w-])")
# No folders of settings: IPython and matplotlib have theirs below HOME, which is the box's own. One
# of a fixed name in /tmp could be another user's where there is no sandbox, and IPython runs what
# lies in it.
ENVIRONMENT: Final = {
    "PIP_NO_INDEX": "1",  # says at once that a package is not to be had, and not after five tries
    "PYTHONUTF8": "1",
}

Stop = Literal["time", "output", "exit"] | Limit
Take = Callable[[Event], Awaitable[None]]


class Ended(NamedTuple):
    """Why code was stopped, if it was, and whether the session is over."""

    stop: Stop | None
    is_over: bool


class Session:
    """A kernel that has answered."""

    def __init__(self, sandbox: Sandbox, box: Box, kernel: Kernel) -> None:
        self.id = secrets.token_hex(8)
        self.folder = Folder(box.place.data)
        self.originals: dict[str, str] = {}  # the files that were put in, by their names
        self.known: dict[str, Look] = {}  # what is in the folder and is kept, or was put in
        self._sandbox, self._box, self._kernel = sandbox, box, kernel
        self._closing = asyncio.create_task(box.closed())
        self._is_killed = False

    @classmethod
    async def started(cls, sandbox: Sandbox, limits: Limits) -> Self:
        """A new one; StartFailed where it does not come up."""
        place = sandbox.new_place()
        try:
            box = await _started(sandbox, place, limits)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(sandbox.remove_place, place))
            raise
        return cls(sandbox, *box)

    @property
    def is_over(self) -> bool:
        """Whether the kernel has gone, as far as is known."""
        return self._is_killed or self._kernel.is_closed or self._closing.done()

    async def run(self, code: str, take: Take, *, seconds: float) -> Ended:
        """Run code, its outputs given to `take`, which does not raise.

        Who is cancelled waits until the code has ended, for less than a second.
        """
        flood = _Flood(take)
        with self._box.watch():
            executing = asyncio.create_task(self._kernel.execute(self._here(code), flood.take))
            try:
                return await self._ended(executing, flood, seconds=seconds)
            except BaseException:
                await self._stop(executing, HEED_CANCEL_SECONDS)
                raise
            finally:
                if not executing.done():
                    self.kill()
                executing.cancel()
                await asyncio.gather(executing, return_exceptions=True)

    def kill(self) -> None:
        """End all that runs in it, at once."""
        self._is_killed = True
        self._box.kill()

    async def aclose(self) -> None:
        """Kill it, and have nothing of it left."""
        self.kill()
        await asyncio.shield(self._left())

    def _here(self, code: str) -> str:
        """With the folder as it is called where the code runs: without a sandbox nothing puts it at
        DATA, which models write out.
        """
        if self._sandbox.name != "none":
            return code
        return DATA_PATH.sub(lambda _: str(self._box.place.data), code)

    async def _left(self) -> None:
        self._kernel.close()
        await self._gone()
        self.folder.close()
        await asyncio.to_thread(self._sandbox.remove_place, self._box.place)

    async def _gone(self) -> None:
        """Wait until nothing of it runs; not for ever, as without a sandbox a process may hide."""
        await asyncio.wait({self._closing}, timeout=GONE_SECONDS)

    async def _ended(
        self, executing: asyncio.Task[None], flood: "_Flood", *, seconds: float
    ) -> Ended:
        over = asyncio.create_task(flood.is_too_much.wait())
        try:
            done, _ = await asyncio.wait(
                {executing, over, self._closing},
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            over.cancel()
        if executing in done or self._closing in done:
            return await self._after(executing)
        if over in done:
            return Ended("output", is_over=await self._stop(executing, HEED_FLOOD_SECONDS))
        return Ended("time", is_over=await self._stop(executing, HEED_SECONDS))

    async def _after(self, executing: asyncio.Task[None]) -> Ended:
        """How it ended: code or kernel came to its end."""
        try:
            async with asyncio.timeout(GONE_SECONDS):
                await executing
        except (Closed, TimeoutError):
            self.kill()
            await self._gone()
            return Ended(self._box.over or "exit", is_over=True)
        return Ended(None, is_over=False)

    async def _stop(self, executing: asyncio.Task[None], seconds: float) -> bool:
        """Interrupt the code, kill it if it goes on; whether it had to be killed."""
        if not executing.done():
            self._box.interrupt()
            await asyncio.wait({executing}, timeout=seconds)
        if executing.done() and executing.exception() is None:
            return False
        self.kill()
        return True


class _Flood:
    """Gives outputs on, until there are too many."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._bytes = self._messages = 0
        self.is_too_much = asyncio.Event()

    async def take(self, event: Event | None, size: int) -> None:
        """One more message, with its size; the output that is in it, if it has one."""
        self._bytes += size
        self._messages += 1
        if self._bytes > MOST_BYTES or self._messages > MOST_MESSAGES:
            self.is_too_much.set()
        elif event is not None:
            await self._take(event)


async def _started(sandbox: Sandbox, place: Place, limits: Limits) -> tuple[Box, Kernel]:
    key = secrets.token_hex(32)
    hand_in(place, "key", key.encode("ascii"))
    command = Command(("-c", _boot(), SOCKETS), ENVIRONMENT)
    box = await sandbox.start(place, command, limits)
    coming = asyncio.create_task(Kernel.ready(place.sockets, key))
    closing = asyncio.create_task(box.closed())
    try:
        await asyncio.wait(
            {coming, closing}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not coming.done() or coming.exception() is not None:
            raise StartFailed(f"No kernel came up: {box.stderr.strip() or 'it says nothing'}")
        return box, coming.result()
    except BaseException:
        box.kill()
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await asyncio.wait({closing}, timeout=GONE_SECONDS)
        raise
    finally:
        closing.cancel()


@cache
def _boot() -> str:
    return resources.files(__package__).joinpath("boot.py").read_text("utf-8")
