"""Where code that a model wrote is run: in a box that it cannot get out of.

A `Sandbox` makes places (folders) and starts boxes in them; a `Box` is one Python with all that it
starts. What runs in a box is known here by its command alone: kernels and their messages are the
business of `sessions`. `choosing.find_sandbox` gives the one that the operator chose.

The rule: whatever the code does, it can read nothing but its place and the runtime, write nothing
but its place, reach nobody, take no more than its limits; and when the box or the server is gone,
nothing of it runs.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from rethread.errors import RethreadError

Limit = Literal["memory", "processes", "disk"]

DATA: Final = "/mnt/data"  # where the code sees `Place.data`
SOCKETS: Final = "/run/kernel"  # and `Place.sockets`


class NoSandbox(RethreadError):
    """No code can be run here; the message says why, and what to install, without a full stop."""


class StartFailed(RethreadError):
    """A box did not come up; the message is for the log."""


class Limits(NamedTuple):
    """What one box may take, all its processes together; `open_files` counts for each of them."""

    memory_bytes: int = 2**30
    processes: int = 64
    """Threads count as well."""
    open_files: int = 1024
    disk_bytes: int = 2**30
    """In `Place.data`."""
    cpus: int = 1
    """Cores."""


class Place(NamedTuple):
    """The folders of one box on this machine. The code owns `data` and `sockets`: trust no name,
    link or file that is found in them.
    """

    root: Path
    data: Path
    """Seen by the code as DATA."""
    sockets: Path
    """Seen by the code as SOCKETS. The path is short: a Unix socket's has to be."""
    owner: int | None
    """The user as which the code runs, where that is another than the server's."""


class Command(NamedTuple):
    """What to run with the runtime's Python; for the code, DATA is the working directory.

    A sandbox that gives the code no paths of its own (`none`) has DATA and SOCKETS replaced in
    both by what they are on this machine.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    """Added to the little that every box has: PATH, HOME, LANG and their like."""


class Box(Protocol):
    """One Python in its place, and everything that it has started."""

    place: Place

    @property
    def over(self) -> Limit | None:
        """The limit that has ended it; None if it runs, was killed, or ended by itself."""
        ...

    @property
    def stderr(self) -> str:
        """The last few thousand characters of what it wrote to stdout and stderr."""
        ...

    def watch(self) -> AbstractContextManager[None]:
        """While code runs: limits are looked at more often than at rest."""
        ...

    def interrupt(self) -> None:
        """SIGINT for the Python that was started, for no other process."""
        ...

    def kill(self) -> None:
        """End everything in it, at once. May be said twice."""
        ...

    async def closed(self) -> None:
        """Returns when nothing of it runs any more."""
        ...


class Sandbox(Protocol):
    """One way to keep code in."""

    name: str
    offers: str
    """What the runtime has, for the model: "Python 3.11 with numpy 2.3.1, …"."""

    def new_place(self) -> Place:
        """Empty folders that the code can write to, and nobody else but this server."""
        ...

    def remove_place(self, place: Place) -> None:
        """Have its folders gone, whatever the code has left there; blocks. Its box is closed."""
        ...

    async def start(self, place: Place, command: Command, limits: Limits) -> Box:
        """Run a command in a place that no box has; StartFailed where that can't be."""
        ...

    async def aclose(self) -> None:
        """End all boxes and remove all places."""
        ...


def hand_in(place: Place, name: str, content: bytes) -> None:
    """Put a file into `sockets` that the code can read: before its box starts, never later."""
    path = place.sockets / name
    path.write_bytes(content)
    path.chmod(0o600)
    if place.owner is not None:
        os.chown(path, place.owner, place.owner)
