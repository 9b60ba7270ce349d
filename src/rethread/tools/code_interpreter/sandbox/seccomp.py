"""The filter on system calls, as a program of classic BPF. Pure: it is loaded by bubblewrap.

What is not in `syscalls` does not exist (ENOSYS), so that what a newer kernel brings is closed
until somebody has looked at it. A call with a rule here is allowed for some arguments only, or
answered without being made. The rest is allowed.

Source: Documentation/userspace-api/seccomp_filter.rst and linux/filter.h of the kernel.
"""

import errno
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from rethread.tools.code_interpreter.sandbox.syscalls import Machine, numbers

# One instruction is `struct sock_filter`: code, jump if true, jump if false, operand.
LOAD: Final = 0x20  # a word of struct seccomp_data: number 0, architecture 4, arguments from 16 on
JUMP_EQUAL: Final = 0x15
JUMP_GREATER: Final = 0x25
JUMP_AT_LEAST: Final = 0x35
JUMP_ANY_BIT: Final = 0x45
AND: Final = 0x54
RETURN: Final = 0x06

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000  # the whole process
ERROR: Final = 0x00050000  # with the number of the error in its lower half
PRETEND: Final = ERROR  # "no error": the call is not made, and says that it was

ARCHITECTURE: Final[Mapping[Machine, int]] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# clone(2): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
NEW_NAMESPACES: Final = 0x7E020000
AF_UNIX: Final = 1
# prctl(2): SET_PDEATHSIG, GET_PDEATHSIG, GET_DUMPABLE, SET_NAME, GET_NAME, GET_SECCOMP,
# CAPBSET_READ, SET_TIMERSLACK, GET_TIMERSLACK, SET_CHILD_SUBREAPER, GET_CHILD_SUBREAPER,
# SET_NO_NEW_PRIVS, GET_NO_NEW_PRIVS, GET_TID_ADDRESS, SET_THP_DISABLE, GET_THP_DISABLE, SET_VMA.
PRCTL: Final = (1, 2, 3, 15, 16, 21, 23, 29, 30, 36, 37, 38, 39, 40, 41, 42, 0x53564D41)
# ioctl(2): TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Not FS_IOC_RESVSP, which is
# fallocate by another name, nor what pushes bytes into a terminal.
IOCTL: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# fcntl(2): F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW. Each lock is memory of the kernel's, of
# any number; SQLite wants to have its own, and nobody else is there.
LOCK: Final = (6, 7, 37, 38)
# F_DUPFD to F_GETLK, F_OFD_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_GET_SEALS. Not F_SETLEASE:
# whoever opens a file with a lease waits for 45 seconds. Not F_SETPIPE_SZ: a pipe's buffer is
# memory that no process is charged with.
FCNTL: Final = (0, 1, 2, 3, 4, 5, 36, 1030, 1032, 1034)
# mmap(2): MAP_SHARED with MAP_ANONYMOUS. Its pages can be let go of, and stay, in no one's count.
SHARED_BY_NO_FILE: Final = 0x01 | 0x20
# A program with these bits would run as the code's user for whoever finds it outside of the box.
SET_USER_OR_GROUP: Final = 0o6000
MODES: Final[Mapping[str, int]] = {  # the argument with the mode; open and openat have one, too
    **dict.fromkeys(("chmod", "fchmod", "creat", "mknod"), 1),
    **dict.fromkeys(("fchmodat", "fchmodat2", "mknodat"), 2),
}
PERSONALITY: Final = (0, 0xFFFFFFFF)  # Linux as it is, and the question what it is

# open(2): O_DSYNC, O_SYNC and O_DIRECT have the disk work while the server waits for it.
SYNC_FLAGS: Final[Mapping[Machine, int]] = {
    "x86_64": 0o10000 | 0o4000000 | 0o40000,
    "aarch64": 0o10000 | 0o4000000 | 0o200000,
}

PRETENDED: Final = (
    # Nothing in a box has to outlive a power cut, and the journal of the disk is the server's too.
    *("fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"),
    # Code runs behind the server and shall not change that; ZeroMQ aborts where it may not try.
    *("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"),
    # A new session would be a new share of the cores, as large as the server's (autogroup).
    *("setpriority", "ioprio_set", "setsid"),
)
REFUSED: Final[Mapping[str, int]] = {
    # A gigabyte a call, faster than anybody can look; C libraries write zeros instead.
    "fallocate": errno.EOPNOTSUPP,
    **dict.fromkeys(("setxattr", "lsetxattr", "fsetxattr"), errno.EOPNOTSUPP),
    # They can carry descriptors: of files that lie in no folder and are open in no process.
    **dict.fromkeys(("sendmsg", "sendmmsg"), errno.EPERM),
}


class Rule(NamedTuple):
    """What one argument of a call has to be, or the error; 0 pretends. `number` counts from 0."""

    number: int
    kind: Literal["one_of", "none_of", "no_bit_of", "not_all_bits_of"]
    values: tuple[int, ...]
    error: int


