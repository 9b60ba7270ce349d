"""The process that starts a server's boxes, watches their limits and ends them.

`python -m rethread.tools.code_interpreter.sandbox.warden`, one for each server that runs code: so
the server's loop is not held up by looking and forking, and what the boxes hang on is a process
with one thread (bubblewrap's --die-with-parent means the thread). It is asked over its standard
input and answers over its standard output, a line of JSON each. When the server is gone, so are
all boxes and their folders; when it is gone itself, the kernel ends the boxes.

Where the server is root, the boxes are not: each has a user of its own. What that user could not
reach of the runtime is shown to it in a mount namespace that only this process has.

A box is let go only after it was looked at from outside: that it is in other namespaces, has no
capability, can get none, and has its filter.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from rethread.tools.code_interpreter.sandbox import watching
from rethread.tools.code_interpreter.sandbox.bubblewrap import FILTER, GO_ON, HERE, INFO, OPTIONS
from rethread.tools.code_interpreter.sandbox.places import remove

WATCH_SECONDS: Final = 0.1  # between two looks while code runs
REST_SECONDS: Final = 0.5
LOOK_SHARE: Final = 0.1  # of its time that is spent with looking at one box, at most
FULL_SECONDS: Final = 2.0  # how long a box may have all the processes that it may have
NEVER: Final = float("inf")
NICE: Final = 10
END_SECONDS: Final = 5.0
KEPT_OUTPUT: Final = 4096  # bytes of what a box writes
OUTPUT_AT_ONCE: Final = 16 * 1024
FREE_SLACK: Final = 64 * 1024 * 1024

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MS_BIND, MS_REC, MS_SLAVE, MS_RDONLY, MS_REMOUNT = 4096, 16384, 1 << 19, 1, 32
CLONE_NEWNS: Final = 0x20000
IOPRIO_SET: Final[Mapping[str, int]] = {"x86_64": 251, "aarch64": 30}
IOPRIO_WHO_PROCESS, IOPRIO_IDLE = 1, 3 << 13
NAMESPACES: Final = ("user", "mnt", "pid", "net", "ipc", "uts")

libc: Final = ctypes.CDLL(None, use_errno=True)


class NotConfined(Exception):
    """A box that is not what it should be; nothing was run in it."""


def main(root: str) -> None:
    """Do what is asked, until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to answer
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    warden = Warden(Path(root))
    try:
        warden.serve()
    finally:
        warden.end()


class Warden:
    """All boxes of one server."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._selector = selectors.DefaultSelector()
        self._boxes: dict[int, Boxed] = {}
        self._asked = b""
        self._is_over = False

    def serve(self) -> None:
        """Wait for whatever comes first: a question, news of a box, or the time to look at one."""
        os.set_blocking(0, False)
        self._selector.register(0, selectors.EVENT_READ, self._hear)
        while not self._is_over:
            due = min((box.look_at for box in self._boxes.values()), default=NEVER)
            timeout = None if due == NEVER else max(0.0, due - time.monotonic())
            for key, _ in self._selector.select(timeout):
                key.data()
            now = time.monotonic()
            for box in [each for each in self._boxes.values() if each.look_at <= now]:
                box.look()
            self._reap()

    def end(self) -> None:
        """Kill all boxes, and have their folders gone."""
        self._selector.unregister(0)
        for box in self._boxes.values():
            box.kill()
        until = time.monotonic() + END_SECONDS
        while self._boxes and time.monotonic() < until:
            for key, _ in self._selector.select(until - time.monotonic()):
                key.data()
            self._reap()
        for folder in self._root.iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    remove(folder)

    def _hear(self) -> None:
        heard = os.read(0, 1 << 20)
        self._is_over = not heard
        *lines, self._asked = (self._asked + heard).split(b"\n")
        for line in lines:
            self._do(json.loads(line))

    def _do(self, asked: dict[str, Any]) -> None:
        if asked["do"] == "show":
            _say(0, "shown", why=_tried(lambda: show(asked["folders"], self._root)))
        elif asked["do"] == "start":
            self._start(asked)
        elif box := self._boxes.get(asked["id"]):
            box.do(asked["do"])

    def _start(self, asked: dict[str, Any]) -> None:
        try:
            box = Boxed(asked, self._selector)
        except OSError as problem:
            _say(asked["id"], "ended", over=None, why=str(problem), output="")
        else:
            self._boxes[box.id] = box

    def _reap(self) -> None:
        """Take note of what has ended; what the boxes' own first processes left behind, too."""
        statuses: dict[int, int] = {}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                statuses[found[0]] = found[1]
        for box in list(self._boxes.values()):
            if box.pid in statuses:
                box.has_ended = True
            if box.has_ended and box.is_empty:
                box.close()
                del self._boxes[box.id]


