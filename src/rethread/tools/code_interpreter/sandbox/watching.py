"""What a box takes at this moment: memory, processes, files. Linux; read from outside.

All processes of a box are those of its own /proc, which one reading of a folder lists: none can
hide behind another. Memory is their resident pages, and where those are too many, counted anew
with shared pages divided (PSS); and what no process is charged with: page tables, files in memory,
sockets and pipes. The disk is what lies in its folders, deleted files that are open included.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
BLOCK: Final = 512  # of st_blocks, whatever the file system's blocks are

# What one more may hold, when a box has more than that.
FREE_SOCKETS, SOCKET_BYTES = 64, 256 * 1024  # net.core.wmem_default, rounded up
FREE_DESCRIPTORS, DESCRIPTOR_BYTES = 512, 128 * 1024  # an epoll that waits for 500 others
NODE_BYTES: Final = 1024  # of a file in memory, beside its content
DEEPEST: Final = 100
MOST_SHARED: Final = 8  # processes may share pages, but not so many with so many
MOST_MAPS: Final = 8 * 1024 * 1024
MOST_FILES: Final = 20_000
"""Files and folders of a box: they cost too, and empty ones have no blocks."""


class Taken(NamedTuple):
    """What the processes take; `tasks` are processes and threads."""

    memory_bytes: int
    tasks: int


class Task(NamedTuple):
    """A process, as its `status` tells."""

    pid: str
    resident_bytes: int
    tables_bytes: int
    threads: int


def taken(proc: int, in_memory: list[int], *, most_bytes: int) -> Taken:
    """What the processes of the box with that /proc take, exactly only where it may be too much.

    Where it surely is, nothing is counted anew: that takes long for many pages. `proc` and
    `in_memory` are descriptors: of its /proc, and of its file systems in memory.
    """
    tasks = list(_tasks(proc))
    kept = sum(map(_kept_in, in_memory)) + sum(task.tables_bytes for task in tasks)
    kept += _held_by_kernel(proc, tasks)
    count = sum(task.threads for task in tasks)
    resident = sum(task.resident_bytes for task in tasks)
    if kept + resident <= most_bytes or resident > most_bytes * MOST_SHARED:
        return Taken(kept + resident, count)
    return Taken(kept + sum(_proportional(proc, task) for task in tasks), count)


def written(proc: int) -> dict[str, int]:
    """Bytes that each process had written to disks, less what it took back."""
    found = {}
    for pid in _pids(proc):
        fields = dict(_fields(_read(proc, pid, "io")))
        found[pid] = fields.get("write_bytes", 0) - fields.get("cancelled_write_bytes", 0)
    return found


def deleted_bytes(proc: int, in_memory: list[int]) -> int:
    """What deleted files hold on the disk, where some process still has them open."""
    counted_already = {os.fstat(each).st_dev for each in in_memory}
    seen: dict[tuple[int, int], int] = {}
    for pid in _pids(proc):
        for name in _descriptors(proc, pid):
            with _unless_gone(proc, pid):
                found = os.stat(f"{pid}/fd/{name}", dir_fd=proc)
                if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                    seen[found.st_dev, found.st_ino] = found.st_blocks * BLOCK
    return sum(size for (device, _), size in seen.items() if device not in counted_already)


def has_mapped_deleted(proc: int, in_memory: list[int]) -> bool:
    """Whether some process has a part of a deleted file in its memory, which may be of any size."""
    devices = {os.fstat(each).st_dev for each in in_memory}
    names = {f"{os.major(each):02x}:{os.minor(each):02x}".encode() for each in devices}
    for pid in _pids(proc):
        for line in _read(proc, pid, "maps", most=MOST_MAPS).splitlines():
            fields = line.split(None, 5)  # addresses, rights, offset, device, node, path
            if fields[-1].endswith(b"(deleted)") and fields[3] not in names:
                return True
    return False


def used_by(top: int, *, most_bytes: int) -> int:
    """Bytes on the disk below a folder; more than `most_bytes` for what is too deep or too many.

    Ends as soon as it is too much. A folder that can't be entered or has just gone counts as empty.
    """
    used = 0
    for count, size in enumerate(_sizes(top, 0)):
        used += size
        if used > most_bytes or count > MOST_FILES:
            return max(used, most_bytes + 1)
    return used


def _sizes(here: int, depth: int) -> Iterator[int]:
    with contextlib.suppress(OSError), os.scandir(here) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                # What has a second name elsewhere in the box is counted there too: so be it.
                yield found.st_blocks * BLOCK
                if stat.S_ISDIR(found.st_mode):
                    yield from _below(here, entry.name, depth + 1)


def _below(parent: int, name: str, depth: int) -> Iterator[int]:
    if depth > DEEPEST:
        yield 2**62
        return
    inner = os.open(name, FOLDER, dir_fd=parent)
    try:
        yield from _sizes(inner, depth)
    finally:
        os.close(inner)


def _tasks(proc: int) -> Iterator[Task]:
    for pid in _pids(proc):
        fields = dict(_fields(_read(proc, pid, "status")))
        yield Task(
            pid,
            1024 * (fields.get("VmRSS", 0) + fields.get("VmSwap", 0)),
            1024 * fields.get("VmPTE", 0),
            fields.get("Threads", 0),
        )


def _proportional(proc: int, task: Task) -> int:
    fields = dict(_fields(_read(proc, task.pid, "smaps_rollup")))
    if "Pss" not in fields:  # it has gone, or may not be read: then the larger figure counts
        return task.resident_bytes
    return 1024 * (fields["Pss"] + fields.get("SwapPss", 0))


def _held_by_kernel(proc: int, tasks: list[Task]) -> int:
    """What sockets, pipes and their like may hold: sent, and read by nobody."""
    sockets = 0
    for task in tasks[:1]:
        for line in _read(proc, task.pid, "net/sockstat").splitlines()[:1]:
            sockets = int(line.split()[2])  # "sockets: used 12", also of those on their way
    others = sum(_open_files(proc, task.pid) for task in tasks)
    return (
        max(0, sockets - FREE_SOCKETS) * SOCKET_BYTES
        + max(0, others - FREE_DESCRIPTORS) * DESCRIPTOR_BYTES
    )


def _open_files(proc: int, pid: str) -> int:
    size = 0
    with _unless_gone(proc, pid):
        size = os.stat(f"{pid}/fd", dir_fd=proc).st_size  # their number, since Linux 6.2
    return size or len(_descriptors(proc, pid))


def _kept_in(file_system: int) -> int:
    """What lies in a file system in memory."""
    found = os.fstatvfs(file_system)
    nodes = found.f_files - found.f_ffree
    return (found.f_blocks - found.f_bfree) * found.f_frsize + nodes * NODE_BYTES


def _pids(proc: int) -> list[str]:
    opened = os.open(".", FOLDER, dir_fd=proc)
    try:
        return [name for name in os.listdir(opened) if name.isdigit()]
    finally:
        os.close(opened)


def _descriptors(proc: int, pid: str) -> list[str]:
    names: list[str] = []
    with _unless_gone(proc, pid):
        opened = os.open(f"{pid}/fd", FOLDER, dir_fd=proc)
        try:
            names = os.listdir(opened)
        finally:
            os.close(opened)
    return names


def _read(proc: int, pid: str, name: str, *, most: int = 8192) -> bytes:
    text = b""
    with _unless_gone(proc, pid):
        opened = os.open(f"{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            while len(text) < most and (some := os.read(opened, most)):
                text += some
        finally:
            os.close(opened)
    return text


@contextmanager
def _unless_gone(proc: int, pid: str) -> Iterator[None]:
    """A process that ended meanwhile has nothing. One that may not be looked at is an OSError."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        return
    except PermissionError:
        if "VmRSS" in dict(_fields(_read(proc, pid, "status"))):
            raise  # it still has memory, so it has not ended


def _fields(text: bytes) -> Iterator[tuple[str, int]]:
    """`Name: 12 kB` or `name: 12`, where there is a number."""
    for line in text.splitlines():
        name, _, rest = line.partition(b":")
        value = rest.split()
        if value and value[0].isdigit():
            yield name.decode("ascii", "replace"), int(value[0])
