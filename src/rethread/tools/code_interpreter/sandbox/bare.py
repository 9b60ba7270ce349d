"""The sandbox `none`: no sandbox. The code runs as the server does, and can do what it can.

For code that its operator would run himself, and for machines where nothing else is to be had.
It is used only where it is named. Of the limits hold those that a process can be given.
"""

import asyncio
import contextlib
import os
import signal
import sys
from functools import partial
from typing import Final

from rethread.tools.code_interpreter.sandbox import (
    DATA,
    SOCKETS,
    Box,
    Command,
    Limits,
    Place,
    launch,
)
from rethread.tools.code_interpreter.sandbox.places import Places, remove
from rethread.tools.code_interpreter.sandbox.processes import ProcessBox, started
from rethread.tools.code_interpreter.sandbox.runtime import Runtime

PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR", "TZ")


class Bare:
    """Boxes that are none."""

    name = "none"

    def __init__(self, runtime: Runtime) -> None:
        self.offers = runtime.offers
        self._python = str(runtime.host_python)
        self._places = Places(has_owners=False)
        self._boxes: set[ProcessBox] = set()

    def new_place(self) -> Place:
        """Empty folders."""
        return self._places.new()

    def remove_place(self, place: Place) -> None:
        """Have them gone."""
        remove(place.root)

    async def start(self, place: Place, command: Command, limits: Limits) -> Box:
        """The command, as it is."""
        line = [
            *(self._python, "-I", "-S", launch.__file__, "tied", rlimits(limits)),
            *(self._python, *(_here(each, place) for each in command.arguments)),
        ]
        variables = {name: _here(value, place) for name, value in command.environment.items()}
        output = place.root / "output"
        process = await started(
            line, _environment(place) | variables, folder=place.data, output=output
        )
        box = ProcessBox(
            place,
            process,
            interrupt=partial(_signal_one, process.pid),
            kill=partial(_signal_group, process.pid),
            output=output,
        )
        self._boxes.add(box)
        return box

    async def aclose(self) -> None:
        """End all that is known of."""
        for box in self._boxes:
            box.kill()
            await box.closed()
        await asyncio.to_thread(self._places.close)


def rlimits(limits: Limits) -> str:
    """What holds for each process; on Linux memory, too."""
    given = {"NOFILE": limits.open_files, "FSIZE": limits.disk_bytes, "CORE": 0}
    if sys.platform == "linux":
        given["DATA"] = limits.memory_bytes
    return ",".join(f"{name}={value}" for name, value in given.items())


def _environment(place: Place) -> dict[str, str]:
    """Not the server's: there are keys in that."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        **passed_on,
        "HOME": str(place.sockets),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }


def _here(text: str, place: Place) -> str:
    """With the paths as they are on this machine."""
    return text.replace(DATA, str(place.data)).replace(SOCKETS, str(place.sockets))


def _signal_one(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGINT)


def _signal_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