class Boxed:
    """One box: bubblewrap, its first process inside, and the Python behind that."""

    def __init__(self, asked: dict[str, Any], selector: selectors.BaseSelector) -> None:
        self.id: int = asked["id"]
        self.has_ended = False
        self.look_at = NEVER
        self._limits: dict[str, int] = asked["limits"]
        self._selector = selector
        self._over: str | None = None
        self._why: str | None = None
        self._output = b""
        self._interval = REST_SECONDS
        self._full_since: float | None = None
        self._inside = -1  # a pidfd of the first process inside: when that is dead, all are
        self._python = -1
        self._proc = -1
        self._process = Path()
        self._is_behind = False
        self._in_memory: list[int] = []
        self._folder = os.open(asked["folder"], watching.FOLDER)
        self._free = _free_bytes(self._folder)
        self._info, info = os.pipe()
        self._here, here = os.pipe()
        go_on, self._go_on = os.pipe()
        self._written, output = os.pipe()
        seccomp = os.open(asked["filter"], os.O_RDONLY | os.O_CLOEXEC)
        options = _readable("\0".join([*asked["options"], ""]).encode())
        given = {1: output, 2: output, INFO: info, HERE: here, GO_ON: go_on}
        given |= {FILTER: seccomp, OPTIONS: options}
        self.pid = _forked(asked, given)
        for each in {*given.values()}:
            os.close(each)
        self._selector.register(self._here, selectors.EVENT_READ, self._let_go)
        self._outside = os.pidfd_open(self.pid)
        self._wake_at_end_of(self._outside)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it runs any more, bubblewrap itself being gone."""
        return self._inside < 0 or _is_dead(self._inside)

    def do(self, word: str) -> None:
        """One of the words that a box understands."""
        words: Mapping[str, Callable[[], None]] = {
            "kill": self.kill,
            "interrupt": self._interrupt,
            "watch": self._watch,
            "rest": lambda: self._look_every(REST_SECONDS),
        }
        words[word]()

    def kill(self) -> None:
        """End all of it at once: the kernel does, when the first process inside dies."""
        if self._inside >= 0:
            _signal(self._inside, signal.SIGKILL)
        elif not self.has_ended:
            os.kill(self.pid, signal.SIGKILL)

    def look(self) -> None:
        """See whether a limit is passed; the time that it took sets when to look again."""
        begun = time.monotonic()
        try:
            limit = self._passed(begun)
        except OSError as problem:  # what can't be watched must not run
            self._why = self._why or f"it can't be watched: {problem}"
            self.kill()
            limit = None
        self._drain()
        done = time.monotonic()
        self.look_at = done + max(self._interval, (done - begun) / LOOK_SHARE)
        if limit is not None:
            self._over = self._over or limit
            self.kill()

    def close(self) -> None:
        """Let go of everything and report; nothing of it runs any more."""
        self._drain()
        self._stop_listening()
        processes = (self._outside, self._inside, self._python)
        others = (self._proc, self._folder, self._written, self._go_on, *self._in_memory)
        for each in (*processes, *others):
            if each >= 0:
                os.close(each)
        output = self._output.decode("utf-8", "replace")
        _say(self.id, "ended", over=self._over, why=self._why, output=output)

    def _let_go(self) -> None:
        """The launcher is there: have a look at it, and let it become what was asked for."""
        is_there = os.read(self._here, 1) == b"."
        info = os.read(self._info, 4096) if is_there else b""
        self._stop_listening()
        if not is_there:
            return  # bubblewrap could not do it; its end, and what it wrote, will be reported
        try:
            self._find(int(json.loads(info)["child-pid"]))
            os.write(self._go_on, b".")
        except (OSError, NotConfined, ValueError) as problem:
            self._why = f"{type(problem).__name__}: {problem}"
            self.kill()
            return
        self.look_at = time.monotonic() + self._interval
        _say(self.id, "started")

    def _find(self, first: int) -> None:
        """The processes inside, by what the kernel says and nothing that is inside."""
        self._inside = os.pidfd_open(first)
        self._wake_at_end_of(self._inside)
        children = Path(f"/proc/{first}/task/{first}/children").read_text("ascii").split()
        if len(children) != 1:
            raise NotConfined(f"{len(children)} processes in the box")
        (python,) = children
        self._python = os.pidfd_open(int(python))
        self._process = Path(f"/proc/{python}")
        check_confined(self._process)
        self._proc = os.open(f"/proc/{python}/root/proc", watching.FOLDER)
        self._in_memory = [
            os.open(f"/proc/{python}/root/{each}", watching.FOLDER) for each in ("tmp", "dev/shm")
        ]
        if _is_dead(self._python):
            raise NotConfined("it ended while it was looked at")

    def _passed(self, now: float) -> str | None:
        """The limit that the box is past, if any."""
        most = self._limits["memory_bytes"]
        found = watching.taken(self._proc, self._in_memory, most_bytes=most)
        if found.memory_bytes > most:
            return "memory"
        # One that is full can't do anything any more; code that starts too much would have ended.
        is_full = found.tasks >= self._limits["processes"]
        self._full_since = (self._full_since or now) if is_full else None
        if self._full_since is not None and now - self._full_since >= FULL_SECONDS:
            return "processes"
        return "disk" if self._is_disk_full() else None

    def _is_disk_full(self) -> bool:
        most = self._limits["disk_bytes"]
        used = watching.used_by(self._folder, most_bytes=most)
        used += watching.deleted_bytes(self._proc, self._in_memory)
        if used > most:
            return True
        # Deleted, closed and still mapped, or on its way through a socket: nobody can see those
        # files, but what was written is counted, and the disk has got fuller.
        is_fuller = self._free - _free_bytes(self._folder) > most + FREE_SLACK
        return is_fuller and watching.written(self._proc) - used > most

    def _watch(self) -> None:
        """From now on other people's code runs: behind the server, and looked at often."""
        if not self._is_behind and self._proc >= 0:
            self._is_behind = True
            give_way(self._process)
        self._look_every(WATCH_SECONDS)

    def _interrupt(self) -> None:
        if self._python >= 0:
            _signal(self._python, signal.SIGINT)

    def _look_every(self, seconds: float) -> None:
        self._interval = seconds
        if self._proc >= 0:
            self.look_at = min(self.look_at, time.monotonic() + seconds)

    def _drain(self) -> None:
        """Keep the end of what it wrote. No more is read at once: it may write without end."""
        os.set_blocking(self._written, False)
        with contextlib.suppress(BlockingIOError):
            self._output = (self._output + os.read(self._written, OUTPUT_AT_ONCE))[-KEPT_OUTPUT:]

    def _wake_at_end_of(self, process: int) -> None:
        """Have the warden look around when a process ends."""
        forget = partial(self._selector.unregister, process)
        self._selector.register(process, selectors.EVENT_READ, forget)

    def _stop_listening(self) -> None:
        if self._here >= 0:
            self._selector.unregister(self._here)
            os.close(self._here)
            os.close(self._info)
            self._here = -1