class Instruction(NamedTuple):
    """One step of the program; the jumps count the steps to leave out."""

    code: int
    operand: int
    if_true: int = 0
    if_false: int = 0


def program(machine: Machine) -> bytes:
    """The filter for a machine, as bubblewrap's `--seccomp` reads it."""
    steps = list(_steps(machine))
    return b"".join(
        struct.pack("<HBBI", step.code, step.if_true, step.if_false, step.operand) for step in steps
    )


def rules(machine: Machine) -> Mapping[str, Sequence[Rule]]:
    """The calls that are allowed for some arguments only."""
    sync = SYNC_FLAGS[machine]
    return {
        "clone": [Rule(0, "no_bit_of", (NEW_NAMESPACES,), errno.EPERM)],
        # The error that ZeroMQ knows from other systems without netlink; at another it aborts.
        "socket": [Rule(0, "one_of", (AF_UNIX,), errno.EOPNOTSUPP)],
        "socketpair": [Rule(0, "one_of", (AF_UNIX,), errno.EOPNOTSUPP)],
        "prctl": [Rule(0, "one_of", PRCTL, errno.EINVAL)],
        "ioctl": [Rule(1, "one_of", IOCTL, errno.ENOTTY)],
        "personality": [Rule(0, "one_of", PERSONALITY, errno.EPERM)],
        "mmap": [Rule(3, "not_all_bits_of", (SHARED_BY_NO_FILE,), errno.ENOMEM)],
        "open": [
            Rule(1, "no_bit_of", (sync,), errno.EINVAL),
            Rule(2, "no_bit_of", (SET_USER_OR_GROUP,), errno.EPERM),
        ],
        "openat": [
            Rule(2, "no_bit_of", (sync,), errno.EINVAL),
            Rule(3, "no_bit_of", (SET_USER_OR_GROUP,), errno.EPERM),
        ],
        "fcntl": [Rule(1, "none_of", LOCK, 0), Rule(1, "one_of", FCNTL, errno.EINVAL)],
        **{
            call: [Rule(number, "no_bit_of", (SET_USER_OR_GROUP,), errno.EPERM)]
            for call, number in MODES.items()
        },
    }


def _steps(machine: Machine) -> Iterator[Instruction]:
    """Check the architecture, then go through the calls; what is not found is not there."""
    yield Instruction(LOAD, 4)
    yield Instruction(JUMP_EQUAL, ARCHITECTURE[machine], if_true=1)
    yield Instruction(RETURN, KILL)
    yield Instruction(LOAD, 0)
    known = numbers(machine)
    answered = {name: ERROR | error for name, error in REFUSED.items()}
    answered |= dict.fromkeys(PRETENDED, PRETEND)
    by_rule = rules(machine)
    free = sorted(number for name, number in known.items() if name not in {*answered, *by_rule})
    for first, last in _ranges(free):
        yield Instruction(JUMP_AT_LEAST, first, if_false=2)
        yield Instruction(JUMP_GREATER, last, if_true=1)
        yield Instruction(RETURN, ALLOW)
    for name, answer in answered.items():
        if name in known:
            yield Instruction(JUMP_EQUAL, known[name], if_false=1)
            yield Instruction(RETURN, answer)
    for name, some in by_rule.items():
        if name in known:
            checks = [step for rule in some for step in _check(rule)]
            yield Instruction(JUMP_EQUAL, known[name], if_false=len(checks) + 1)
            yield from checks
            yield Instruction(RETURN, ALLOW)
    # A number that this kernel may have and we do not know; with bit 30, x32.
    yield Instruction(RETURN, ERROR | errno.ENOSYS)


def _check(rule: Rule) -> Iterator[Instruction]:
    """Go on behind these steps if the argument's lower half fits, else return the error.

    The kernel reads no more than that half: each of these arguments is an int to it, and clone's
    flags for namespaces lie in it.
    """
    yield Instruction(LOAD, 16 + 8 * rule.number)
    if rule.kind == "no_bit_of":
        yield Instruction(JUMP_ANY_BIT, rule.values[0], if_false=1)
    elif rule.kind == "none_of":
        for left, value in zip(range(len(rule.values) - 1, -1, -1), rule.values, strict=True):
            yield Instruction(JUMP_EQUAL, value, if_true=left, if_false=0 if left else 1)
    elif rule.kind == "not_all_bits_of":
        yield Instruction(AND, rule.values[0])
        yield Instruction(JUMP_EQUAL, rule.values[0], if_false=1)
    else:
        for left, value in zip(range(len(rule.values), 0, -1), rule.values, strict=True):
            yield Instruction(JUMP_EQUAL, value, if_true=left)
    yield Instruction(RETURN, ERROR | rule.error)


def _ranges(ordered: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = ordered[0]
    for number in ordered[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
