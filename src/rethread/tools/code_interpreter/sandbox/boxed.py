"""One box, as the warden has it: bubblewrap, the first process inside, the Python behind that."""

import contextlib
import json
import os
import select
import selectors
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from rethread.tools.code_interpreter.sandbox import watching
from rethread.tools.code_interpreter.sandbox.confining import (
    FILTER,
    GO_ON,
    HERE,
    INFO,
    OPTIONS,
    NotConfined,
    check_confined,
    forked,
    give_way,
)

NEVER: Final = float("inf")
WATCH_SECONDS: Final = 0.1  # between two looks while code runs
REST_SECONDS: Final = 0.5
LOOK_SHARE: Final = 0.1  # of the time is spent with looking at a box's disk, at most
HASTE_SHARE: Final = 0.25  # and with looking at its memory, which fills quicker
FULL_SECONDS: Final = 2.0  # how long a box may have all the processes that it may have
KEPT_OUTPUT: Final = 4096  # bytes of what a box writes
OUTPUT_AT_ONCE: Final = 16 * 1024

Say = Callable[..., None]


class Boxed:
    """One box."""

    def __init__(self, asked: dict[str, Any], selector: selectors.BaseSelector, say: Say) -> None:
        self.id: int = asked["id"]
        self.has_ended = False
        self.look_at = NEVER
        self._limits: dict[str, int] = asked["limits"]
        self._selector = selector
        self._say = partial(say, self.id)
        self._over: str | None = None
        self._why: str | None = None
        self._output = b""
        self._interval = REST_SECONDS
        self._look_at_disk_at = 0.0
        self._written: dict[str, int] = {}
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
        self._wrote, output = os.pipe()
        seccomp = os.open(asked["filter"], os.O_RDONLY | os.O_CLOEXEC)
        options = _readable("\0".join([*asked["options"], ""]).encode())
        given = {1: output, 2: output, INFO: info, HERE: here, GO_ON: go_on}
        given |= {FILTER: seccomp, OPTIONS: options}
        self.pid = forked(asked, given)
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
        """See whether a limit is passed; the time that it takes sets when to look again."""
        begun = time.monotonic()
        try:
            limit = self._passed(begun) or self._passed_on_disk(begun)
        except OSError as problem:  # what can't be watched must not run
            self._why = self._why or f"it can't be watched: {problem}"
            self.kill()
        else:
            if limit is not None:
                self._over = self._over or limit
                self.kill()
        self._drain()

    def close(self) -> None:
        """Let go of everything and report; nothing of it runs any more."""
        self._drain()
        self._stop_listening()
        processes = (self._outside, self._inside, self._python)
        for each in processes:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(each)
        others = (self._proc, self._folder, self._wrote, self._go_on, *self._in_memory)
        for each in (*processes, *others):
            if each >= 0:
                os.close(each)
        output = self._output.decode("utf-8", "replace")
        self._say("ended", over=self._over, why=self._why, output=output)

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
        self._say("started")

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
        done = time.monotonic()
        self.look_at = done + max(self._interval, (done - now) / HASTE_SHARE)
        if self._full_since is not None and now - self._full_since >= FULL_SECONDS:
            return "processes"
        return None

    def _passed_on_disk(self, now: float) -> str | None:
        if now < self._look_at_disk_at:
            return None
        begun = time.monotonic()
        is_full = self._is_disk_full()
        done = time.monotonic()
        self._look_at_disk_at = done + (done - begun) / LOOK_SHARE
        return "disk" if is_full else None

    def _is_disk_full(self) -> bool:
        most = self._limits["disk_bytes"]
        used = watching.used_by(self._folder, most_bytes=most)
        used += watching.deleted_bytes(self._proc, self._in_memory)
        self._written |= watching.written(self._proc)
        if used > most:
            return True
        # What a deleted file holds that is closed and still mapped can't be seen. But the disk has
        # got fuller; and what was written is counted, though not of processes that came and went
        # between two looks.
        fuller = self._free - _free_bytes(self._folder)
        if fuller <= most + most // 8:
            return False
        unseen = sum(self._written.values()) - used
        return unseen > most or watching.has_mapped_deleted(self._proc, self._in_memory)

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
        os.set_blocking(self._wrote, False)
        with contextlib.suppress(BlockingIOError):
            self._output = (self._output + os.read(self._wrote, OUTPUT_AT_ONCE))[-KEPT_OUTPUT:]

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