# What a box must be


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


# Before a box


def show(folders: list[str], root: Path) -> None:
    """Have folders appear below `root`/shown, for the users of boxes and for nobody else.

    A folder of root's home can be reached by root alone; what is in it may well be for everybody.
    """
    _call("unshare", CLONE_NEWNS)
    _mount(b"none", b"/", None, MS_REC | MS_SLAVE)
    place = root / "shown"
    place.mkdir(mode=0o755)
    _mount(b"none", os.fsencode(place), b"tmpfs", 0)
    for number, folder in enumerate(folders):
        shown = place / str(number)
        shown.mkdir()
        _mount(os.fsencode(folder), os.fsencode(shown), None, MS_BIND)
        _mount(b"none", os.fsencode(shown), None, MS_BIND | MS_REMOUNT | MS_RDONLY)


def _forked(asked: dict[str, Any], given: Mapping[int, int]) -> int:
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
    for ignored in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
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


# Small things


def _say(box: int, word: str, **more: object) -> None:
    line = memoryview(json.dumps({"id": box, "is": word, **more}).encode() + b"\n")
    with contextlib.suppress(BrokenPipeError):  # its standard input will end, too
        while line:
            line = line[os.write(1, line) :]


def _tried(step: Callable[[], None]) -> str | None:
    try:
        step()
    except OSError as problem:
        return str(problem)
    return None


def _call(name: str, *arguments: int) -> None:
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fsdecode(target))


def _readable(content: bytes) -> int:
    """A descriptor from which to read that."""
    opened = os.memfd_create("options")
    os.write(opened, content)
    os.lseek(opened, 0, os.SEEK_SET)
    return opened


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)


def _is_dead(process: int) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(0))


def _free_bytes(folder: int) -> int:
    found = os.fstatvfs(folder)
    return found.f_bfree * found.f_frsize


if __name__ == "__main__":
    main(sys.argv[1])
