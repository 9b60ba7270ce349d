"""A real server process, started and ended by a test."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Final

import asyncpg

from rethread.store.database import FILE_NAME
from tests.ports import kept_port

# Hundreds of servers start here, and few of them run code: those make their kernels when needed.
FOR_TESTS: Final = {"PYTHONUNBUFFERED": "1", "RETHREAD_CODE_WARM": "0"}
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 30.0
LOG_LINES: Final = 60  # shown where a test fails


def wait_until(is_so: Callable[[], Any]) -> None:
    """Return once it is so; who asks without a pause takes the server's time away."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


class ServerProcess:
    """`rethread serve` on a port that is kept for it, until it is stopped or killed."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        port: int,
        env: dict[str, str] | None = None,
        database_url: str | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.database_url = database_url
        self._arguments = arguments
        self._before = before
        self._env = env or {}
        if database_url is not None:
            self._env = {**self._env, "RETHREAD_DATABASE_URL": database_url}
        self._start()

    @property
    def url(self) -> str:
        """The base URL for a client, with /v1."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def root(self) -> str:
        """The base URL without /v1."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def where(self) -> list[str]:
        """The flags that name what it keeps its things in."""
        database = [] if self.database_url is None else ["--database-url", self.database_url]
        return ["--data-dir", str(self.data_dir), *database]

    def new_key(self, project: str) -> str:
        """The secret of a new key for a project."""
        making = (sys.executable, "-m", "rethread", "keys", "create", "--project", project)
        made = subprocess.check_output(
            [*making, *self.where], text=True, stderr=subprocess.DEVNULL, timeout=START_SECONDS
        )
        return made.strip()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._reap()

    def terminate(self) -> int:
        """SIGTERM; the exit code, once it has gone."""
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def restart(self) -> None:
        """Start again on the same data and the same port; for after `kill` or `terminate`."""
        self._start()

    def stop(self) -> None:
        """Have it gone, whatever it is doing; where a test fails, its end is shown."""
        code = self.process.poll()
        if code is None:
            self.process.kill()
        self._reap()
        print(f"--- a server's log; its exit code was {code}", *self.log[-LOG_LINES:], sep="\n")

    def wait_for_log(self, text: str, *, timeout_seconds: float = START_SECONDS) -> str:
        """The next log line that holds the text; earlier lines are not looked at again."""
        while True:
            try:
                line = self._lines.get(timeout=timeout_seconds)
            except Empty:
                raise AssertionError(f"no line with {text!r} in: {''.join(self.log)}") from None
            if text in line:
                return line

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """What stands in its database; or a change of it, as nobody else would make it."""
        if (url := self.database_url) is not None:
            with ThreadPoolExecutor(1) as thread:  # the test may have a loop of its own here
                return thread.submit(lambda url: asyncio.run(_ask(url, sql)), url).result()
        place = self.data_dir / FILE_NAME
        with closing(sqlite3.connect(place, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    def memory_mib(self) -> float:
        """Resident memory, in MiB (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _start(self) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RETHREAD_")
        }
        self.log: list[str] = []
        self._lines: Queue[str] = Queue()
        self.process = subprocess.Popen(
            [
                *self._before,
                *(sys.executable, "-X", "faulthandler", "-W", "error", "-m", "rethread", "serve"),
                *("--port", str(self.port), "--data-dir", str(self.data_dir)),
                *self._arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**environment, **FOR_TESTS, **self._env},
            cwd=self.data_dir.parent,
        )
        self._reading = threading.Thread(target=self._read_log, daemon=True)
        self._reading.start()
        try:
            self.wait_for_log("rethread listens on")
        except AssertionError:
            self.stop()
            raise

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            self._lines.put(line)

    def _reap(self) -> int:
        code = self.process.wait(timeout=STOP_SECONDS)
        self._reading.join(timeout=STOP_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


async def _ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


@contextmanager
def running_server(
    data_dir: Path,
    *arguments: str,
    port: int | None = None,
    env: dict[str, str] | None = None,
    database_url: str | None = None,
    before: Sequence[str] = (),
) -> Iterator[ServerProcess]:
    """A server process that is gone afterwards; on a port of its own, or on another's.

    `before` is a command that runs it, as another user say, and becomes it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        port = port or stack.enter_context(kept_port())
        server = ServerProcess(
            data_dir, *arguments, port=port, env=env, database_url=database_url, before=before
        )
        stack.callback(server.stop)
        yield server
