"""What is done to a process so that it is a box, and what a box is seen to be. Linux.

Called by `warden` alone, which has one thread: forking and unsharing are safe there.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

HERE, GO_ON, INFO, FILTER, OPTIONS = 3, 4, 5, 6, 7
"""Descriptors: the launcher's two words (as in `launch`), bubblewrap's report, the filter, and its
options, which name this machine's folders and so must not stand in a command line."""

NICE: Final = 5  # a third of the share of others; at 10, a call waits 5 times as long on busy cores
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MS_BIND, MS_REC, MS_SLAVE, MS_RDONLY, MS_REMOUNT = 4096, 16384, 1 << 19, 1, 32
CLONE_NEWNS: Final = 0x20000
IOPRIO_SET: Final[Mapping[str, int]] = {"x86_64": 251, "aarch64": 30}
IOPRIO_WHO_PROCESS, IOPRIO_IDLE = 1, 3 << 13
NAMESPACES: Final = ("user", "mnt", "pid", "net", "ipc", "uts")

libc: Final = ctypes.CDLL(None, use_errno=True)


class NotConfined(Exception):
    """A box that is not what it should be; nothing was run in it."""


def adopt_orphans() -> None:
    """Have processes whose parent dies become this one's children."""
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def check_confined(process: Path) -> None:
    """NotConfined if a process, seen from outside, is not in a box of its own."""
    for each in NAMESPACES:
        if (process / "ns" / each).readlink() == Path(f"/proc/self/ns/{each}").readlink():
            raise NotConfined(f"it shares the {each} namespace with this machine")
    lines = (process / "status").read_text("utf-8", "replace").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        if int(status[each][0], 16):
            raise NotConfined(f"it has capabilities: {each} {status[each][0]}")
    if status["Seccomp"] != ["2"] or status["NoNewPrivs"] != ["1"]:
        raise NotConfined("it has no filter on system calls, or could get privileges")
    if "0" in status["Uid"] + status["Gid"] + status["Groups"]:
        raise NotConfined("it is root")


def give_way(process: Path) -> None:
    """Have a process and what it starts run behind all others; it can't change that by itself.

    Not as SCHED_IDLE: where others take all cores for minutes, such a process does nothing.
    """
    for thread in (process / "task").iterdir():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), NICE)
            os.sched_setscheduler(int(thread.name), os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):  # where sessions share the cores, and not their processes
        (process / "autogroup").write_text(str(NICE), "ascii")


def show(folders: list[str], root: Path) -> None:
    """Have folders appear below `root`/shown, for the users of boxes and for nobody else.

    A folder of root's home can be reached by root alone; what is in it may well be for everybody.
    """
    _call("unshare", CLONE_NEWNS)
    _mount(b"none", b"/", None, MS_REC | MS_SLAVE)
    place = root / "shown"
    place.mkdir(mode=0o755, exist_ok=True)
    _mount(b"none", os.fsencode(place), b"tmpfs", 0)
    for number, folder in enumerate(folders):
        shown = place / str(number)
        shown.mkdir()
        _mount(os.fsencode(folder), os.fsencode(shown), None, MS_BIND)
        _mount(b"none", os.fsencode(shown), None, MS_BIND | MS_REMOUNT | MS_RDONLY)


def forked(asked: dict[str, Any], given: Mapping[int, int]) -> int:
    """The number of a new process that becomes bubblewrap and has these descriptors."""
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(asked["owner"], asked["cores"])
        high = {to: fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 64) for to, each in given.items()}
        high[0] = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for to, each in high.items():
            os.dup2(each, to)
        os.execve(asked["arguments"][0], asked["arguments"], {})  # noqa: S606
    except BaseException as problem:
        os.write(2, f"The sandbox can't be started: {problem}".encode())
    finally:
        os._exit(127)


def _become(owner: int | None, cores: list[int]) -> None:
    """Nobody of importance, which ends when this process does."""
    warden = os.getppid()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    os.setsid()
    os.umask(0o022)
    if owner is not None:
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
    os.sched_setaffinity(0, cores)
    number = IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        libc.syscall(number, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE)
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != warden:
        os._exit(0)


def _call(name: str, *arguments: int) -> None:
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fsdecode(target))
