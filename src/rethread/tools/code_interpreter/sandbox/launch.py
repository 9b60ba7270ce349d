"""The first program in a box: sets its limits, says that it is there, and becomes the kernel.

Run as a file by the box's Python, with nothing of rethread to import. It stands inside the box's
user namespace, where a limit on processes counts the box's processes alone; so it is set here and
not before. Between "I am here" and "go on" the server looks at how it is confined.

`launch.py held|free LIMITS PROGRAM ARGUMENT...`, LIMITS being `name=value,…` as `resource` names
them. What is `free` is not looked at by anybody: it is in no box.
"""

import os
import resource
import sys

HERE, GO_ON = 3, 4  # the descriptors for the two words


def main(kind: str, limits: str, program: str, *arguments: str) -> None:
    """Never returns."""
    for each in limits.split(","):
        name, _, value = each.partition("=")
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(value), int(value)))
    if kind == "held":
        hold()
    os.execv(program, [program, *arguments])  # noqa: S606


def hold() -> None:
    """Wait for the server's word."""
    os.write(HERE, b".")
    os.close(HERE)
    if not os.read(GO_ON, 1):
        sys.exit("The server has gone.")
    os.close(GO_ON)


if __name__ == "__main__":
    main(*sys.argv[1:])
