"""The filter on system calls, run by an interpreter of its own: what each call is answered."""

import errno
import struct
from collections.abc import Sequence

import pytest

from rethread.tools.code_interpreter.sandbox.seccomp import (
    ALLOW,
    AND,
    ARCHITECTURE,
    ERROR,
    JUMP_ANY_BIT,
    JUMP_AT_LEAST,
    JUMP_EQUAL,
    JUMP_GREATER,
    KILL,
    LOAD,
    PRETEND,
    RETURN,
    program,
)
from rethread.tools.code_interpreter.sandbox.syscalls import Machine, numbers

both = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def answer(
    machine: Machine, call: str | int, *arguments: int, architecture: int | None = None
) -> int:
    """What the kernel would make of a call."""
    number = numbers(machine)[call] if isinstance(call, str) else call
    seen = struct.pack(
        "<IIQ6Q",
        number,
        ARCHITECTURE[machine] if architecture is None else architecture,
        0,
        *(*arguments, *[0] * (6 - len(arguments))),
    )
    return run(list(struct.iter_unpack("<HBBI", program(machine))), seen)


def run(steps: Sequence[tuple[int, ...]], seen: bytes) -> int:
    """Classic BPF, as far as the filter uses it. A jump out of the program is an IndexError."""
    at = loaded = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        match code:
            case _ if code == RETURN:
                return operand
            case _ if code == LOAD:
                (loaded,) = struct.unpack_from("<I", seen, operand)
            case _ if code == AND:
                loaded &= operand
            case _:
                holds = {
                    JUMP_EQUAL: loaded == operand,
                    JUMP_GREATER: loaded > operand,
                    JUMP_AT_LEAST: loaded >= operand,
                    JUMP_ANY_BIT: bool(loaded & operand),
                }[code]
                at += if_true if holds else if_false


@both
def test_what_every_program_needs_is_allowed(machine: Machine) -> None:
    for call in ("read", "write", "mmap", "execve", "exit_group", "futex", "clone", "rt_sigreturn"):
        assert answer(machine, call) == ALLOW, call


@both
def test_what_is_not_known_does_not_exist(machine: Machine) -> None:
    known = set(numbers(machine).values())
    for number in {*range(600), 0x40000000, 0x40000001, 0xFFFFFFFF} - known:
        assert answer(machine, number) == ERROR | errno.ENOSYS


@both
def test_calls_of_another_architecture_end_the_process(machine: Machine) -> None:
    i386, arm = 0x40000003, 0x40000028
    for other in {*ARCHITECTURE.values(), i386, arm} - {ARCHITECTURE[machine]}:
        assert answer(machine, "read", architecture=other) == KILL


@both
def test_no_way_to_other_namespaces_other_processes_or_hidden_memory(machine: Machine) -> None:
    closed = (
        *("unshare", "setns", "mount", "pivot_root", "chroot", "clone3", "ptrace", "bpf"),
        *("process_vm_writev", "pidfd_getfd", "keyctl", "io_uring_setup", "perf_event_open"),
        *("memfd_create", "shmget", "semget", "msgget", "mq_open", "vmsplice", "userfaultfd"),
        *("open_by_handle_at", "openat2", "pwritev2", "init_module", "seccomp"),
    )
    assert not set(closed) & set(numbers(machine))


@both
@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("clone", (0x01200011,), ALLOW),  # fork
        ("clone", (0x003D0F00,), ALLOW),  # a thread
        ("clone", (0x10000011,), ERROR | errno.EPERM),  # CLONE_NEWUSER
        ("clone", (0x20000 | 0x11,), ERROR | errno.EPERM),  # CLONE_NEWNS
        ("socket", (1, 1, 0), ALLOW),
        *(
            ("socket", (family, 1, 0), ERROR | errno.EOPNOTSUPP)
            for family in (0, 2, 10, 16, 17, 40)
        ),
        ("socket", (2**32 + 1, 1, 0), ALLOW),  # the kernel sees AF_UNIX, too
        ("mmap", (0, 4096, 3, 0x22), ALLOW),  # private, of no file
        ("mmap", (0, 4096, 3, 0x01), ALLOW),  # shared, of a file
        ("mmap", (0, 4096, 3, 0x21), ERROR | errno.ENOMEM),
        ("mmap", (0, 4096, 3, 0x8021), ERROR | errno.ENOMEM),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), ERROR | errno.ENOTTY),  # TIOCSTI
        ("ioctl", (0, 0x40305828), ERROR | errno.ENOTTY),  # FS_IOC_RESVSP
        ("fcntl", (0, 1), ALLOW),
        ("fcntl", (0, 5), ALLOW),  # F_GETLK
        *(("fcntl", (0, command, 0x7FFF_FFFF_4000), PRETEND) for command in (6, 7, 37, 38)),
        ("fchmod", (3, 0o755), ALLOW),
        ("fchmod", (3, 0o4755), ERROR | errno.EPERM),
        ("fchmodat", (3, 0, 0o2755), ERROR | errno.EPERM),
        ("openat", (0, 0, 0o102, 0o6755), ERROR | errno.EPERM),
        ("fcntl", (0, 1024), ERROR | errno.EINVAL),  # F_SETLEASE
        ("fcntl", (0, 1031), ERROR | errno.EINVAL),  # F_SETPIPE_SZ
        ("prctl", (15,), ALLOW),  # PR_SET_NAME
        ("prctl", (4,), ERROR | errno.EINVAL),  # PR_SET_DUMPABLE
        ("prctl", (22,), ERROR | errno.EINVAL),  # PR_SET_SECCOMP
        ("openat", (0, 0, 0o102), ALLOW),
        ("openat", (0, 0, 0o4010000), ERROR | errno.EINVAL),  # O_SYNC
        ("fallocate", (3, 0, 0, 2**30), ERROR | errno.EOPNOTSUPP),
        ("fsync", (3,), PRETEND),
        ("sched_setscheduler", (0, 0, 0), PRETEND),
        ("setsid", (), PRETEND),
    ],
)
def test_some_calls_depend_on_what_is_asked(
    machine: Machine, call: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert answer(machine, call, *arguments) == expected
