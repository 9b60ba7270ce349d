"""Attacks: see, signal, read or change processes that are not the session's own."""

import ctypes
import os
import signal
import struct
from collections.abc import Iterator

from tests.escape.inside import HOST, LIBC, call


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def others() -> list[int]:
    """All but this process; the launcher of the sandbox is one of them."""
    return [pid for pid in pids() if pid != os.getpid()]


def read_all(kind: str) -> Iterator[tuple[int, bytes]]:
    for pid in pids():
        try:
            with open(f"/proc/{pid}/{kind}", "rb") as file:
                yield pid, file.read(200_000)
        except OSError:
            continue


def see_a_process_of_the_host() -> object:
    mark = HOST["command_mark"].encode()
    return [(pid, line) for pid, line in read_all("cmdline") if mark in line]


def see_more_processes_than_its_own() -> object:
    return pids() if len(pids()) > 8 else None


def read_a_secret_in_an_environment() -> object:
    secret = HOST["secret_backwards"][::-1].encode()
    return [pid for pid, text in read_all("environ") if secret in text]


def read_a_secret_in_memory() -> object:
    """The whole writable memory of every process that it may read."""
    secret, found = HOST["secret_backwards"][::-1].encode(), []
    for pid in others():
        try:
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
                for line in maps:
                    start, end = (int(part, 16) for part in line.split()[0].split("-"))
                    if " rw" in line and end - start < 2**26:
                        memory.seek(start)
                        if secret in memory.read(end - start):
                            found.append(pid)
        except (OSError, ValueError, OverflowError):
            continue
    return found


def signal_the_server() -> object:
    os.kill(HOST["server_pid"], 0)
    with open(f"/proc/{HOST['server_pid']}/cmdline", "rb") as file:
        return HOST["command_mark"].encode() in file.read()


def signal_a_thread_of_the_server() -> object:
    call_tgkill = 234 if os.uname().machine == "x86_64" else 131
    found = LIBC.syscall(call_tgkill, HOST["server_pid"], HOST["server_pid"], 0)
    return found == 0 and HOST["server_pid"] not in pids()


def stop_the_parent_of_the_sandbox() -> object:
    """Its own parent, seen from inside as 0, and the group that it was started in."""
    os.killpg(0, 0)
    return os.getpgid(0) == HOST["server_pid"]


def own_a_terminal() -> object:
    os.close(os.open("/dev/tty", os.O_RDWR))
    return "/dev/tty"


def push_keys_into_a_terminal() -> object:
    import fcntl

    found = []
    for number in range(32):
        for asked in (0x5412, 0x541C):  # TIOCSTI, TIOCLINUX
            try:
                fcntl.ioctl(number, asked, b"\x03")
                found.append((number, asked))
            except OSError:
                continue
    return found


def attach_to_another() -> object:
    return [pid for pid in others() if held_by_ptrace(pid)]


def held_by_ptrace(pid: int) -> bool:
    try:
        call("ptrace", 0x4206, pid, 0, 0)  # PTRACE_SEIZE
    except OSError:
        return False
    return True


def be_traced() -> object:
    call("ptrace", 0, 0, 0, 0)
    return "PTRACE_TRACEME"


def copy_memory_between_processes() -> object:
    """From itself: who may not even do that has no such call."""
    room = ctypes.create_string_buffer(8)
    place = struct.pack("QQ", ctypes.addressof(room), 8)
    found = []
    for name in ("process_vm_readv", "process_vm_writev"):
        try:
            call(name, os.getpid(), place, 1, place, 1, 0)
            found.append(name)
        except OSError:
            continue
    return found


def write_into_the_memory_of_the_launcher() -> object:
    os.close(os.open("/proc/1/mem", os.O_RDWR))
    return "/proc/1/mem"


def take_a_descriptor_of_another() -> object:
    found = []
    for pid in others():
        try:
            call("pidfd_getfd", call("pidfd_open", pid, 0), 0, 0)
            found.append(pid)
        except OSError:
            continue
    return found


def compare_with_another() -> object:
    return call("kcmp", os.getpid(), 1, 0, 0, 0) >= 0 and "kcmp"


def enter_the_rooms_of_another() -> object:
    found = []
    for pid in pids():
        for kind in ("mnt", "net", "pid", "user", "ipc", "uts", "cgroup"):
            try:
                number = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
                call("setns", number, 0)
                found.append((pid, kind))
            except OSError:
                continue
    return found


def share_a_room_with_the_host() -> object:
    return {
        kind: number
        for kind, number in HOST["namespaces"].items()
        if not kind.startswith("time")  # of which nobody has one of their own
        if os.path.exists(f"/proc/self/ns/{kind}")
        and os.readlink(f"/proc/self/ns/{kind}") == number
    }


def write_a_setting_of_the_kernel() -> object:
    found = []
    for folder, _, names in os.walk("/proc/sys"):
        for name in names:
            try:
                os.close(os.open(os.path.join(folder, name), os.O_WRONLY))
                found.append(os.path.join(folder, name))
            except OSError:
                continue
    return found


def write_to_the_kernel_elsewhere() -> object:
    found = []
    for name in ("sysrq-trigger", "mtrr", "acpi/wakeup", "irq/0/smp_affinity", "scsi/scsi"):
        try:
            os.close(os.open(f"/proc/{name}", os.O_WRONLY))
            found.append(name)
        except OSError:
            continue
    return found


def change_who_it_is_mapped_to() -> object:
    found = []
    for name in ("uid_map", "gid_map", "setgroups", "projid_map"):
        try:
            number = os.open(f"/proc/self/{name}", os.O_WRONLY)
            os.write(number, b"allow" if name == "setgroups" else b"0 0 1")
            found.append(name)
        except OSError:
            continue
    return found


def be_spared_when_memory_runs_out() -> object:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    return "oom_score_adj"


def hold_a_right() -> object:
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    rights = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    held = {name: status[name].strip() for name in rights if int(status[name], 16)}
    if status["NoNewPrivs"].strip() != "1":
        held["NoNewPrivs"] = status["NoNewPrivs"].strip()
    if HOST["has_filter"] and status["Seccomp"].strip() != "2":
        held["Seccomp"] = status["Seccomp"].strip()
    return held


def be_in_a_group_of_the_host() -> object:
    return [group for group in os.getgroups() if group not in (os.getgid(), 65534)]


def hurry_ahead_of_the_server() -> object:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, before - 1)
    return before - os.getpriority(os.PRIO_PROCESS, 0)


def run_in_real_time() -> object:
    before = os.sched_getscheduler(0)
    for policy in (os.SCHED_FIFO, os.SCHED_OTHER, os.SCHED_BATCH):
        call("sched_setscheduler", 0, policy, struct.pack("i", policy == os.SCHED_FIFO))
        if os.sched_getscheduler(0) != before:
            return before, policy
    return None


def take_another_core() -> object:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))
    return os.sched_getaffinity(0) - before


def lift_a_limit() -> object:
    import resource

    found = []
    for name in ("RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE"):
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY:
            found.append(f"{name} has no limit")
            continue
        try:
            resource.setrlimit(kind, (hard + 1, hard + 1))
            found.append(name)
        except (OSError, ValueError):
            continue
    return found


def leave_a_core_file() -> object:
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE)[1]


def know_the_name_of_the_host() -> object:
    return os.uname().nodename == HOST["node_name"]


def outlive_the_session_as_a_daemon() -> object:
    """Not a breach in itself: the test looks for the process after the session has gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execv(
                "/proc/self/exe",
                ["python", "-c", "import time; time.sleep(600)", HOST["daemon_mark"]],
            )
        os._exit(0)
    return None
