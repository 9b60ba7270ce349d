"""Attacks on who reads /mnt/data from outside: what is left there for the host to follow."""

import builtins
import os
import socket
import stat
import time
from contextlib import suppress

from tests.escape.inside import HOST, call

DATA = "/mnt/data"


def links_to_files_of_the_host() -> object:
    for number, path in enumerate((*HOST["canaries"], "/etc/shadow", "/proc/self/environ")):
        os.symlink(path, f"{DATA}/report{number}.txt")
        os.symlink(os.path.dirname(path), f"{DATA}/folder{number}")
        os.symlink("../" * 30 + path.lstrip("/"), f"{DATA}/up{number}.txt")
    os.symlink("/proc/self/root", f"{DATA}/root")
    os.symlink("loop", f"{DATA}/loop")
    os.symlink(".", f"{DATA}/here")
    return None


def things_that_are_no_files() -> object:
    """A pipe that nobody writes to holds whoever opens it; a socket and devices likewise."""
    os.mkfifo(f"{DATA}/pipe.csv")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{DATA}/socket.csv")
    for kind, name in ((stat.S_IFCHR, "zero.csv"), (stat.S_IFBLK, "disk.csv")):
        try:
            call("mknodat", -100, f"{DATA}/{name}".encode(), kind | 0o666, 1 << 8 | 5)
        except OSError:
            continue
    try:
        os.link("/run/kernel/key", f"{DATA}/hard.txt")
        os.link("/etc/passwd", f"{DATA}/passwd.txt")
    except OSError:
        pass
    return None


def modes_of_the_host() -> object:
    """A program that would run as whoever owns it, and files that cannot be read."""
    for name, mode in (("program", 0o6755), ("unreadable.csv", 0), ("sticky.csv", 0o1777)):
        with open(f"{DATA}/{name}", "w") as file:
            file.write("#!/bin/sh\nid\n")
        with suppress(OSError):  # some modes are refused
            os.chmod(f"{DATA}/{name}", mode)
    return None


def names_that_are_no_names() -> object:
    names = [
        b"new\nline.txt", b"return\rtab\t.txt", b"right\xe2\x80\xaetxt.exe", b"not\xff\xfeutf8.txt",
        b"x" * 255, "ü".encode() * 127, b"..hidden", b"...", b" ", b"a b", b"-rf",
        b"%2e%2e%2fup.txt",
        b"quote\"'`.txt", b"](sandbox:", b"back\\..\\slash.txt", b"esc\x1b[31m.txt",
        b"\x01\x02\x7f",
        b"con", b"$(id).txt", b"{path}.txt", b"\xc2\xa0", b"\xed\xa0\x80.txt", b"<script>.html",
        b"a\xe2\x80\x8b.txt", b";.txt", b"~", b"*", b"?x=1#y.txt", b"file:",
    ]  # fmt: skip
    for name in names:
        with open(DATA.encode() + b"/" + name, "wb") as file:
            file.write(b"of the session")
    os.makedirs(f"{DATA}/a\nfolder/..x/ y", exist_ok=True)
    with open(f"{DATA}/a\nfolder/..x/ y/deep.txt", "wb") as file:
        file.write(b"of the session")
    return None


def originals_as_links() -> object:
    """The next time the server puts the file there, it would write through."""
    before = sorted(os.listdir(DATA))
    for name in before:
        path = f"{DATA}/{name}"
        if os.path.isfile(path) and not os.path.islink(path):
            os.chmod(DATA, 0o777)
            os.unlink(path)
            os.symlink(HOST["canaries"][0], path)
    return None


def folders_as_links() -> object:
    """What the session made is put back into it later: by way of a folder that leads elsewhere."""
    os.makedirs(f"{DATA}/made", exist_ok=True)
    with open(f"{DATA}/made/left.txt", "w") as file:
        file.write("of the session")
    return None


def swap_while_it_is_read() -> object:
    """A process that stays, and changes files and folders into links and back, all the time."""
    canary = HOST["canaries"][0]
    if os.fork() != 0:
        time.sleep(0.05)
        return None
    os.makedirs(f"{DATA}/turn", exist_ok=True)
    ends = time.monotonic() + 4.0
    count = 0
    while time.monotonic() < ends:
        count += 1
        aims = {f"{DATA}/turns.txt": canary, f"{DATA}/turn": os.path.dirname(canary)}
        for path, aim in aims.items():
            try:
                if path.endswith(".txt"):
                    with open(f"{path}.new", "w") as file:
                        file.write(f"swapped {count}")
                    os.rename(f"{path}.new", path)
                    os.symlink(aim, f"{path}.link")
                    os.rename(f"{path}.link", path)
                else:
                    with open(f"{path}/{os.path.basename(canary)}", "w") as file:
                        file.write(f"swapped {count}")
                    os.rename(path, f"{path}.old")
                    os.symlink(aim, path)
                    os.unlink(path)
                    os.rename(f"{path}.old", path)
            except OSError:
                continue
    os._exit(0)


def grow_while_it_is_read() -> object:
    if os.fork() != 0:
        time.sleep(0.05)
        return None
    ends = time.monotonic() + 2.0
    with open(f"{DATA}/grows.log", "wb", buffering=0) as file:
        while time.monotonic() < ends and file.tell() < 8 * 2**20:
            file.write(b"g" * 65536)
    os._exit(0)


def code_for_the_next_session() -> object:
    """By every way that a Python looks for code when it starts."""
    poison = "import builtins\nbuiltins.poisoned = True\nraise SystemExit('poisoned')\n"
    homes = (
        DATA,
        "/tmp",
        "/run/kernel",
        os.path.expanduser("~"),
        os.environ.get("IPYTHONDIR", DATA),
    )
    names = (
        "sitecustomize.py", "usercustomize.py", "x.pth", ".pythonrc.py", "json.py", "numpy.py",
        "IPython.py", "ipykernel.py", "ipykernel_launcher.py", "traitlets.py", "pandas.py",
        "zmq.py",
        "encodings.py", ".ipython/profile_default/startup/00.py", "profile_default/startup/00.py",
        ".config/matplotlib/matplotlibrc", ".local/lib/python3.11/site-packages/x.pth",
        "__init__.py", "__main__.py", "pyvenv.cfg", "session.pickle",
    )  # fmt: skip
    left = []
    for home in homes:
        for name in names:
            try:
                os.makedirs(os.path.dirname(f"{home}/{name}"), exist_ok=True)
                with open(f"{home}/{name}", "w") as file:
                    file.write(poison)
                left.append(f"{home}/{name}")
            except OSError:
                continue
    builtins.poisoned = True  # type: ignore[attr-defined]
    return None


def be_poisoned() -> object:
    """What a session of another thread sees of that."""
    left = [
        name for name in ("sitecustomize.py", "session.pickle") if os.path.exists(f"{DATA}/{name}")
    ]
    return left or getattr(builtins, "poisoned", None)


def read_another_session() -> object:
    found = []
    for top in (DATA, "/tmp", "/dev/shm", "/run", "/var/tmp"):
        for folder, _, names in os.walk(top):
            for name in names:
                try:
                    with open(os.path.join(folder, name), "rb") as file:
                        if HOST["mark_of_another"].encode() in file.read(1000):
                            found.append(os.path.join(folder, name))
                except OSError:
                    continue
    return found
