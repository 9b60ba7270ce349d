"""The sandboxes `docker` and `podman`: the same limits, as flags of a container.

For macOS, and for those who have it anyway. `command_line` is pure: it is all that our tests see of
it, as no container runs on our test machines. The kernel's sockets lie in a folder that the
container and this machine share; where that can't carry Unix sockets (Docker Desktop), kernels
don't come up. With gVisor's `runsc` installed, the code meets its kernel and not this one's.
"""

import asyncio
import os
import secrets
import shutil
from functools import partial
from typing import Final, Literal

from rethread.tools.code_interpreter.sandbox import (
    DATA,
    SOCKETS,
    Box,
    Command,
    Limit,
    Limits,
    NoSandbox,
    Place,
    watching,
)
from rethread.tools.code_interpreter.sandbox.places import Places, remove
from rethread.tools.code_interpreter.sandbox.processes import ProcessBox, said_by, started

Engine = Literal["docker", "podman"]

KILLED: Final = 137  # by nobody of ours: the memory was used up
LOOK_SECONDS: Final = 1.0
PASSED_ON: Final = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR")
ASK: Final = (
    "import sys, importlib.metadata as m; m.version('ipykernel');"
    " print('Python %d.%d' % sys.version_info[:2])"
)


class Container:
    """Boxes that are containers of an image."""

    def __init__(self, engine: Engine, image: str, offers: str) -> None:
        self.name: str = engine
        self.offers = offers
        self._engine: Engine = engine
        self._image = image
        # Without an engine of its own user, what a container's root owns is root's here.
        self._places = Places(has_owners=engine == "docker")
        self._boxes: dict[ProcessBox, asyncio.Task[None]] = {}

    @classmethod
    async def found(cls, engine: Engine, image: str | None) -> "Container":
        """The sandbox, after a container was seen to run; NoSandbox with the reason."""
        if shutil.which(engine) is None:
            raise NoSandbox(f"{engine} is not installed")
        if image is None:
            raise NoSandbox(f"{engine} needs an image: name it with --code-image")
        line = [engine, "run", *CONFINED, image, "python", "-c", ASK]
        version = await said_by(*line)
        if version is None:
            raise NoSandbox(f"{engine} can't run {image}, or its Python has no ipykernel")
        return cls(engine, image, version.strip().rpartition("\n")[2])

    def new_place(self) -> Place:
        """Empty folders."""
        return self._places.new()

    def remove_place(self, place: Place) -> None:
        """Have them gone."""
        remove(place.root)

    async def start(self, place: Place, command: Command, limits: Limits) -> Box:
        """A container in which the command runs."""
        container = f"rethread-{secrets.token_hex(8)}"
        line = command_line(self._engine, self._image, container, place, command, limits)
        process = await started(line, _environment(), folder=place.root)
        box = ProcessBox(
            place,
            process,
            interrupt=partial(_signal, self._engine, container, "INT"),
            kill=partial(_signal, self._engine, container, "KILL"),
            limit_of=_limit_of,
        )
        self._boxes[box] = asyncio.create_task(self._watch(box, limits))
        return box

    async def aclose(self) -> None:
        """End all containers and remove all places."""
        for box in list(self._boxes):
            box.kill()
            await box.closed()
        await asyncio.to_thread(self._places.close)

    async def _watch(self, box: ProcessBox, limits: Limits) -> None:
        await _watch_disk(box, limits.disk_bytes)
        del self._boxes[box]


CONFINED: Final = (
    *("--rm", "--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--ipc", "private", "--hostname", "sandbox"),
    *("--log-driver", "none"),  # else the engine keeps on this disk what the code prints
    "--init",  # interrupts do nothing to a first process, and orphans need a parent
)


def command_line(
    engine: Engine, image: str, container: str, place: Place, command: Command, limits: Limits
) -> list[str]:
    """How a container is run. Its memory counts what lies in its /tmp and /dev/shm, too."""
    user = os.getuid() if place.owner is None else place.owner
    group = os.getgid() if place.owner is None else place.owner
    memory = str(limits.memory_bytes)
    variables = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", **command.environment}  # noqa: S108
    return [
        *(engine, "run", *CONFINED, "--name", container, "--user", f"{user}:{group}"),
        *(("--userns", "keep-id") if engine == "podman" and os.geteuid() != 0 else ()),
        *("--memory", memory, "--memory-swap", memory, "--cpus", str(limits.cpus)),
        *("--cpu-shares", "128", "--oom-score-adj", "1000"),
        *("--pids-limit", str(limits.processes)),
        *("--ulimit", f"nofile={limits.open_files}:{limits.open_files}"),
        *("--ulimit", f"fsize={limits.disk_bytes}:{limits.disk_bytes}", "--ulimit", "core=0:0"),
        *("--tmpfs", f"/tmp:rw,nosuid,nodev,size={memory},mode=1777"),  # noqa: S108
        *("--mount", f"type=bind,src={place.data},dst={DATA}"),
        *("--mount", f"type=bind,src={place.sockets},dst={SOCKETS}"),
        *("--workdir", DATA),
        *(word for name in variables for word in ("--env", f"{name}={variables[name]}")),
        *(image, "python", *command.arguments),
    ]


def _environment() -> dict[str, str]:
    """What the engine's client needs of the server's, where there are keys, too."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def _limit_of(exit_code: int) -> Limit | None:
    return "memory" if exit_code == KILLED else None


def _signal(engine: Engine, container: str, signal: str) -> None:
    """Have the engine send it; nobody waits for that."""
    sending = asyncio.create_task(said_by(engine, "kill", "--signal", signal, container))
    _sending.add(sending)
    sending.add_done_callback(_sending.discard)


_sending: Final[set[asyncio.Task[str | None]]] = set()


async def _watch_disk(box: ProcessBox, most_bytes: int) -> None:
    """Until it has ended, look at what its folders hold."""
    folder = os.open(box.place.root, watching.FOLDER)
    closed = asyncio.ensure_future(box.closed())
    try:
        while not closed.done():
            used = await asyncio.to_thread(watching.used_by, folder, most_bytes=most_bytes)
            if used > most_bytes:
                box.pass_limit("disk")
            await asyncio.wait({closed}, timeout=LOOK_SECONDS)
    finally:
        os.close(folder)
