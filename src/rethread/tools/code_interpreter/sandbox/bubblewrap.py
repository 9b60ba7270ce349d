"""A box by bubblewrap: its command line, as data. `warden` starts it and watches it.

Everything of its own: users, mounts, processes, network (with nothing in it), IPC, host name,
cgroups. The code sees the system's programs and libraries and the runtime, read-only, its two
folders, and /tmp and /dev/shm in memory; nothing else of this machine. It has no capability and can
get none, and can make only the system calls of `seccomp`.

The descriptors that a box is given stand in `confining`. bubblewrap closes those that it reads.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from rethread.tools.code_interpreter.sandbox import DATA, SOCKETS, Command, Limits, Place, launch
from rethread.tools.code_interpreter.sandbox.confining import FILTER, INFO, OPTIONS
from rethread.tools.code_interpreter.sandbox.runtime import BASE, PACKAGES, Runtime

USER: Final = 1000
HOME: Final = "/tmp"  # noqa: S108 - in the box
LAUNCHER: Final = "/opt/launch.py"
NEWER: Final = ("--disable-userns",)  # 0.8; the filter on system calls says the same
NEXT_TO_NOTHING: Final = "4096"

# Read-only, where this machine has them. No /usr/local, no /etc, no /opt, no /var, no /home.
SYSTEM: Final = (
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share/fontconfig",
    "/usr/share/fonts",
    "/usr/share/i18n",
    "/usr/share/locale",
    "/usr/share/mime",
    "/usr/share/perl",
    "/usr/share/terminfo",
    "/usr/share/zoneinfo",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
)
TOP: Final = ("/bin", "/lib", "/lib32", "/lib64")  # links into /usr, or folders of their own
# Not /dev/zero: what is mapped from it and shared is memory that no process is charged with.
DEVICES: Final = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom")
# What /proc tells of the machine and not of the box.
HIDDEN: Final = (
    *("/proc/cmdline", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg"),
    *("/proc/sched_debug", "/proc/timer_list", "/proc/diskstats", "/proc/partitions"),
    *("/proc/modules", "/proc/locks", "/proc/swaps", "/proc/kallsyms"),
)
HIDDEN_FOLDERS: Final = ("/proc/acpi", "/proc/asound", "/proc/driver", "/proc/fs", "/proc/scsi")

PASSWD: Final = (
    f"sandbox:x:{USER}:{USER}:sandbox:{HOME}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
)
GROUP: Final = f"sandbox:x:{USER}:\nnogroup:x:65534:\n"
HOSTS: Final = "127.0.0.1 localhost\n"
NAMES: Final = "passwd: files\ngroup: files\nhosts: files\n"
FILES: Final = {
    "/etc/passwd": PASSWD,
    "/etc/group": GROUP,
    "/etc/hosts": HOSTS,
    "/etc/nsswitch.conf": NAMES,
}


def environment(runtime: Runtime, command: Command, limits: Limits) -> dict[str, str]:
    """All that the code sees of an environment."""
    threads = str(limits.cpus)
    return {
        "PATH": f"{PACKAGES}/bin:{BASE}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": HOME,
        "TMPDIR": HOME,
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        # Else the system's pip tells of ways to install that there are not, rather than of none.
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        # More threads than cores wait for each other; and every thread is one of its processes.
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NUMEXPR_MAX_THREADS": threads,
        "MALLOC_ARENA_MAX": "2",
        **({"LD_LIBRARY_PATH": runtime.libraries} if runtime.libraries else {}),
        **command.environment,
    }


def rlimits(limits: Limits) -> str:
    """The limits of single processes, as `launch` reads them.

    DATA makes an allocation that is too large an error in the code, which can go on. What all
    processes have together is counted by `watching`. NPROC counts the box's processes alone.
    """
    return ",".join(
        f"{name}={value}"
        for name, value in (
            ("NPROC", limits.processes),
            ("DATA", limits.memory_bytes),
            ("NOFILE", limits.open_files),
            ("FSIZE", limits.disk_bytes),
            ("CORE", 0),
            ("MEMLOCK", 0),
            ("MSGQUEUE", 0),
            ("SIGPENDING", 1024),
            ("NICE", 0),
            ("RTPRIO", 0),
        )
    )


class CommandLine(NamedTuple):
    """`options` go through a descriptor, NUL behind each."""

    arguments: list[str]
    options: list[str]


class Program(NamedTuple):
    """bubblewrap, and those of the wanted options that this version knows."""

    path: str
    options: tuple[str, ...]


def command_line(
    program: Program, runtime: Runtime, place: Place, command: Command, limits: Limits, shared: Path
) -> CommandLine:
    """What to start; `shared` holds FILES and the launcher."""
    size = str(limits.memory_bytes)
    variables = environment(runtime, command, limits)
    return CommandLine(
        [
            *(program.path, "--args", str(OPTIONS), "--"),
            *(runtime.launcher, "-I", "-S", LAUNCHER, "held", rlimits(limits)),
            *(runtime.python, *command.arguments),
        ],
        [
            *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc"),
            *("--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"),
            *("--uid", str(USER), "--gid", str(USER), "--cap-drop", "ALL"),
            *("--die-with-parent", "--new-session", *program.options),
            *("--info-fd", str(INFO), "--seccomp", str(FILTER)),
            *_system(),
            *_runtime(runtime, shared),
            *_own(shared),
            *("--proc", "/proc", *_hidden()),
            *("--size", NEXT_TO_NOTHING, "--tmpfs", "/dev", *_devices()),
            *("--size", size, "--tmpfs", HOME, "--size", size, "--tmpfs", "/dev/shm"),  # noqa: S108
            *("--bind", str(place.data), DATA, "--bind", str(place.sockets), SOCKETS),
            *("--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/"),
            *("--chdir", DATA, "--clearenv"),
            *(word for name in variables for word in ("--setenv", name, variables[name])),
        ],
    )


def _system() -> Iterator[str]:
    for folder in SYSTEM:
        if Path(folder).exists():
            yield from ("--ro-bind", folder, folder)
    for folder in TOP:
        path = Path(folder)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), folder)
        elif path.is_dir():
            yield from ("--ro-bind", folder, folder)


def _runtime(runtime: Runtime, shared: Path) -> Iterator[str]:
    for mount in runtime.mounts:
        yield from ("--ro-bind", str(mount.source), mount.inside)
    for target, link in runtime.links:
        yield from ("--symlink", target, link)
    if runtime.configuration is not None:
        yield from ("--ro-bind", str(shared / "pyvenv.cfg"), f"{PACKAGES}/pyvenv.cfg")


def _own(shared: Path) -> Iterator[str]:
    for inside in FILES:
        yield from ("--ro-bind", str(shared / Path(inside).name), inside)
    yield from ("--ro-bind", str(shared / "launch.py"), LAUNCHER)


def _devices() -> Iterator[str]:
    """No terminals: those that a box takes are missing elsewhere."""
    for device in DEVICES:
        yield from ("--dev-bind", device, device)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        yield from ("--symlink", f"/proc/self/fd/{number}", f"/dev/{name}")
    yield from ("--symlink", "/proc/self/fd", "/dev/fd")


def _hidden() -> Iterator[str]:
    for path in HIDDEN:
        if Path(path).exists():
            yield from ("--ro-bind", "/dev/null", path)
    for path in HIDDEN_FOLDERS:
        if Path(path).is_dir():
            yield from ("--size", NEXT_TO_NOTHING, "--tmpfs", path, "--remount-ro", path)


def write_shared(shared: Path, runtime: Runtime) -> None:
    """Put what `arguments` shows of it into the folder that all boxes share."""
    for inside, text in FILES.items():
        (shared / Path(inside).name).write_text(text, "ascii")
    (shared / "launch.py").write_bytes(Path(launch.__file__).read_bytes())
    (shared / "pyvenv.cfg").write_text(runtime.configuration or "", "utf-8")
    for each in shared.iterdir():
        each.chmod(0o444)
