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
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rethread.tools.code_interpreter.sandbox.boxed import NEVER, Boxed
from rethread.tools.code_interpreter.sandbox.confining import adopt_orphans, show
from rethread.tools.code_interpreter.sandbox.places import remove

END_SECONDS: Final = 5.0


def main(root: str) -> None:
    """Do what is asked, until nobody is there to ask."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the server's to answer, which may take its time
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
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
            box = Boxed(asked, self._selector, _say)
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


if __name__ == "__main__":
    main(sys.argv[1])
