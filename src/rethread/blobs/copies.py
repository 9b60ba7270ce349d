"""A folder for copies that are needed for a moment, by this process alone.

It is one of those in `copies`; who starts empties the folders of processes that are no more. A
process is alive while it holds the lock of its folder, which `kill -9` takes from it.
"""

import contextlib
import fcntl
import secrets
import shutil
from pathlib import Path
from typing import IO, Final

from rethread.errors import Misconfigured

LOCK: Final = "lock"


class Copies:
    """The folder of one process; it goes with `close`."""

    def __init__(self, parent: Path) -> None:
        self._path = parent / secrets.token_hex(8)
        try:
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # So that none is emptied between its making and its lock.
            with (parent / LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for each in parent.iterdir():
                    _empty_if_left(each)
                self._path.mkdir(mode=0o700)
                self._lock = _locked(self._path)
        except OSError as problem:
            why = problem.strerror
            raise Misconfigured(f"cannot use the folder {parent} for copies: {why}") from problem

    def new(self) -> Path:
        """Where nothing is yet."""
        return self._path / secrets.token_hex(8)

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._path, ignore_errors=True)
        self._lock.close()


def _locked(folder: Path) -> IO[str]:
    """The folder's lock, held until it is closed; BlockingIOError if somebody has it."""
    lock = (folder / LOCK).open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        lock.close()
        raise
    return lock


def _empty_if_left(folder: Path) -> None:
    if not folder.is_dir():
        return
    with contextlib.suppress(BlockingIOError), _locked(folder):
        shutil.rmtree(folder, ignore_errors=True)
