"""What a call of code costs through a run, against a bare kernel's; and what sessions take at rest.

The ceiling is the stock client of Jupyter, in this process, with a kernel over Unix sockets that
no sandbox holds. The model answers at once.
"""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from jupyter_client.manager import AsyncKernelManager

from benchmarks.measure import Connection, median, post, process, report, rethread, run

ROUNDS: Final = 40
FIRST_CALLS: Final = 5
SESSIONS: Final = 8
MODEL: Final = "tokens=1,rate=0,code=1+1"
OUTPUT: Final = b'"logs":"2'
SETTLE_SECONDS: Final = 4.0  # for a warm kernel to be there again


class Called(NamedTuple):
    """Seconds from the request on: to what the code put out, and to the end of the run."""

    output: float
    whole: float


async def benchmark() -> None:
    """The bare kernel and the run in turn, so that both see the same machine."""
    with (
        process("benchmarks.model") as model,
        rethread("--upstream", f"http://127.0.0.1:{model.port}/v1", "--code-warm", "1") as server,
    ):
        body = {"model": MODEL, "tools": [{"type": "code_interpreter"}]}
        assistant_id = (await _asked(server.port, "/v1/assistants", body))["id"]
        await asyncio.sleep(SETTLE_SECONDS)
        firsts = []
        for _ in range(FIRST_CALLS):
            firsts.append(
                (await _called(server.port, assistant_id, await _thread(server.port))).output
            )
            await asyncio.sleep(SETTLE_SECONDS)
        await _warm(server.port, assistant_id, first=median(firsts))
        await _at_rest(server.port, assistant_id, server.process.pid)


async def _warm(port: int, assistant_id: str, *, first: float) -> None:
    manager = AsyncKernelManager(transport="ipc")
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    thread_id = await _thread(port)
    bare, outputs, wholes = [], [], []
    try:
        for number in range(ROUNDS + 5):
            started = time.perf_counter()
            await client.execute_interactive("1+1", output_hook=lambda message: None)
            one = time.perf_counter() - started
            called = await _called(port, assistant_id, thread_id)
            if number >= 5:  # the first ones warm up
                bare.append(one)
                outputs.append(called.output)
                wholes.append(called.whole)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
    ceiling = median(bare) * 1000
    for what, value, goal in (
        ("1+1 in a warm session, to its output", median(outputs), "+ 20 ms"),
        ("1+1 in a warm session, to the end of the run", median(wholes), "+ 20 ms"),
        ("first call, a kernel waiting, to its output", first, "<= 150 ms"),
    ):
        report(what, value * 1000, ceiling, unit="ms", goal=goal)
    print(f"  added to the bare call: {median(outputs) * 1000 - ceiling:.1f} ms to the output")


async def _at_rest(port: int, assistant_id: str, server: int) -> None:
    """What a session takes that does nothing: memory that it shares with nobody, and its share."""
    before = _memory_mib(server)
    for _ in range(SESSIONS):
        await _called(port, assistant_id, await _thread(port))
    await asyncio.sleep(SETTLE_SECONDS)
    each = (_memory_mib(server) - before) / SESSIONS
    print(f"a session at rest: {each:.0f} MiB (PSS); in 4 GB: {4096 / each:.0f} sessions")


async def _called(port: int, assistant_id: str, thread_id: str) -> Called:
    """One streamed run, whose model has its code run."""
    message = {"role": "user", "content": "Go."}
    body = {"assistant_id": assistant_id, "stream": True, "additional_messages": [message]}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    started = time.perf_counter()
    writer.write(post(f"/v1/threads/{thread_id}/runs", json.dumps(body).encode()))
    output, seen = 0.0, b""
    while b"[DONE]" not in seen:
        piece = await reader.read(2**16)
        if not piece or b"thread.run.failed" in piece:
            raise RuntimeError(f"no answer: {(seen + piece)[-2000:]!r}")
        seen += piece
        if not output and OUTPUT in seen:
            output = time.perf_counter() - started
    writer.close()
    return Called(output, time.perf_counter() - started)


async def _thread(port: int) -> str:
    made: str = (await _asked(port, "/v1/threads", {}))["id"]
    return made


async def _asked(port: int, path: str, body: object) -> dict[str, str]:
    connection = await Connection.open(port)
    answer: dict[str, str] = json.loads(await connection.ask(post(path, json.dumps(body).encode())))
    connection.close()
    return answer


def _memory_mib(pid: int) -> float:
    """A process and all below it, each page in parts to those who share it (Linux)."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    kib = 0
    for each in found:
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024


if __name__ == "__main__":
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    run(benchmark)
