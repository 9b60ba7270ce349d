"""The sandbox `bubblewrap`: places, the warden and the command line, put together."""

import asyncio
import contextlib
import itertools
import os
import platform
import shutil
from typing import Final, Self, cast, get_args

from rethread.tools.code_interpreter.sandbox import (
    Command,
    Limits,
    NoSandbox,
    Place,
    StartFailed,
    seccomp,
)
from rethread.tools.code_interpreter.sandbox.boxes import Warden, Watched
from rethread.tools.code_interpreter.sandbox.bubblewrap import (
    NEWER,
    Program,
    command_line,
    write_shared,
)
from rethread.tools.code_interpreter.sandbox.places import Places, remove
from rethread.tools.code_interpreter.sandbox.processes import said_by
from rethread.tools.code_interpreter.sandbox.runtime import Runtime
from rethread.tools.code_interpreter.sandbox.syscalls import Machine

PROGRAM: Final = "bwrap"
INSTALL: Final = (
    "Code needs a sandbox: bubblewrap on Linux (Debian, Ubuntu: apt install bubblewrap; Fedora:"
    " dnf install bubblewrap), or docker or podman, named with --sandbox"
)


class Bubblewrap:
    """Boxes by bubblewrap."""

    name = "bubblewrap"

    def __init__(self, program: Program, runtime: Runtime, places: Places) -> None:
        self.offers = runtime.offers
        self._program = program
        self._runtime = runtime
        self._places = places
        self._filter = places.shared / "filter"
        self._warden: Warden | None = None
        self._starting = asyncio.Lock()
        self._core = itertools.count()

    @classmethod
    async def found(cls, runtime: Runtime) -> Self:
        """The sandbox, after a box was seen to come up; NoSandbox with the reason if none does."""
        path = shutil.which(PROGRAM)
        machine = cast(Machine, platform.machine())
        if path is None:
            raise NoSandbox(f"bubblewrap is not installed. {INSTALL}")
        if machine not in get_args(Machine):
            raise NoSandbox(f"bubblewrap is used on {' and '.join(get_args(Machine))} only")
        places = Places()
        write_shared(places.shared, runtime)
        known = await said_by(path, "--help") or ""
        if "--size" not in known:
            raise NoSandbox("bubblewrap 0.7 or newer is needed, and an older one is installed")
        options = tuple(each for each in NEWER if each in known)
        sandbox = cls(Program(path, options), runtime, places)
        sandbox._filter.write_bytes(seccomp.program(machine))
        try:
            await sandbox._try()
        except BaseException:
            await sandbox.aclose()
            raise
        return sandbox

    def new_place(self) -> Place:
        """Empty folders for one box."""
        return self._places.new()

    def remove_place(self, place: Place) -> None:
        """Have them gone."""
        remove(place.root)

    async def start(self, place: Place, command: Command, limits: Limits) -> Watched:
        """A box in which the command runs."""
        async with self._starting:
            if self._warden is None or not self._warden.is_alive:
                self._warden = await self._new_warden()
        return await self._warden.start(
            place,
            command_line(
                self._program,
                self._shown(),
                place,
                command,
                limits,
                self._places.shared,
            ),
            limits,
            filter=self._filter,
            cores=self._next_cores(limits.cpus),
        )

    async def aclose(self) -> None:
        """End all boxes and remove all places."""
        if self._warden is not None:
            await self._warden.aclose()
        await asyncio.to_thread(self._places.close)

    async def _try(self) -> None:
        place = self.new_place()
        try:
            box = await self.start(place, Command(("-c", "import ipykernel"), {}), Limits())
        except StartFailed as failure:
            raise NoSandbox(f"bubblewrap can't make a box here: {failure.message}") from failure
        await box.closed()
        with contextlib.suppress(OSError):
            self.remove_place(place)
        if complaint := box.stderr.strip():
            last = complaint.rpartition("\n")[2]
            raise NoSandbox(f"the runtime does not work in a box: {last}")

    async def _new_warden(self) -> Warden:
        warden = await Warden.started(self._places.root)
        if os.geteuid() == 0:
            problem = await warden.show([mount.source for mount in self._runtime.mounts])
            if problem is not None:
                await warden.aclose()
                raise StartFailed(f"the runtime can't be shown to another user: {problem}")
        return warden

    def _shown(self) -> Runtime:
        """The runtime where the users of boxes can reach it."""
        if os.geteuid() != 0:
            return self._runtime
        shown = self._places.root / "shown"
        mounts = (
            mount._replace(source=shown / str(number))
            for number, mount in enumerate(self._runtime.mounts)
        )
        return self._runtime._replace(mounts=tuple(mounts))

    def _next_cores(self, count: int) -> list[int]:
        """So many cores, each box beginning at the next one."""
        cores = sorted(os.sched_getaffinity(0))
        first = next(self._core)
        return [cores[(first + number) % len(cores)] for number in range(min(count, len(cores)))]
