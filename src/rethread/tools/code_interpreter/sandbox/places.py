"""The folders of boxes on this machine: one for each server process, in it one for each box.

They lie where temporary files lie: what they hold is gone with its box, and what a server that
died has left is removed by the next one. A folder is taken to be a dead server's when nobody holds
the lock on its lock file. Removing trusts nothing that lies in a box: no link is followed, and no
tree is too deep.
"""

import contextlib
import fcntl
import itertools
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

from rethread.tools.code_interpreter.sandbox import NoSandbox, Place

PREFIX: Final = "rethread-code-"
LOCK: Final = "lock"
LONGEST: Final = 80  # of the folder of sockets: the path of a Unix socket ends at 107
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# A server that runs as root gives every box a user that nobody else is. This range is used neither
# by accounts nor by containers (systemd.io/UIDS-GIDS).
FIRST_OWNER: Final = 1_900_000_000
OWNERS: Final = 100_000_000
NOBODY: Final = 65_534


class Places:
    """The folders of one server's boxes; `root` holds them all."""

    def __init__(self, *, has_owners: bool = True) -> None:
        _remove_those_of_dead_servers(Path(tempfile.gettempdir()))
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.shared = self.root / "shared"
        """What all boxes may read: the server puts it there."""
        self._lock = os.open(self.root / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.write(self._lock, b"%d" % os.getpid())
        is_root = os.geteuid() == 0 and has_owners
        self.root.chmod(0o711 if is_root else 0o700)
        self.shared.mkdir(mode=0o755)
        self._names = map(str, itertools.count(1))
        self._owners = itertools.count(secrets.randbelow(OWNERS)) if is_root else None
        if len(os.fsencode(self.root)) > LONGEST:
            self.close()
            raise NoSandbox(
                f"The path {self.root} is too long for the Unix sockets of code sessions:"
                " set TMPDIR to a shorter one"
            )

    def new(self) -> Place:
        """Folders that the code owns, behind one that it can't change."""
        root = self.root / next(self._names)
        place = Place(root, root / "data", root / "run", self._next_owner())
        root.mkdir(mode=0o700)
        if place.owner is not None:  # nobody else on this machine shall get as far as there
            os.chown(root, 0, place.owner)
            root.chmod(0o710)
        for each in (place.data, place.sockets):
            each.mkdir(mode=0o700)
            if place.owner is not None:
                os.chown(each, place.owner, place.owner)
        return place

    def close(self) -> None:
        """Remove everything."""
        remove(self.root)
        os.close(self._lock)

    def _next_owner(self) -> int | None:
        if self._owners is None:
            return None
        owner = FIRST_OWNER + next(self._owners) % OWNERS
        return owner if _can_be_owner(owner) else NOBODY


def remove(root: Path) -> None:
    """Have a folder gone with all that is in it.

    Folders in folders are moved up before they are removed, so that neither the depth of a tree
    nor the length of a path matters. Whoever could change it meanwhile is dead.
    """
    with contextlib.suppress(FileNotFoundError):
        top = os.open(root, FOLDER)
        try:
            _empty(top)
        finally:
            os.close(top)
        root.rmdir()


def _empty(top: int) -> None:
    unique = secrets.token_hex(8)
    names = (f"{unique}-{number}" for number in itertools.count())
    while folders := _folders_left(top):
        for folder in folders:
            here = os.open(folder, FOLDER, dir_fd=top)
            try:
                for inner in _folders_left(here):
                    os.rename(inner, next(names), src_dir_fd=here, dst_dir_fd=top)
            finally:
                os.close(here)
            os.rmdir(folder, dir_fd=top)


def _folders_left(here: int) -> list[str]:
    """Remove what is no folder; the names of the folders, which can be entered and moved now."""
    with os.scandir(here) as entries:
        found = list(entries)
    folders = [each.name for each in found if each.is_dir(follow_symlinks=False)]
    for each in found:
        if not each.is_dir(follow_symlinks=False):
            os.unlink(each.name, dir_fd=here)
    for name in folders:
        os.chmod(name, stat.S_IRWXU, dir_fd=here)
    return folders


def _remove_those_of_dead_servers(parent: Path) -> None:
    for root in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if root.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(root / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.read(lock, 1):  # it had its lock once
                    remove(root)
            finally:
                os.close(lock)


def _can_be_owner(user: int) -> bool:
    """Whether there is such a number: in a container that maps users, there are fewer."""
    try:
        rows = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
    except OSError:
        return True
    return any(int(row[0]) <= user < int(row[0]) + int(row[2]) for row in rows)
