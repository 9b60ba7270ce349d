"""A box that is a process of the server's own, where nobody else has to be asked to end it."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rethread.tools.code_interpreter.sandbox import Limit, Place, StartFailed

KEPT_OUTPUT: Final = 4096
Kill = Callable[[], None]


class ProcessBox:
    """A `Box`: a process, and how it and what it started are interrupted and killed."""

    def __init__(
        self,
        place: Place,
        process: asyncio.subprocess.Process,
        *,
        interrupt: Kill,
        kill: Kill,
        limit_of: Callable[[int], Limit | None] = lambda _: None,
        output: Path | None = None,
    ) -> None:
        self.place = place
        self.over: Limit | None = None
        self.stderr = ""
        self._process = process
        self._interrupt, self._kill, self._limit_of = interrupt, kill, limit_of
        self._output = output
        self._was_killed = False
        self._ending = asyncio.create_task(self._end())

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Nothing is done more often."""
        yield

    def interrupt(self) -> None:
        """SIGINT for its Python."""
        if not self._ending.done():
            self._interrupt()

    def kill(self) -> None:
        """End all of it."""
        if not self._was_killed:
            self._was_killed = True
            self._kill()

    def pass_limit(self, limit: Limit) -> None:
        """End it because of a limit."""
        self.over = self.over or limit
        self.kill()

    async def closed(self) -> None:
        """Wait until it has ended."""
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        kept = b""
        if self._process.stderr is not None:
            while some := await self._process.stderr.read(65536):
                kept = (kept + some)[-KEPT_OUTPUT:]
        code = await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._output is not None:
            kept = _end_of(self._output)
        self.stderr = kept.decode("utf-8", "replace")
        if not self._was_killed:
            self.over = self._limit_of(code)
            self.kill()  # what it has left behind


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - KEPT_OUTPUT))
        return file.read()


async def started(
    line: list[str],
    environment: Mapping[str, str],
    *,
    folder: Path,
    output: Path | None = None,
) -> asyncio.subprocess.Process:
    """A process in a session of its own; StartFailed where there is none.

    What it writes goes into the file `output`: who has a pipe waits for all that have its other
    end, also for what the code has left running. Without a file it has pipes for all three.
    """
    written = None if output is None else output.open("wb")
    try:
        return await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.PIPE,
            stdout=written or asyncio.subprocess.PIPE,
            stderr=written or asyncio.subprocess.PIPE,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise StartFailed(f"{line[0]} can't be started: {error}") from error
    finally:
        if written is not None:
            written.close()


async def said_by(*line: str) -> str | None:
    """What a program says about itself; None if it fails or is not there."""
    with contextlib.suppress(OSError):
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return said.decode("utf-8", "replace") if process.returncode == 0 else None
    return None
