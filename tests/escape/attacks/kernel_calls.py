"""Attacks: system calls that a session has no use for, and that widen its rights or the kernel's
surface. Each is harmless where it gets through: it asks for little, and changes nothing lasting.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
import subprocess
import time

from tests.escape.inside import LIBC, call, call_number

NEW_ROOMS = {
    "user": 0x10000000,
    "mnt": 0x00020000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
    "time": 0x00000080,
}
X32 = 0x40000000


def mount_a_folder() -> object:
    return call("mount", b"none", b"/tmp", b"tmpfs", 0, None) == 0 and "tmpfs on /tmp"


def make_the_runtime_writable() -> object:
    remount_bind = 0x20 | 0x1000
    for path in (b"/usr", b"/", b"/etc", b"/dev"):
        call("mount", b"none", path, None, remount_bind, None)
    return "remounted"


def unmount_what_hides_the_host() -> object:
    return [path for path in (b"/proc", b"/dev", b"/") if call("umount2", path, 2) == 0]


def change_the_root() -> object:
    return call("pivot_root", b"/tmp", b"/tmp") == 0 and "pivot_root"


def change_the_root_as_of_old() -> object:
    return call("chroot", b"/tmp") == 0 and "chroot"


def open_a_copy_of_a_mount() -> object:
    return call("open_tree", -100, b"/", 1) >= 0 and "open_tree"


def make_a_file_system() -> object:
    return call("fsopen", b"tmpfs", 0) >= 0 and "fsopen"


def change_a_mount() -> object:
    attributes = struct.pack("QQQQ", 0, 1, 0, 0)
    return call("mount_setattr", -100, b"/", 0x8000, attributes, 32) == 0 and "mount_setattr"


def move_a_mount() -> object:
    return call("move_mount", -100, b"/tmp", -100, b"/mnt", 0) == 0 and "move_mount"


def make_new_rooms() -> object:
    found = []
    for name, flag in NEW_ROOMS.items():
        try:
            call("unshare", flag)
            found.append(name)
        except OSError:
            continue
    return found


def make_new_rooms_for_a_child() -> object:
    found = []
    for name, flag in NEW_ROOMS.items():
        if name == "time":
            continue  # the lowest byte is the signal's
        try:
            child = call("clone", flag | 17, None, None, None, None)
        except OSError:
            continue
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        found.append(name)
    return found


def make_new_rooms_by_the_newest_call() -> object:
    arguments = struct.pack("11Q", NEW_ROOMS["user"], 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
    child = call("clone3", arguments, len(arguments))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "clone3"


def make_rooms_by_the_command() -> object:
    for command in (["unshare", "-Ur", "id"], ["bwrap", "--ro-bind", "/", "/", "id"]):
        try:
            if subprocess.run(command, capture_output=True, timeout=5, check=False).returncode == 0:
                return command
        except OSError:
            continue
    return None


def make_a_device() -> object:
    found = []
    for kind, major, minor in ((0o020000, 1, 1), (0o060000, 254, 0), (0o060000, 8, 0)):
        for folder in ("/tmp", "/mnt/data", "/dev/shm"):
            path = f"{folder}/device{major}{minor}"
            try:
                call("mknodat", -100, path.encode(), kind | 0o600, major << 8 | minor)
                found.append(path)
                os.unlink(path)
            except OSError:
                continue
    return found


def keep_a_key() -> object:
    return call("add_key", b"user", b"left", b"x", 1, -3) and "add_key"


def look_for_keys() -> object:
    return call("keyctl", 0, -4, 0, 0, 0) and "keyctl"


def ask_for_a_key() -> object:
    try:
        return call("request_key", b"user", b"left", None, -3)
    except OSError as error:
        return error.errno == errno.ENOKEY and "request_key answers"


def load_a_program_into_the_kernel() -> object:
    attributes = struct.pack("IIII", 2, 4, 4, 1) + bytes(112)  # an array map
    return call("bpf", 0, attributes, len(attributes)) >= 0 and "bpf"


def measure_the_kernel() -> object:
    attributes = bytearray(128)
    struct.pack_into("IIQ", attributes, 0, 1, 128, 0)
    attributes[40] = 0b01100001  # disabled, kernel and hypervisor excluded
    return call("perf_event_open", bytes(attributes), 0, -1, -1, 0) >= 0 and "perf_event_open"


def stop_the_kernel_at_a_page() -> object:
    return [flag for flag in (0, 1) if call("userfaultfd", flag) >= 0] and "userfaultfd"


def queue_calls() -> object:
    return call("io_uring_setup", 4, bytes(120)) >= 0 and "io_uring"


def open_by_a_handle() -> object:
    """The root of the host's file system, by the number that roots have."""
    found = []
    for path in ("/mnt/data", "/usr", "/"):
        folder = os.open(path, os.O_RDONLY)
        for inode in (2, 128, 256):
            handle = struct.pack("Iiii", 8, 1, inode, 0)
            try:
                opened = call("open_by_handle_at", folder, handle, os.O_RDONLY)
                found.append((path, os.listdir(opened)[:3]))
            except OSError:
                continue
    return found


