"""Whether a sandbox holds: boxes are started in it, and what must not be possible is tried.

Quick, and no proof: `tests/escape` tries much more. It tells a machine on which a sandbox works
from one on which it can't.
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from rethread.tools.code_interpreter.sandbox import (
    Box,
    Command,
    Limits,
    Sandbox,
    probe,
)

SECONDS: Final = 60.0
SMALL: Final = Limits(memory_bytes=256 * 2**20, processes=40, disk_bytes=16 * 2**20)
VARIABLE: Final = "SECRET_OF_THE_DOCTOR"

EAT: Final = """
import os, time
for _ in range(3):
    os.fork()
eaten = bytearray(os.urandom(1) * (64 << 20))
time.sleep(8)
"""
FORK: Final = """
import os, time
count = 0
try:
    while count < 400:
        if os.fork() == 0:
            time.sleep(8)
            os._exit(0)
        count += 1
except OSError:
    pass
print(count, flush=True)
os._exit(0)
"""
FILL: Final = """
import time
for number in range(16):
    with open(f"{number}.bin", "wb") as file:
        file.write(bytes(8 << 20))
    time.sleep(0.1)
print("all of it", flush=True)
time.sleep(5)
"""


class Check(NamedTuple):
    """One thing that must hold; `problem` is empty where it does."""

    name: str
    promise: str
    problem: str

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return not self.problem


PROMISES: Final = {
    "network": "reaches no server, neither here nor elsewhere",
    "files": "reads no file of this machine",
    "environment": "sees none of the server's variables",
    "processes": "sees and signals no process of this machine",
    "writes": "writes nowhere but to its folder and its memory",
    "privileges": "has no privileges and can get none",
    "its place": "can use its folder, /tmp and programs",
    "memory limit": "is ended when its processes take too much memory",
    "process limit": "can't start more processes than it may",
    "disk limit": "is ended when its files are too large",
}


async def checked(sandbox: Sandbox) -> list[Check]:
    """All checks. Not for what is no sandbox: they would be done to the machine."""
    found, memory, processes, disk = await asyncio.gather(
        _probed(sandbox), _memory(sandbox), _processes(sandbox), _disk(sandbox)
    )
    found |= {"memory limit": memory, "process limit": processes, "disk limit": disk}
    return [Check(name, promise, found[name]) for name, promise in PROMISES.items()]


async def _probed(sandbox: Sandbox) -> dict[str, str]:
    with _things_to_reach() as asked:
        async with _run(sandbox, _source(), json.dumps(asked)) as box:
            await box.closed()
    try:
        return {name: str(said) for name, said in json.loads(box.stderr.strip()).items()}
    except ValueError:
        problem = box.stderr.strip().rpartition("\n")[2] or "the box ended without a word"
        return dict.fromkeys(probe.CHECKS, problem)


def _source() -> str:
    return Path(probe.__file__).read_text("utf-8")


@contextmanager
def _things_to_reach() -> Iterator[dict[str, Any]]:
    """A server, a socket, a file and a variable, all of this machine and open to everybody."""
    secret, abstract = secrets.token_hex(16), f"rethread-doctor-{secrets.token_hex(8)}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as unix,
        tempfile.NamedTemporaryFile(prefix="rethread-doctor-") as file,
    ):
        with contextlib.suppress(OSError):  # abstract sockets are Linux's
            unix.bind("\0" + abstract)
            unix.listen()
        Path(file.name).chmod(0o644)
        os.environ[VARIABLE] = secret
        try:
            yield {
                "port": server.getsockname()[1],
                "abstract": abstract,
                "file": file.name,
                "home": str(Path.home()),
                "process": os.getpid(),
                "secret": secret,
            }
        finally:
            del os.environ[VARIABLE]


async def _memory(sandbox: Sandbox) -> str:
    async with _run(sandbox, EAT) as box:
        await box.closed()
    return "" if box.over == "memory" else f"8 processes took 512 MiB of {_mib(SMALL.memory_bytes)}"


async def _processes(sandbox: Sandbox) -> str:
    async with _run(sandbox, FORK) as box:
        await box.closed()
    said = box.stderr.strip()
    if box.over == "processes" or (said.isdigit() and int(said) <= SMALL.processes):
        return ""
    return f"{said or 'too many'} processes were started, {SMALL.processes} are allowed"


async def _disk(sandbox: Sandbox) -> str:
    async with _run(sandbox, FILL) as box:
        await box.closed()
    return "" if box.over == "disk" else f"128 MiB were written of {_mib(SMALL.disk_bytes)}"


@asynccontextmanager
async def _run(sandbox: Sandbox, source: str, *arguments: str) -> AsyncIterator[Box]:
    """A box that runs the source, and has ended afterwards, in time or not."""
    place = sandbox.new_place()
    box = await sandbox.start(place, Command(("-c", source, *arguments), {}), SMALL)
    try:
        with box.watch(), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                yield box
    finally:
        box.kill()
        await box.closed()
        await asyncio.to_thread(sandbox.remove_place, place)


def _mib(size: int) -> str:
    return f"{size // 2**20} MiB"
