"""The sandboxes `docker` and `podman`: the same limits, as flags of a container.

For macOS, and for those who have it anyway. `command_line` is pure. No container runs on our test
machines: there an engine that only looks like one runs the command. The kernel's sockets stay in
the container and are reached through `relay`, as not all can share them with their machine. With
gVisor's `runsc` among docker's runtimes, the code meets its kernel and not this one's.
"""

import asyncio
import os
import secrets
import shutil
from functools import partial
from pathlib import Path
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
    relay,
    watching,
)
from rethread.tools.code_interpreter.sandbox.places import Places, remove
from rethread.tools.code_interpreter.sandbox.processes import ProcessBox, said_by, started
from rethread.tools.code_interpreter.sandbox.relaying import Relaying

Engine = Literal["docker", "podman"]

RELAY: Final = Path(relay.__file__).read_text("utf-8")
RUNSC: Final = "runsc"
KILLED: Final = 137  # by nobody of ours: the memory was used up
LOOK_SECONDS: Final = 1.0
PASSED_ON: Final = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR")
ASK: Final = (
    "import sys, importlib.metadata as m; m.version('ipykernel');"
    " print('Python %d.%d' % sys.version_info[:2])"
)


class Container:
    """Boxes that are containers of an image."""

    def __init__(self, engine: Engine, image: str, offers: str, runtime: str | None) -> None:
        self.name: str = engine
        self.offers = offers
        self._engine: Engine = engine
        self._image = image
        self._runtime = runtime
        self._places = Places()
        self._boxes: dict[ProcessBox, asyncio.Task[None]] = {}
        self._killing: set[asyncio.Task[str | None]] = set()

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
            if await said_by(engine, "info") is None:  # most often it is not started
                raise NoSandbox(f"{engine} does not answer: `{engine} info` says why")
            raise NoSandbox(f"{engine} can't run {image}, or its Python has no ipykernel")
        runtimes = await said_by(engine, "info", "--format", "{{json .Runtimes}}") or ""
        runtime = RUNSC if f'"{RUNSC}"' in runtimes else None
        return cls(engine, image, version.strip().rpartition("\n")[2], runtime)

    def new_place(self) -> Place:
        """Empty folders."""
        return self._places.new()

    def remove_place(self, place: Place) -> None:
        """Have them gone."""
        remove(place.root)

    async def start(self, place: Place, command: Command, limits: Limits) -> Box:
        """A container in which the command runs."""
        container = f"rethread-{secrets.token_hex(8)}"
        line = command_line(
            self._engine,
            self._image,
            container,
            place,
            command,
            limits,
            runtime=self._runtime,
        )
        handed_in = {path.name: path.read_bytes() for path in place.sockets.iterdir()}
        process = await started(line, _environment(), folder=place.root)
        assert process.stdin is not None
        assert process.stdout is not None
        relaying = Relaying(place.sockets, process.stdin, process.stdout)
        relaying.begin(handed_in)
        box = ProcessBox(
            place,
            process,
            interrupt=relaying.interrupt,
            kill=partial(self._kill, container, process),
            limit_of=_limit_of,
        )
        self._boxes[box] = asyncio.create_task(self._attend(box, relaying, limits))
        return box

    async def aclose(self) -> None:
        """End all containers and remove all places."""
        for box in list(self._boxes):
            box.kill()
            await box.closed()
        await asyncio.gather(*self._killing)
        await asyncio.to_thread(self._places.close)

    def _kill(self, container: str, client: asyncio.subprocess.Process) -> None:
        """Have the engine do it; nobody waits for that."""
        if client.returncode is None:
            killing = asyncio.create_task(said_by(self._engine, "kill", container))
            self._killing.add(killing)
            killing.add_done_callback(self._killing.discard)

    async def _attend(self, box: ProcessBox, relaying: Relaying, limits: Limits) -> None:
        await asyncio.gather(relaying.run(), _watch_disk(box, limits.disk_bytes))
        del self._boxes[box]


CONFINED: Final = (
    *("--rm", "--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--ipc", "private", "--hostname", "sandbox"),
    *("--log-driver", "none"),  # else the engine keeps on this disk what the code prints
    "--init",  # interrupts do nothing to a first process, and orphans need a parent
)


def command_line(
    engine: Engine,
    image: str,
    container: str,
    place: Place,
    command: Command,
    limits: Limits,
    *,
    runtime: str | None = None,
) -> list[str]:
    """How a container is run. Its memory counts what lies in its /tmp and /dev/shm, too."""
    user = os.getuid() if place.owner is None else place.owner
    group = os.getgid() if place.owner is None else place.owner
    memory = str(limits.memory_bytes)
    variables = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", **command.environment}  # noqa: S108
    return [
        *(engine, "run", *CONFINED, "--name", container, "--user", f"{user}:{group}"),
        *(() if runtime is None else ("--runtime", runtime)),
        *(("--userns", "keep-id") if engine == "podman" and os.geteuid() != 0 else ()),
        *("--memory", memory, "--memory-swap", memory, "--cpus", str(limits.cpus)),
        *("--cpu-shares", "128", "--oom-score-adj", "1000"),
        *("--pids-limit", str(limits.processes)),
        *("--ulimit", f"nofile={limits.open_files}:{limits.open_files}"),
        *("--ulimit", f"fsize={limits.disk_bytes}:{limits.disk_bytes}", "--ulimit", "core=0:0"),
        *("--tmpfs", f"/tmp:rw,nosuid,nodev,size={memory},mode=1777"),  # noqa: S108
        *("--mount", f"type=bind,src={place.data},dst={DATA}"),
        *("--tmpfs", f"{SOCKETS}:rw,nosuid,nodev,noexec,size=1m,mode=1777"),
        *("--workdir", DATA, "--interactive"),
        *(word for name in variables for word in ("--env", f"{name}={variables[name]}")),
        *(image, "python", "-c", RELAY, SOCKETS, *command.arguments),
    ]


def _environment() -> dict[str, str]:
    """What the engine's client needs of the server's, where there are keys, too."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def _limit_of(exit_code: int) -> Limit | None:
    return "memory" if exit_code == KILLED else None


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
