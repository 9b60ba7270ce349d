"""What attacks share: this text runs inside a session, ahead of an attack's own.

An attack is a function that takes nothing. What it returns is what it got hold of: anything true
means that it got through. An OSError, or nothing returned, means that it was held; any other
error is a mistake of the attack, and is reported as if it had got through, so that none hides.
"""

import ctypes
import json
import os
import platform
import select
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

ATTACK_SECONDS: Final = 10.0  # what is not through by then waits for something
SHOWN: Final = 200
END: Final = b"\0"

HOST: Final[dict[str, Any]] = {}  # what the test tells of the host: paths, ports, numbers

LIBC: Final = ctypes.CDLL(None, use_errno=True)

# The numbers of system calls, x86_64 and aarch64. From 424 on they are the same everywhere.
NUMBERS: Final = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "capset": (126, 91),
    "chroot": (161, 51),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "fallocate": (285, 47),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "ioprio_get": (252, 31),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setscheduler": (144, 119),
    "semget": (64, 190),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
NUMBER_AT: Final = 0 if platform.machine() == "x86_64" else 1


def call(name: str, *arguments: Any) -> int:
    """What a system call gave; an OSError if it refused."""
    return call_number(NUMBERS[name][NUMBER_AT], *arguments)


def call_number(number: int, *arguments: Any) -> int:
    """The same by its number; a whole number is passed as a long."""
    longs = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    given = LIBC.syscall(ctypes.c_long(number), *longs)
    if given == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(given)


class Verdict(NamedTuple):
    """What an attack got hold of, and why no more; both in words."""

    got: str
    why: str = ""


def in_child(attacks: list[Callable[[], object]]) -> dict[str, Verdict]:
    """What attacks got hold of, tried one after the other in a process of its own.

    One that ends the process, or waits without end, is the last of them.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        for attack in attacks:
            os.write(writing, json.dumps([attack.__name__, *outcome(attack)]).encode() + b"\n")
        os.write(writing, END)  # not the end of the pipe: what an attack has started holds it
        os._exit(0)
    os.close(writing)
    said, is_over = b"", False
    while not is_over and select.select([reading], [], [], ATTACK_SECONDS)[0]:
        said += (more := os.read(reading, 65536))
        is_over = not more or said.endswith(END)
    os.close(reading)
    if not is_over or said.endswith(END):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    lines = [json.loads(line) for line in said.removesuffix(END).splitlines()]
    verdicts = {name: Verdict(got, why) for name, got, why in lines}
    if len(verdicts) < len(attacks):
        name = attacks[len(verdicts)].__name__
        verdicts[name] = ended(status) if is_over else Verdict("waits without end")
    return verdicts


def ended(status: int) -> Verdict:
    """What it says of an attack that its process has ended: a filter may kill who asks."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGSYS, signal.SIGKILL):
        return Verdict("", f"killed by signal {os.WTERMSIG(status)}")
    return Verdict(f"ended with status {status}")


def outcome(attack: Callable[[], object]) -> Verdict:
    """What an attack got hold of."""
    try:
        got = attack()
    except OSError as error:
        return Verdict("", str(error)[:SHOWN])
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Verdict(f"is broken: {error!r}"[:SHOWN])
    return Verdict(repr(got)[:SHOWN] if got else "")


def report(attacks: Iterable[Callable[[], object]]) -> None:
    """Try them one after the other, and print what each got."""
    left = list(attacks)
    while left:
        verdicts = in_child(left)
        say(verdicts)
        left = [attack for attack in left if attack.__name__ not in verdicts]


def report_own(*attacks: Callable[[], object]) -> None:
    """Try them in this very process; never on the bare machine, which some would take down."""
    if os.readlink("/proc/self/ns/pid") == HOST["namespaces"]["pid"]:
        raise RuntimeError("This is the host.")
    for attack in attacks:
        say({attack.__name__: outcome(attack)})


def say(verdicts: dict[str, Verdict]) -> None:
    """Print what attacks got, as JSON in a line."""
    sys.stdout.write(f"\nVERDICT {json.dumps(verdicts)}\n")
    sys.stdout.flush()
