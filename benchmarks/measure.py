"""What the benchmarks share: processes to measure, a client that costs little, and medians."""

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

LISTENS: Final = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Process(NamedTuple):
    """A server process that is being measured."""

    port: int
    process: subprocess.Popen[str]
    seconds_to_listen: float

    def memory_mib(self) -> float:
        """Resident memory of it and its children, in MiB (Linux)."""
        pages = sum(int(_proc(pid, "statm").split()[1]) for pid in self._pids())
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_seconds(self) -> float:
        """CPU time that it and its children have spent, in seconds (Linux)."""
        stats = [_proc(pid, "stat").rsplit(")", 1)[1].split() for pid in self._pids()]
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in stats)
        return ticks / os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[str]:
        pid = str(self.process.pid)
        return [pid, *_proc(pid, f"task/{pid}/children").split()]


class Load(NamedTuple):
    """What a load gave: answers a second, and every answer's time in seconds."""

    per_second: float
    seconds: list[float]

    def percentile(self, percent: float) -> float:
        """A percentile of the answers' times, in milliseconds."""
        return percentile(self.seconds, percent) * 1000


# Starts `rethread serve` with arguments.
Start = Callable[..., AbstractContextManager[Process]]


def _proc(pid: str, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


@contextmanager
def process(*command: str) -> Iterator[Process]:
    """A Python module as a process, from the moment it says where it listens."""
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        for line in child.stdout:
            if found := LISTENS.search(line):
                yield Process(int(found.group(1)), child, time.perf_counter() - started)
                return
        raise RuntimeError(f"{command} did not start")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()


@contextmanager
def rethread(*arguments: str) -> Iterator[Process]:
    """`rethread serve` on an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = ("rethread", "serve", "--port", "0", "--data-dir", folder)
        with process(*command, "--log-level", "warning", *arguments) as server:
            yield server


class Connection:
    """One kept-alive HTTP connection: bytes out, the answer's body back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """A connection to this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    async def ask(self, request: bytes) -> bytes:
        """One exchange; anything but a 200 is an error."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE).group(1))  # type: ignore[union-attr]
        return await self._reader.readexactly(length)

    def close(self) -> None:
        """Give it back."""
        self._writer.close()


def post(path: str, body: bytes) -> bytes:
    """A POST as bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer any\r\n"
        "openai-beta: assistants=v2\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def get(path: str) -> bytes:
    """A GET as bytes."""
    return (
        f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer any\r\n"
        "openai-beta: assistants=v2\r\n\r\n"
    ).encode()


async def load(
    port: int, requests: Callable[[int], bytes], *, connections: int, seconds: float
) -> Load:
    """Ask for a time on many connections; `requests` gives the bytes for a connection's number."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def work(number: int) -> None:
        connection = await Connection.open(port)
        while (started := time.perf_counter()) < until:
            await connection.ask(requests(number))
            times.append(time.perf_counter() - started)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(connections)))
    return Load(len(times) / (time.perf_counter() - started), times)


def percentile(values: list[float], percent: float) -> float:
    """The value below which that part of all values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def run(benchmark: Callable[[], Awaitable[None]]) -> None:
    """Run a benchmark's coroutine on the event loop that the server uses too."""

    async def main() -> None:
        await benchmark()

    uvloop.run(main())


def report(what: str, value: float, ceiling: float, *, unit: str, goal: str) -> None:
    """One line: the figure, the ceiling of the same run, their ratio and the goal."""
    print(
        f"{what:<58} {value:>9.1f} {unit:<6} ceiling {ceiling:>9.1f}   "
        f"ratio {value / ceiling:>5.2f}   goal {goal}",
        flush=True,
    )


class Streamed(NamedTuple):
    """One streamed answer; times are seconds since the request was sent."""

    first_token: float
    whole: float
    tokens: int
    lags: list[float]  # how old each token was when it was read, in seconds


TOKEN: Final = re.compile(rb'(?:"content": ?|"value": ?)"((?:\d+\.\d+ )+)"')


async def stream(port: int, request: bytes, *, until: bytes = b"[DONE]") -> Streamed:
    """Read one streamed answer to its end, noting when its tokens came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    started = time.perf_counter()
    writer.write(request)
    first: float | None = None
    lags: list[float] = []
    rest = b""
    ended = False
    while not ended:
        piece = await reader.read(2**16)
        if not piece:
            raise RuntimeError(f"the stream ended early: {rest!r}")
        now = time.time()
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            ended = ended or until in line
            if b'"thread.message"' in line:
                continue  # the whole message, whose tokens have come already
            for found in TOKEN.finditer(line):
                first = first or time.perf_counter() - started
                lags += [now - float(token) for token in found.group(1).split()]
    writer.close()
    return Streamed(first or 0.0, time.perf_counter() - started, len(lags), lags)


def direct(tokens: int, rate: float) -> bytes:
    """A streamed call of the model server itself."""
    body = {
        "model": f"tokens={tokens},rate={rate}",
        "stream": True,
        "messages": [{"role": "user", "content": "Go."}],
    }
    return post("/v1/chat/completions", json.dumps(body).encode())


def through(assistant_id: str) -> bytes:
    """The same call through a run on a new thread."""
    thread = {"messages": [{"role": "user", "content": "Go."}]}
    body = {"assistant_id": assistant_id, "stream": True, "thread": thread}
    return post("/v1/threads/runs", json.dumps(body).encode())


async def assistant(port: int, tokens: int, rate: float) -> str:
    """An assistant whose model answers like that."""
    connection = await Connection.open(port)
    body = json.dumps({"model": f"tokens={tokens},rate={rate}"}).encode()
    made: str = json.loads(await connection.ask(post("/v1/assistants", body)))["id"]
    connection.close()
    return made
