"""How long others wait for the server while code tries to hurt it.

A client lists assistants all the time; meanwhile a session does its worst, with the limits that
sessions have by default but for the time. The ceiling is the same client's p99 with nothing else.
"""

import asyncio
import json
import os
import time
from typing import Any, Final

from benchmarks.measure import Connection, get, percentile, post, report, rethread, run
from tests.escape.texts import single_text

SECONDS: Final = 6
PAUSE_SECONDS: Final = 0.002  # between two requests of the client: it is no load itself
BOMBS: Final = (
    "fork_bomb",
    "time_behind_every_except",
    "time_in_the_background",
    "memory_of_one_process",
    "memory_of_many_processes",
    "memory_behind_a_crowd",
    "memory_in_folders",
    "disk_by_one_file",
    "disk_by_empty_files",
    "output_without_end",
    "images_without_end",
)
TOLD: Final[dict[str, Any]] = {
    "memory_mb": 1024,
    "disk_mb": 1024,
    "processes": 64,
    "namespaces": {"pid": os.readlink("/proc/self/ns/pid")},
}
CODE: Final = [{"type": "code_interpreter"}]


async def benchmark() -> None:
    """One bomb after the other, each in a session of its own."""
    with rethread("--code-call-seconds", str(SECONDS), "--code-warm", "1") as server:
        port = server.port
        body = json.dumps({"model": "demo", "tools": CODE}).encode()
        assistant_id = (await _asked(port, post("/v1/assistants", body)))["id"]
        await _code_run(port, assistant_id, "print(1)")
        for bomb in BOMBS:
            normal = await _waits(port, until=time.perf_counter() + SECONDS)
            running = asyncio.create_task(
                _code_run(port, assistant_id, single_text("bombs", bomb, TOLD))
            )
            under = await _waits(port, until=time.perf_counter() + SECONDS)
            await running
            what = f"GET /v1/assistants, p99, {bomb.replace('_', ' ')}"
            ceiling, value = (percentile(each, 99) * 1000 for each in (normal, under))
            report(what, value, ceiling, unit="ms", goal="<= 3.00")


async def _waits(port: int, *, until: float) -> list[float]:
    """How long each request of one client took, in seconds."""
    connection = await Connection.open(port)
    request, times = get("/v1/assistants?limit=5"), []
    while (started := time.perf_counter()) < until:
        await connection.ask(request)
        times.append(time.perf_counter() - started)
        await asyncio.sleep(PAUSE_SECONDS)
    connection.close()
    return times


async def _code_run(port: int, assistant_id: str, code: str) -> None:
    """Run code on a new thread, and wait until that has ended."""
    message = {"role": "user", "content": f"```python\n{code}\n```"}
    body = {"assistant_id": assistant_id, "thread": {"messages": [message]}}
    made = await _asked(port, post("/v1/threads/runs", json.dumps(body).encode()))
    while made["status"] in ("queued", "in_progress"):
        await asyncio.sleep(0.1)
        made = await _asked(port, get(f"/v1/threads/{made['thread_id']}/runs/{made['id']}"))


async def _asked(port: int, request: bytes) -> Any:
    connection = await Connection.open(port)
    answer = await connection.ask(request)
    connection.close()
    return json.loads(answer)


if __name__ == "__main__":
    run(benchmark)
