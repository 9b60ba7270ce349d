"""What tries to get out of a box: run in one by `checking`, with nothing of rethread to import.

`python -c SOURCE JSON`: the JSON names what to reach for. Prints one line of JSON: for each thing
that must not be possible, what was possible; an empty text if nothing was.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
PTRACE_TRACEME = 0


def network(asked: dict[str, Any]) -> Iterator[str]:
    """Reach this machine's servers, by TCP and by an abstract Unix socket, or the world."""
    for host, port in (("127.0.0.1", asked["port"]), ("1.1.1.1", 53)):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
            yield f"connected to {host}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as abstract:
        abstract.connect("\0" + asked["abstract"])
        yield "connected to an abstract Unix socket"


def files(asked: dict[str, Any]) -> Iterator[str]:
    """Read what is this machine's."""
    for path in (asked["file"], "/etc/shadow", "/root/.ssh", asked["home"]):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))
            yield f"opened {path}"


def environment(asked: dict[str, Any]) -> Iterator[str]:
    """Find the server's environment: its own, or that of a process."""
    if asked["secret"] in repr(dict(os.environ)):
        yield "the server's variables are there"
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ") as variables:
            if name.isdigit() and asked["secret"] in variables.read():
                yield f"read the variables of process {name}"


def processes(asked: dict[str, Any]) -> Iterator[str]:
    """See or signal processes outside."""
    seen = sum(name.isdigit() for name in os.listdir("/proc"))
    if seen > 8:
        yield f"sees {seen} processes"
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(asked["process"], 0)
        yield "can signal the server"
    with contextlib.suppress(PermissionError, ProcessLookupError):
        if os.getppid() == asked["process"]:
            os.kill(os.getppid(), signal.SIGCONT)
            yield "is a child of the server"


def writes(_: dict[str, Any]) -> Iterator[str]:
    """Leave something outside of its folders."""
    folders = ["/", "/dev", "/etc", "/opt", "/proc/sys/kernel", "/usr/bin", "/usr/lib", sys.prefix]
    for folder in [*folders, sys.base_prefix, os.path.dirname(os.__file__)]:
        with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=folder):
            yield f"wrote to {folder}"


def privileges(_: dict[str, Any]) -> Iterator[str]:
    """Get rights that it does not have."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.getuid() == 0:
        yield "is root"
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapEff") and int(line.split()[1], 16):
                yield "has capabilities"
    # In processes of their own: where a sandbox does not hold, what they get ends with them.
    if _succeeds(lambda: libc.unshare(CLONE_NEWUSER | CLONE_NEWNS)):
        yield "can make namespaces"
    if _succeeds(lambda: libc.ptrace(PTRACE_TRACEME, 0, None, None)):
        yield "can trace processes"


def _succeeds(call: Callable[[], int]) -> bool:
    child = os.fork()
    if not child:
        os._exit(call() != -1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def its_place(_: dict[str, Any]) -> Iterator[str]:
    """What must be possible: files in its folder, in /tmp, and a process."""
    try:
        with open("here.txt", "w") as file:
            file.write("here")
        with tempfile.TemporaryFile() as other:
            other.write(b"there")
        if os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]:
            yield "a program failed"
    except OSError as problem:
        yield f"{errno.errorcode.get(problem.errno or 0)}: {problem}"


CHECKS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "network": network,
    "files": files,
    "environment": environment,
    "processes": processes,
    "writes": writes,
    "privileges": privileges,
    "its place": its_place,
}


def main(asked: dict[str, Any]) -> None:
    """Try everything."""
    print(json.dumps({name: ", ".join(check(asked)) for name, check in CHECKS.items()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
