"""No sandbox: the code runs as this server's user, and can do what that can. Only by name.

The limits on memory, processes and open files are those of the system, for each process.
"""

import asyncio
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rethread.tools.code_interpreter.sandbox import (
    DATA,
    SOCKETS,
    Box,
    Command,
    Limit,
    Limits,
    Place,
    StartFailed,
)


class BareBox:
    """A process in a session of its own."""

    over: Limit | None = None
    stderr = ""

    def __init__(self, place: Place, process: asyncio.subprocess.Process) -> None:
        self.place = place
        self._process = process

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Nothing is watched."""
        yield

    def interrupt(self) -> None:
        """SIGINT for the Python."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it, and what has stayed in its session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def closed(self) -> None:
        """Returns when it has gone."""
        await self._process.wait()
        self.kill()


class Bare:
    """The bare machine."""

    name = "none"

    def __init__(self, python: Path = Path(sys.executable)) -> None:
        self.offers = "Python"
        self._python = python
        self.root = Path(tempfile.mkdtemp(prefix="rethread-"))

    def new_place(self) -> Place:
        """Empty folders."""
        root = Path(tempfile.mkdtemp(dir=self.root))
        place = Place(root, root / "data", root / "run", None)
        place.data.mkdir()
        place.sockets.mkdir()
        return place

    def remove_place(self, place: Place) -> None:
        """Have its folders gone."""
        shutil.rmtree(place.root, ignore_errors=True)

    async def start(self, place: Place, command: Command, limits: Limits) -> Box:
        """Run a command; StartFailed where that can't be."""

        def there(text: str) -> str:
            return text.replace(DATA, str(place.data)).replace(SOCKETS, str(place.sockets))

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        try:
            process = await asyncio.create_subprocess_exec(
                self._python,
                *(there(each) for each in command.arguments),
                cwd=place.data,
                env={
                    "PATH": os.defpath,
                    "HOME": str(place.root),
                    **{name: there(value) for name, value in command.environment.items()},
                },
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=limit,
            )
        except OSError as problem:
            raise StartFailed(str(problem)) from problem
        return BareBox(place, process)

    async def aclose(self) -> None:
        """Remove all places."""
        shutil.rmtree(self.root, ignore_errors=True)
