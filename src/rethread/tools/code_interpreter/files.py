"""The folder that code sees as /mnt/data, from the server's side of it. Blocks: for threads.

Everything in it may be a trap: a link to a file of the server's, a pipe that nobody writes to, a
name that is no name. The rule: each name is opened below a folder that is already open, no link is
followed, and nothing but a regular file is read, so much of it as was agreed on. A thread may be at
work still when nobody waits for it any more: what it works with is let go of under a lock, as the
number of a handle that is closed is soon another file's.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from rethread.store.files import StoredFile

PIECE_BYTES: Final = 1024 * 1024
MOST_NAME_BYTES: Final = 200  # a file system takes 255, and a second one of that name gets more
MOST_PATH_CHARACTERS: Final = 512
MOST_ENTRIES: Final = 10_000  # that are looked at after a call
MOST_DEPTH: Final = 8
READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
ORIGINAL_MODE: Final = 0o444
MADE_MODE: Final = 0o644
NO_HANDLE: Final = -1


class InputFile(NamedTuple):
    """A file for the code; `name` is what it is called under /mnt/data."""

    file_id: str
    name: str


class Look(NamedTuple):
    """What a file looked like: another look is another content."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Seen(NamedTuple):
    """The files of the folder by their paths; `is_all` is False where there were too many."""

    files: dict[str, Look]
    is_all: bool


class NotThere(Exception):
    """No regular file of that path, or none that may be read."""


def placed(files: Sequence[StoredFile]) -> list[InputFile]:
    """What the files are called: by their own names, made safe; a second one gets a number."""
    taken: set[str] = set()
    named: dict[str, str] = {}
    for file in files:
        if file.id in named:
            continue
        name = safe_name(file.filename)
        named[file.id] = unique = _unique(name, taken)
        taken.add(unique)
    return [InputFile(file_id, name) for file_id, name in named.items()]


def safe_name(filename: str) -> str:
    """A name that is one name in a folder, as close to this one as can be."""
    base = filename.replace("\\", "/").rpartition("/")[2]
    shown = "".join(each if each.isprintable() else "_" for each in base)
    stem, dot, extension = shown.rpartition(".")
    name = shown if len(extension) > 16 or not dot else stem
    ending = shown[len(name) :]
    room = MOST_NAME_BYTES - len(ending.encode("utf-8", "replace"))
    name = name.encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + ending
    return name if name.strip(". ") else "file"


class Folder:
    """The folder, open. What is put in belongs to whom the folder does, unless it is read-only."""

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._handle = os.open(path, OPEN_FOLDER)
        self._there = os.fstat(self._handle)

    def close(self) -> None:
        """Let go; what is asked of it later is an OSError."""
        with self._lock:
            handle, self._handle = self._handle, NO_HANDLE
            os.close(handle)

    def put_original(self, name: str, source: Path) -> Look:
        """A copy that is only to be read, in the place of whatever was there; or OSError."""
        with self._inside(()) as handle:
            return self._put(handle, name, source, mode=ORIGINAL_MODE)

    def put_back(self, path: str, source: Path) -> Look:
        """A copy of what the code has made, at its path, for the code to go on with; or OSError."""
        *folders, name = _names(path)
        with self._inside(folders, make=True) as handle:
            return self._put(handle, name, source, mode=MADE_MODE)

    def look(self) -> Seen:
        """The regular files that there are, hidden ones left out."""
        found: dict[str, Look] = {}
        left = MOST_ENTRIES
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            folders = waiting.pop()
            with suppress(OSError), self._inside(folders) as handle, os.scandir(handle) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        return Seen(found, is_all=False)
                    if entry.name.startswith((".", "__pycache__")):
                        continue
                    there = os.stat(entry.name, dir_fd=handle, follow_symlinks=False)
                    place = (*folders, entry.name)
                    if stat.S_ISDIR(there.st_mode) and len(place) <= MOST_DEPTH:
                        waiting.append(place)
                    elif stat.S_ISREG(there.st_mode):
                        found["/".join(place)] = _look(there)
        return Seen(found, is_all=True)

    @contextmanager
    def reading(self, path: str) -> Iterator["Reading"]:
        """The regular file of that path, to be read; NotThere if it is none any more."""
        try:
            *folders, name = _names(path)
            with self._inside(folders) as folder:
                handle = os.open(name, READ, dir_fd=folder)
        except OSError as problem:
            raise NotThere(path) from problem
        there = os.fstat(handle)
        reading = Reading(handle, there.st_size)
        try:
            if not stat.S_ISREG(there.st_mode) or there.st_dev != self._there.st_dev:
                raise NotThere(path)
            yield reading
        finally:
            reading.close()

    @contextmanager
    def _inside(self, folders: Sequence[str], *, make: bool = False) -> Iterator[int]:
        with self._lock:
            handle = os.open(".", OPEN_FOLDER, dir_fd=self._handle)
        try:
            for name in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=handle)
                inner = os.open(name, OPEN_FOLDER, dir_fd=handle)
                if make:
                    self._give_away(inner)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)

    def _put(self, folder: int, name: str, source: Path, *, mode: int) -> Look:
        with suppress(FileNotFoundError):
            _make_room(name, folder)
        handle = os.open(name, CREATE, 0o600, dir_fd=folder)
        try:
            with source.open("rb", buffering=0) as original:
                while piece := original.read(PIECE_BYTES):
                    _write_all(handle, piece)
            if mode != ORIGINAL_MODE:
                self._give_away(handle)
            os.fchmod(handle, mode)
            return _look(os.fstat(handle))
        except BaseException:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
            raise
        finally:
            os.close(handle)

    def _give_away(self, handle: int) -> None:
        if self._there.st_uid != os.geteuid():
            os.fchown(handle, self._there.st_uid, self._there.st_gid)


class Reading:
    """A file that is being read: as many bytes as it had, whatever the code does with it."""

    def __init__(self, handle: int, size: int) -> None:
        self._lock = Lock()
        self._handle = handle
        self.size = size
        self._left = size

    def piece(self) -> bytes:
        """The next bytes; none at the end, and none once it is let go of."""
        with self._lock:
            if self._handle == NO_HANDLE:
                return b""
            read = os.read(self._handle, min(self._left, PIECE_BYTES))
            self._left -= len(read)
            return read

    def close(self) -> None:
        """Let go."""
        with self._lock:
            handle, self._handle = self._handle, NO_HANDLE
            os.close(handle)


def is_fit(path: str) -> bool:
    """Whether a path can stand in a link, and be kept."""
    return path.isprintable() and len(path) <= MOST_PATH_CHARACTERS


def changed(seen: Mapping[str, Look], known: Mapping[str, Look]) -> list[str]:
    """The paths of what is new or looks another way, in their order."""
    return sorted(path for path, look in seen.items() if known.get(path) != look)


def _names(path: str) -> list[str]:
    names = path.split("/")
    if not set(names).isdisjoint({"", ".", ".."}):
        raise FileNotFoundError(path)
    return names


def _look(there: os.stat_result) -> Look:
    return Look(there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns)


def _make_room(name: str, folder: int) -> None:
    """Have nothing of that name there; a folder is given another one."""
    try:
        os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):  # macOS says the latter of a folder
        os.rename(name, f"{name}-before", src_dir_fd=folder, dst_dir_fd=folder)


def _write_all(handle: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(handle, left) :]


def _unique(name: str, taken: set[str]) -> str:
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{stem}-{number}{dot}{extension}"
    return unique
