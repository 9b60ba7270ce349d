"""The lock of a data folder: whoever serves it, or replaces what is in it, holds it alone."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rethread.errors import Misconfigured


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Hold the folder, which is made if need be; Misconfigured while another program does.

    The lock goes with the process: `kill -9` leaves nothing behind.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (data_dir / "lock").open("a")
    except OSError as problem:
        raise Misconfigured(
            f"cannot use the data directory {data_dir}: {problem.strerror}"
        ) from problem
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise Misconfigured(
                f"another rethread serves the data directory {data_dir} already"
            ) from problem
        yield