def become_root() -> object:
    found = []
    for become in (os.setuid, os.setgid):
        try:
            if os.getuid() != 0:
                become(0)
                found.append(become.__name__)
        except OSError:
            continue
    return found


def become_another() -> object:
    found = []
    for number in (1, 1000, 65533):
        try:
            os.setresuid(number, number, number)
            found.append(number)
        except OSError:
            continue
    return found


def join_groups() -> object:
    os.setgroups([0, 6])
    return os.getgroups()


def take_rights() -> object:
    head, rights = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0xFFFFFFFF] * 6)
    return call("capset", head, rights) == 0 and "capset"


def allow_programs_of_root() -> object:
    """Programs that run as root for whoever starts them do not, here."""
    return LIBC.prctl(39, 0, 0, 0, 0) != 1 and "no_new_privs is not set"


def run_a_program_of_root() -> object:
    for path in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd", "/usr/bin/newgrp"):
        try:
            done = subprocess.run([path, "--version"], capture_output=True, timeout=5, check=False)
        except OSError:
            continue
        with open("/proc/self/status") as file:
            rights = next(line for line in file if line.startswith("NoNewPrivs"))
        if done.returncode == 0 and rights.split()[1] != "1":
            return path
    return None


def switch_random_addresses_off() -> object:
    call("personality", 0x0040000)
    return "personality"


def load_a_module() -> object:
    for name in ("init_module", "finit_module"):
        try:
            call(name, 0, 0, b"")
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS):
                return name, errno.errorcode[error.errno or 0]
    return None


def remove_a_module() -> object:
    return call("delete_module", b"no_such_module", 0o4000) == 0 and "delete_module"


def start_another_kernel() -> object:
    return call("kexec_load", 0, 0, None, 0) == 0 and "kexec_load"


def restart_the_machine() -> object:
    """Asks for no more than that Ctrl-Alt-Del be passed on to init."""
    return call("reboot", 0xFEE1DEAD - 2**32, 672274793, 0, None) == 0 and "reboot"


def rename_the_machine() -> object:
    name = os.uname().nodename.encode()
    return call("sethostname", name, len(name)) == 0 and "sethostname"


def set_the_clock() -> object:
    now = time.time()
    return call("clock_settime", 0, struct.pack("ll", int(now), 0)) == 0 and "clock_settime"


def bend_the_clock() -> object:
    asked = bytearray(208)
    asked[:4] = struct.pack("I", 0x2000 | 0x4000)  # ADJ_NANO and ADJ_TICK, with a senseless tick
    return call("adjtimex", bytes(asked)) >= 0 and "adjtimex"


def count_who_starts_what() -> object:
    return call("acct", None) == 0 and "acct"


def swap() -> object:
    found = []
    for name in ("swapon", "swapoff"):
        try:
            call(name, b"/tmp/no-such-file", 0)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS):
                found.append(name)
    return found


def read_the_log_of_the_kernel() -> object:
    return call("syslog", 3, ctypes.create_string_buffer(256), 256) > 0 and "syslog"


def clear_the_log_of_the_kernel() -> object:
    return call("syslog", 8, None, 7) == 0 and "syslog, console level"


def watch_the_file_system() -> object:
    return call("fanotify_init", 0, 0) >= 0 and "fanotify_init"


def hang_up_the_terminal() -> object:
    return call("vhangup") == 0 and "vhangup"


def go_first_at_the_disk() -> object:
    before = call("ioprio_get", 1, 0)
    for wanted in (1, 2):  # real time, best effort
        call("ioprio_set", 1, 0, wanted << 13)
        if call("ioprio_get", 1, 0) != before:
            return before, wanted
    return None


def lock_memory() -> object:
    room = mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    return LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(2**26)) == 0 and "64 MB locked"


def hide_memory() -> object:
    return call("memfd_secret", 0) >= 0 and "memfd_secret"


def speak_as_a_32_bit_program() -> object:
    """`int 0x80` has other numbers for the same calls: 310 is unshare."""
    if os.uname().machine != "x86_64":
        return None
    code = bytes.fromhex("53b836010000bb00000010cd805bc3")  # push; eax=310; ebx=NEWUSER; int80; pop
    room = mmap.mmap(
        -1,
        4096,
        prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
    )
    room.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    child = os.fork()
    if child == 0:
        os._exit(7 if ctypes.CFUNCTYPE(ctypes.c_int)(address)() == 0 else 0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7 and "unshare"


def speak_the_x32_dialect() -> object:
    if os.uname().machine != "x86_64":
        return None
    call_number(X32 | 272, NEW_ROOMS["user"])
    return "unshare"


def make_a_socket_of_another_family() -> object:
    """The kernel's rarely used protocols are where its faults are."""
    found = []
    for family in range(2, 47):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
                found.append((family, int(kind)))
            except OSError:
                continue
    return found


def give_a_range_of_numbers_a_try() -> object:
    """Calls that are newer than the filter: none of them may be known to it as harmless."""
    found = []
    for number in range(470, 560):
        try:
            call_number(number, -1, -1, -1, -1, -1, -1)
            found.append(number)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                found.append(number)
    return found
