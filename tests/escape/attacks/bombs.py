"""Attacks: take more than a session may have. Each goes on until it is stopped, or has had enough
to prove its point; then it says so, by what it returns.

They run in the session's own process, one at a time: what stops them may end the session.
"""

import ctypes
import fcntl
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from tests.escape.inside import HOST, LIBC, call

MB = 2**20
WATCHED_SECONDS = 2.0  # what it has taken is held that long, so that anybody can see it


def keep(taken_mb: int, limit_mb: int) -> str:
    """Words for what was taken, if that is more than may be; after it could have been seen."""
    if taken_mb <= limit_mb * 1.5:
        return ""
    time.sleep(WATCHED_SECONDS)
    return f"took {taken_mb} MB of {limit_mb} MB"


def taken(step: Callable[[int], object], *, step_mb: int, limit_mb: int) -> int:
    """How many MB were taken, step by step, until it was refused or had far too much."""
    for number in range(3 * limit_mb // step_mb):
        try:
            step(number)
        except (OSError, MemoryError, ValueError):
            return number * step_mb
    return 3 * limit_mb // step_mb * step_mb


# ------------------------------------------------------------------ processes


def fork_bomb() -> object:
    """Children that fork as well, without end."""
    while True:
        try:
            os.fork()
        except OSError:
            continue


def thread_bomb() -> object:
    threads = []
    ends = threading.Event()
    try:
        for _ in range(4 * HOST["processes"]):
            threads.append(threading.Thread(target=ends.wait, daemon=True))
            threads[-1].start()
    except (RuntimeError, MemoryError):
        threads.pop()
    ends.set()
    for thread in threads:
        thread.join()
    return f"{len(threads)} threads" if len(threads) > HOST["processes"] else ""


def process_bomb() -> object:
    children = []
    try:
        for _ in range(4 * HOST["processes"]):
            child = os.fork()
            if child == 0:
                time.sleep(5)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return f"{len(children)} processes" if len(children) > HOST["processes"] else ""


# --------------------------------------------------------------------- memory


def memory_of_one_process() -> object:
    room = []
    return keep(
        taken(lambda _: room.append(b"x" * (16 * MB)), step_mb=16, limit_mb=HOST["memory_mb"]),
        HOST["memory_mb"],
    )


def memory_of_many_processes() -> object:
    """None of them has much."""

    def child(_: int) -> None:
        ready, told = os.pipe()
        if os.fork() == 0:
            try:
                room = b"x" * (HOST["memory_mb"] // 8 * MB)
                os.write(told, b"y" if room else b"")
                time.sleep(10)
            finally:
                os._exit(0)
        os.close(told)
        if not os.read(ready, 1):
            raise MemoryError

    step_mb = HOST["memory_mb"] // 8
    return keep(taken(child, step_mb=step_mb, limit_mb=HOST["memory_mb"]), HOST["memory_mb"])


def memory_in_folders() -> object:
    """The folders that are memory; the limit is that of all of it."""
    paths: list[str] = []

    def step(folder: str, _: int) -> None:
        path = f"{folder}/big{len(paths)}"
        with open(path, "wb", buffering=0) as file:
            paths.append(path)
            written(file.fileno(), 16 * MB)

    limit, total = HOST["memory_mb"], 0
    for folder in ("/tmp", "/dev/shm", "/dev", "/run", "/"):
        total += taken(partial(step, folder), step_mb=16, limit_mb=limit)
    words = keep(total, limit)
    for path in paths:
        os.unlink(path)
    return words


def written(number: int, size: int) -> None:
    """OSError unless all of it went in."""
    piece = bytes(MB)
    for _ in range(size // MB):
        if os.write(number, piece) < MB:
            raise OSError


def memory_behind_a_crowd() -> object:
    """First so many files and descriptors that whoever looks has a lot to look at; then many
    processes that all fill their memory at once.
    """
    ends = time.monotonic() + 1.0
    for number in range(15_000):
        os.close(os.open(f"/mnt/data/crowd{number}", os.O_CREAT | os.O_WRONLY))
        if time.monotonic() > ends:
            break
    go, start = os.pipe()
    children = 0
    try:
        for _ in range(HOST["processes"] - 8):
            if os.fork() == 0:
                crowd: list[object] = []
                with suppress(OSError):
                    while True:
                        crowd.append(os.pipe() if len(crowd) % 2 else os.dup(0))
                os.read(go, 1)
                room = [b"x" * (8 * MB) for _ in range(HOST["memory_mb"] // 8 - 8)]
                time.sleep(20 if room else 0)
                os._exit(0)
            children += 1
    except OSError:
        pass
    time.sleep(1.0)
    os.write(start, b"g" * children)
    time.sleep(3.0)
    return f"{children} processes have filled their memory" if children else ""


def memory_without_a_name() -> object:
    """Written to a memfd that is mapped nowhere: it is in no process's pages."""
    number = call("memfd_create", b"x", 0)
    limit = HOST["memory_mb"]
    return keep(taken(lambda _: written(number, 16 * MB), step_mb=16, limit_mb=limit), limit)


def memory_shared_by_number() -> object:
    """System V segments that nobody is attached to."""
    LIBC.shmat.restype = ctypes.c_void_p
    size = 16 * MB

    def step(_: int) -> None:
        number = call("shmget", 0, size, 0o1600)
        at = LIBC.shmat(number, None, 0)
        if at in (None, ctypes.c_void_p(-1).value):
            raise OSError
        ctypes.memset(at, 1, size)
        LIBC.shmdt(ctypes.c_void_p(at))

    limit = HOST["memory_mb"]
    return keep(taken(step, step_mb=16, limit_mb=limit), limit)


def dropped_pages(descriptor: int) -> object:
    """Shared pages, written and then dropped from the own table: they stay in none."""
    flags = mmap.MAP_SHARED | (mmap.MAP_ANONYMOUS if descriptor == -1 else 0)
    rooms = []

    def step(_: int) -> None:
        room = mmap.mmap(descriptor, 16 * MB, flags=flags)
        room.write(b"x" * len(room))
        room.madvise(mmap.MADV_DONTNEED)
        rooms.append(room)

    limit = HOST["memory_mb"]
    return keep(taken(step, step_mb=16, limit_mb=limit), limit)


def memory_dropped_from_view() -> object:
    return dropped_pages(-1)


def memory_dropped_from_view_of_many() -> object:
    """A few children, each within what one process may have."""
    children, got = [], 0
    for _ in range(6):
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                rooms = mmap.mmap(-1, HOST["memory_mb"] // 2 * MB)
                for _ in range(HOST["memory_mb"] // 2):
                    rooms.write(b"x" * MB)
                rooms.madvise(mmap.MADV_DONTNEED)
                os.write(told, b"y")
                time.sleep(WATCHED_SECONDS + 2)
            finally:
                os._exit(0)
        os.close(told)
        got += HOST["memory_mb"] // 2 if os.read(ready, 1) else 0
        children.append(child)
    return keep(got, HOST["memory_mb"])


def memory_of_the_zero_device() -> object:
    return dropped_pages(os.open("/dev/zero", os.O_RDWR))


def memory_in_sockets() -> object:
    """What was sent and is not received lies in the kernel. Many processes, many sockets."""
    limit, children, got = HOST["memory_mb"], [], 0
    for _ in range(HOST["processes"] // 2):
        ready, told = os.pipe()
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            os.close(ready)
            try:
                os.write(told, fill_sockets().to_bytes(8, "little"))
                time.sleep(20)
            finally:
                os._exit(0)
        os.close(told)
        got += int.from_bytes(os.read(ready, 8), "little")
        os.close(ready)
        children.append(child)
        if got > 3 * limit * MB:
            break
    words = keep(got // MB, limit)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return words


def fill_sockets() -> int:
    """Bytes that lie in as many sockets as can be had."""
    pairs, size = [], 0
    try:
        while True:
            pair = socket.socketpair()
            pairs.append(pair)
            for end in pair:
                end.setblocking(False)
                try:
                    while True:
                        size += end.send(bytes(65536))
                except BlockingIOError:
                    continue
    except OSError:
        time.sleep(0.2)  # within sight
    HOST["pairs"] = pairs
    return size


def memory_in_pipes() -> object:
    limit, pipes, got = HOST["memory_mb"], [], 0
    try:
        while got <= 3 * limit * MB:
            ends = os.pipe()
            pipes.append(ends)
            os.set_blocking(ends[1], False)
            with suppress(OSError):
                fcntl.fcntl(ends[1], 1031, MB)  # F_SETPIPE_SZ
            try:
                while True:
                    got += os.write(ends[1], bytes(65536))
            except BlockingIOError:
                continue
    except OSError:
        pass
    words = keep(got // MB, limit)
    for ends in pipes:
        os.close(ends[0])
        os.close(ends[1])
    return words


def memory_in_page_tables() -> object:
    """A byte read every 2 MB: it costs a page of the kernel's, and the process has none of it."""
    limit = HOST["memory_mb"]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    rooms, tables = [], 0
    try:
        while tables * 4096 < 3 * limit * MB:
            room = mmap.mmap(-1, 2**32, flags=flags, prot=mmap.PROT_READ)
            rooms.append(room)
            room.madvise(15)  # MADV_NOHUGEPAGE
            for at in range(0, 2**32, 2**21):
                tables += 1 if room[at] == 0 else 0
    except (OSError, ValueError):
        pass
    return keep(tables * 4096 // MB, limit)


# ----------------------------------------------------------------------- disk


def disk_by_one_file() -> object:
    limit = HOST["disk_mb"]
    with open("/mnt/data/big", "wb", buffering=0) as file:
        got = taken(lambda _: written(file.fileno(), 4 * MB), step_mb=4, limit_mb=limit)
    words = keep(got, limit)
    os.unlink("/mnt/data/big")
    return words


def disk_by_some_files() -> object:
    limit = HOST["disk_mb"]

    def step(number: int) -> None:
        with open(f"/mnt/data/part{number}", "wb", buffering=0) as file:
            written(file.fileno(), 4 * MB)

    return keep(taken(step, step_mb=4, limit_mb=limit), limit)


def disk_at_once() -> object:
    """Room without writing: it is there in one instant."""
    limit, got = HOST["disk_mb"], 0
    for number in range(64):
        with open(f"/mnt/data/room{number}", "wb") as file:
            try:
                call("fallocate", file.fileno(), 0, 0, limit * MB)
                got += limit
            except OSError:
                break
    return keep(got, limit)


def disk_by_deleted_files() -> object:
    """Files that are open, and in no folder any more."""
    limit, kept = HOST["disk_mb"], []

    def step(number: int) -> None:
        file = open(f"/mnt/data/gone{number}", "wb", buffering=0)  # noqa: SIM115  kept open
        os.unlink(file.name)
        written(file.fileno(), 4 * MB)
        kept.append(file)

    return keep(taken(step, step_mb=4, limit_mb=limit), limit)


def disk_by_mapped_files() -> object:
    """The same, closed as well: all that holds them is a mapping."""
    limit, kept = HOST["disk_mb"], []

    def step(number: int) -> None:
        with open(f"/mnt/data/mapped{number}", "w+b", buffering=0) as file:
            os.unlink(file.name)
            written(file.fileno(), 4 * MB)
            kept.append(mmap.mmap(file.fileno(), 4 * MB))

    got = taken(step, step_mb=4, limit_mb=limit)
    return keep(got, limit)


def disk_by_sent_files() -> object:
    """The same, held by nothing but a message that nobody has received."""
    limit, pairs = HOST["disk_mb"], []

    def step(number: int) -> None:
        ours, theirs = socket.socketpair()
        with open(f"/mnt/data/sent{number}", "wb", buffering=0) as file:
            os.unlink(file.name)
            written(file.fileno(), 4 * MB)
            socket.send_fds(ours, [b"x"], [file.fileno()])
        pairs.append((ours, theirs))

    return keep(taken(step, step_mb=4, limit_mb=limit), limit)


def disk_by_files_sent_by_the_dead() -> object:
    """And whoever wrote them has gone, and nobody has waited for it."""
    limit, pairs = HOST["disk_mb"], []
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def step(number: int) -> None:
        ours, theirs = socket.socketpair()
        pairs.append((ours, theirs))
        ready, told = os.pipe()
        if os.fork() == 0:
            try:
                with open(f"/mnt/data/dead{number}", "wb", buffering=0) as file:
                    os.unlink(file.name)
                    written(file.fileno(), 4 * MB)
                    socket.send_fds(ours, [b"x"], [file.fileno()])
                os.write(told, b"y")
            finally:
                os._exit(0)
        os.close(told)
        has_done = os.read(ready, 1)
        os.close(ready)
        if not has_done:
            raise OSError

    return keep(taken(step, step_mb=4, limit_mb=limit), limit)


def disk_by_an_unreadable_program() -> object:
    """Deleted files, open in a process that the system hides from whoever is not root."""
    shutil.copyfile(os.path.realpath("/usr/bin/python3"), "/mnt/data/hidden-python")
    os.chmod("/mnt/data/hidden-python", 0o111)
    limit = HOST["disk_mb"]
    code = f"""
import os, sys, time
kept = []
for number in range({3 * limit // 4}):
    kept.append(open(f"/mnt/data/hidden{{number}}", "wb", buffering=0))
    os.unlink(kept[-1].name)
    if kept[-1].write(bytes({4 * MB})) < {4 * MB}: sys.exit(1)
time.sleep({WATCHED_SECONDS})
print("has it")
"""
    command = ["/mnt/data/hidden-python", "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "took it" if "has it" in done.stdout else ""


def disk_by_empty_files() -> object:
    """They take no room, but numbers that the whole disk has only so many of."""
    most = 25_000
    for number in range(most):
        os.close(os.open(f"/mnt/data/{number}", os.O_CREAT | os.O_WRONLY))
    time.sleep(WATCHED_SECONDS)
    return f"made {most} files"


def disk_in_the_deep() -> object:
    """A folder in a folder in a folder: a path of it is longer than any path may be."""
    try:
        for _ in range(3000):
            os.mkdir("deeper")
            os.chdir("deeper")
        with open("big", "wb", buffering=0) as file:
            step = partial(append, file.fileno())
            got = taken(step, step_mb=4, limit_mb=HOST["disk_mb"])
    finally:
        os.chdir("/mnt/data")
    return keep(got, HOST["disk_mb"])


def append(number: int, _: int) -> None:
    """4 MB more."""
    written(number, 4 * MB)


def disk_in_a_locked_folder() -> object:
    """Where the owner may not look."""
    os.mkdir("/mnt/data/locked")
    with open("/mnt/data/locked/big", "wb", buffering=0) as file:
        os.chmod("/mnt/data/locked", 0)
        got = taken(lambda _: written(file.fileno(), 4 * MB), step_mb=4, limit_mb=HOST["disk_mb"])
    return keep(got, HOST["disk_mb"])


def a_file_of_ten_terabytes() -> object:
    """With nothing in it: it takes no room here, but would wherever it is copied to."""
    with open("/mnt/data/sparse.bin", "wb") as file:
        file.truncate(10**13)
    return None


# ----------------------------------------------------------------------- time


def time_without_end() -> object:
    """No signal but SIGKILL is let in, and Python is not asked."""
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        LIBC.usleep(1000)


def time_in_the_background() -> object:
    """Returns at once, and leaves processes that take all the time there is."""
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            while True:
                pass
    return None


def time_behind_every_except() -> object:
    """Interrupts are errors in Python, and errors can be caught."""
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


# --------------------------------------------------------------------- output


def output_without_end() -> object:
    """By all ways at once: printed, written to the descriptors, errors, one line without end."""

    def raw(number: int) -> None:
        while True:
            os.write(number, b"x" * 65536)

    def printing() -> None:
        while True:
            sys.stdout.write("line\n" * 10_000)

    def warning() -> None:
        while True:
            sys.stderr.write("y" * 100_000)

    def showing() -> None:
        """Each is larger than any that is kept, and none is an image."""
        import IPython.display

        show: Any = IPython.display.publish_display_data
        while True:
            show({"image/png": "A" * (20 * MB), "text/plain": "a"})

    for target, given in ((raw, (1,)), (raw, (2,)), (raw, (0,)), (warning, ()), (showing, ())):
        threading.Thread(target=target, args=given, daemon=True).start()
    printing()
    return None
