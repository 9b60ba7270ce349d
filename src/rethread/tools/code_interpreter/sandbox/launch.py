"""The first program in a box: sets its limits, says that it is there, and becomes the kernel.

Run as a file by the box's Python, with nothing of rethread to import. It stands inside the box's
user namespace, where a limit on processes counts the box's processes alone; so it is set here and
not before. Between "I am here" and "go on" the server looks at how it is confined.

`launch.py held|tied LIMITS PROGRAM ARGUMENT...`, LIMITS being `name=value,…` as `resource` names
them. What is `tied` is in no box, and looked at by nobody: it becomes a child of this process, and
ends when nobody holds this one's standard input any more.
"""

import os
import resource
import signal
import sys
import threading

HERE, GO_ON = 3, 4  # the descriptors for the two words


def main(kind: str, limits: str, program: str, *arguments: str) -> None:
    """Never returns."""
    for each in limits.split(","):
        name, _, value = each.partition("=")
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(value), int(value)))
    if kind == "held":
        hold()
    else:
        tie()
    os.execv(program, [program, *arguments])  # noqa: S606


def hold() -> None:
    """Wait for the server's word."""
    os.write(HERE, b".")
    os.close(HERE)
    if not os.read(GO_ON, 1):
        sys.exit("The server has gone.")
    os.close(GO_ON)


def tie() -> None:
    """Return in a child; this process passes interrupts on, and ends with it or with the server."""
    child = os.fork()
    if not child:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        # A server that a script starts in the background ignores it, and so would the code.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return
    signal.signal(signal.SIGINT, lambda *_: os.kill(child, signal.SIGINT))
    threading.Thread(target=end_with_the_server, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def end_with_the_server() -> None:
    """Kill all of this process's group when the other end of its standard input is gone."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
