"""Blobs in a folder: one file each, spread over 256 folders by the first letters of their names.

A blob is written beside its place, flushed, and then renamed, so that it is whole or not there.
The disk is waited for in threads of its own.
"""

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final, TypeVar

from rethread.blobs import PIECE_BYTES, Piece
from rethread.blobs.threads import done_in
from rethread.errors import Misconfigured, Missing, Unavailable

T = TypeVar("T")

THREADS: Final = 4
BEGUN_BYTES: Final = 8 * 1024 * 1024  # that wait for the disk before it begins with them
PART: Final = ".part"  # behind the name of what is still being written


class Folder:
    """A folder of blobs; made if need be, along with those that it is in."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as problem:
            raise Misconfigured(f"cannot use the folder {path} for files: {problem}") from problem
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    async def write(self, name: str, pieces: AsyncIterator[Piece]) -> None:
        """Keep the pieces: whole and on disk when this returns, or not there at all."""
        path = place_of(self._path, name)
        opened = await self._do(partial(_open_part, path))
        try:
            await self._write_pieces(opened, pieces)
            await self._do(partial(_finish, opened, path))
        except BaseException:
            await self._do(partial(_give_up, opened, path))
            raise

    async def _write_pieces(self, opened: FileIO, pieces: AsyncIterator[Piece]) -> None:
        size = on_its_way = 0
        async for piece in pieces:
            await self._do(partial(write_all, opened, piece))
            size += len(piece)
            if size - on_its_way >= BEGUN_BYTES:
                await self._do(partial(_begin_flush, opened, on_its_way, size))
                on_its_way = size

    async def read(self, name: str) -> AsyncGenerator[bytes]:
        """The bytes, piece by piece."""
        path = place_of(self._path, name)
        opened = await self._do(lambda: path.open("rb", buffering=0))
        try:
            while piece := await self._do(lambda: opened.read(PIECE_BYTES)):
                yield piece
        finally:
            opened.close()

    @asynccontextmanager
    async def local(self, name: str) -> AsyncGenerator[Path]:
        """The file itself."""
        path = place_of(self._path, name)
        await self._do(path.stat)
        yield path

    async def delete(self, name: str) -> None:
        """Have nothing under that name."""
        path = place_of(self._path, name)
        await self._do(partial(_remove, path))

    async def check(self) -> None:
        """Unavailable if the folder has gone."""
        await self._do(self._path.stat)

    async def close(self) -> None:
        """End the threads."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _do(self, work: Callable[[], T]) -> T:
        """Do it in a thread, its errors in our words."""
        try:
            return await done_in(self._threads, work)
        except FileNotFoundError as problem:
            raise Missing("The content of this file is not where the server keeps it.") from problem
        except OSError as problem:
            why = problem.strerror or problem
            raise Unavailable(f"The server cannot keep or read files now: {why}.") from problem


def place_of(folder: Path, name: str) -> Path:
    """The file that a blob is."""
    return folder / name[:2] / name


def part_of(path: Path) -> Path:
    """What it is while it is being written."""
    return path.with_name(f"{path.name}{PART}")


def _open_part(path: Path) -> FileIO:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return FileIO(os.open(part_of(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def write_all(opened: FileIO, piece: Piece) -> None:
    """The whole of it, however little the system takes at a time."""
    left = memoryview(piece)
    while left:
        left = left[opened.write(left) :]


def _begin_flush(opened: FileIO, start: int, end: int) -> None:
    """Have the disk begin with these bytes, rather than with all of them in the end.

    Linux does that with what was just written, before it would let go of what is on disk already;
    of what it does elsewhere nothing is needed.
    """
    if sys.platform == "linux":
        os.posix_fadvise(opened.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)


def _finish(opened: FileIO, path: Path) -> None:
    with opened:
        _flush(opened.fileno())
    part_of(path).rename(path)
    for folder in (path.parent, path.parent.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            _flush(handle)
        finally:
            os.close(handle)


def _give_up(opened: FileIO, path: Path) -> None:
    opened.close()
    _remove(path)


def _remove(path: Path) -> None:
    for each in (path, part_of(path)):
        each.unlink(missing_ok=True)


def _flush(handle: int) -> None:
    os.fsync(handle)
    # On macOS, fsync alone stops at the drive's cache.
    if full_fsync := getattr(fcntl, "F_FULLFSYNC", None):
        with suppress(OSError):
            fcntl.fcntl(handle, full_fsync)
