"""Attacks: read the host's files, or write where nothing may be written."""

import os
import stat
import sys
from collections.abc import Iterator

from tests.escape.inside import HOST

WRITABLE = ("/mnt/data", "/tmp", "/dev/shm", "/run/kernel")
DEEP = 3
DEVICES = {"full", "null", "ptmx", "random", "tty", "urandom", "zero"}


def walk(top: str) -> Iterator[tuple[str, list[str]]]:
    """Folders and the files in them: not all the way down, which is far in a runtime, and not
    /proc, which has attacks of its own.
    """
    for folder, folders, names in os.walk(top):
        is_deep = folder.count("/") >= DEEP
        folders[:] = [] if is_deep else [one for one in folders if f"{folder}{one}" != "/proc"]
        yield folder, names


def read_password_hashes() -> object:
    with open("/etc/shadow", "rb") as file:
        return file.read(40)


def read_a_file_of_the_host_by_its_path() -> object:
    return [path for path in HOST["canaries"] if os.path.exists(path)]


def read_a_file_of_the_host_by_going_up() -> object:
    up = "../" * 40
    return [path for path in HOST["canaries"] if os.path.exists(up + path.lstrip("/"))]


def read_a_file_of_the_host_through_proc() -> object:
    found: list[str] = []
    for name in (*filter(str.isdigit, os.listdir("/proc")), "self", "thread-self"):
        for way in ("root", "cwd", "fd/0", "fd/3", "task/1/root"):
            base = f"/proc/{name}/{way}"
            paths = [base + path for path in HOST["canaries"]]
            paths += [f"{base}/../..{path}" for path in HOST["canaries"]]
            found += filter(os.path.exists, paths)
    return found


def find_a_file_of_the_host_by_its_name() -> object:
    wanted = {os.path.basename(path) for path in HOST["canaries"]} | {"rethread.db"}
    return [f"{folder}/{name}" for folder, names in walk("/") for name in wanted & set(names)]


def list_homes() -> object:
    found = []
    for home in ("/root", "/home"):
        if os.path.isdir(home):
            runtime = {part for path in HOST["runtime"] for part in path.split("/")}
            found += [f"{home}/{name}" for name in os.listdir(home) if name not in runtime]
    return found


def climb_out_of_an_open_folder() -> object:
    found = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            is_folder = stat.S_ISDIR(os.fstat(number).st_mode)
        except OSError:
            continue
        for path in HOST["canaries"]:
            try:
                if is_folder:
                    os.close(os.open("../" * 40 + path.lstrip("/"), os.O_RDONLY, dir_fd=number))
                    found.append((number, path))
            except OSError:
                continue
    return found


def hold_a_descriptor_of_the_host() -> object:
    links = {name: link_of(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    fine = ("socket:", "pipe:", "anon_inode:", "/dev/", "/proc/", "", *WRITABLE, *HOST["runtime"])
    return {name: link for name, link in links.items() if not link.startswith(fine)}


def link_of(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return "/proc/closed"


def write_where_nothing_may_be_written() -> object:
    found = []
    for folder, _ in walk("/"):
        if folder.startswith(WRITABLE):
            continue
        try:
            os.close(os.open(f"{folder}/left", os.O_CREAT | os.O_WRONLY | os.O_EXCL))
        except OSError:
            continue
        os.unlink(f"{folder}/left")
        found.append(folder)
    return found


def change_a_file_of_the_runtime() -> object:
    """By what Python itself imports from."""
    found = []
    tops = {*sys.path, "/etc", "/usr/bin", "/bin", os.path.dirname(sys.executable)} - {""}
    for top in tops:
        names = os.listdir(top) if os.path.isdir(top) and top not in WRITABLE else []
        for name in names[:200]:
            try:
                os.close(os.open(f"{top}/{name}", os.O_WRONLY | os.O_NOFOLLOW))
                found.append(f"{top}/{name}")
            except OSError:
                continue
    return found


def open_a_device() -> object:
    found = []
    for folder, _, names in os.walk("/dev"):
        for name in names:
            path = os.path.join(folder, name)
            kind = os.lstat(path).st_mode
            is_device = stat.S_ISBLK(kind) or stat.S_ISCHR(kind)
            if is_device and name not in DEVICES and not folder.startswith("/dev/pts"):
                found.append(path)
    return found


def fill_dev() -> object:
    os.close(os.open("/dev/left", os.O_CREAT | os.O_WRONLY))
    return "/dev/left"


def read_what_the_kernel_says() -> object:
    found = []
    for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/proc/kallsyms"):
        try:
            with open(path, "rb") as file:
                line = file.read(64)
        except OSError:
            continue
        if line.strip(b"0 \n") and not line.startswith(b"0000000000000000"):
            found.append((path, line))
    return found


def read_the_logs_of_the_host() -> object:
    return [path for path in ("/var/log", "/run/systemd", "/var/lib") if os.path.exists(path)]


def use_the_control_groups() -> object:
    found = []
    for folder, _, names in os.walk("/sys"):
        paths = (os.path.join(folder, name) for name in names)
        found += [path for path in paths if os.access(path, os.W_OK)]
        if found:
            break
    return found
