"""A thread of 100,000 messages against one of 100: the newest page, a page deep inside, a run."""

import json
import tempfile
import time
from itertools import chain
from pathlib import Path

import msgspec

from benchmarks.measure import (
    Connection,
    Process,
    get,
    median,
    post,
    process,
    report,
    run,
    stream,
)
from rethread.contract.messages import CreateMessage, Message
from rethread.contract.threads import CreateThread, Thread
from rethread.store import messages, threads
from rethread.store.database import open_database

SIZES = (100, 100_000)
TEXT = "What is the weather like today? " * 8
ROUNDS = 300
RUNS = 40


async def _fill(folder: Path) -> tuple[dict[int, str], str]:
    """Both threads, written by the store itself; and an id in the middle of the long one."""
    db = await open_database(folder)
    made = {}
    middle = ""
    for size in SIZES:
        now = int(time.time())
        thread = Thread.new(CreateThread(), now=now)
        await db.write(threads.adding("default", thread.id, msgspec.json.encode(thread), now=now))
        for start in range(0, size, 500):
            batch = [
                Message.new(CreateMessage(role="user", content=TEXT), thread_id=thread.id, now=now)
                for _ in range(min(500, size - start))
            ]
            written = (messages.appending(each, msgspec.json.encode(each)) for each in batch)
            await db.write(*chain.from_iterable(written))
            middle = batch[-1].id if start <= size // 2 else middle
        made[size] = thread.id
    await db.close()
    return made, middle


async def _read_seconds(connection: Connection, path: str) -> float:
    started = time.perf_counter()
    page = json.loads(await connection.ask(get(path)))
    assert len(page["data"]) == 20
    return time.perf_counter() - started


async def _pages(server: Process, made: dict[int, str], middle: str) -> None:
    connection = await Connection.open(server.port)
    paths = {
        "short": f"/v1/threads/{made[100]}/messages?limit=20",
        "long": f"/v1/threads/{made[100_000]}/messages?limit=20",
        "deep": f"/v1/threads/{made[100_000]}/messages?limit=20&after={middle}",
    }
    times: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(ROUNDS):
        for name, path in paths.items():
            times[name].append(await _read_seconds(connection, path))
    connection.close()
    short = median(times["short"]) * 1000
    for name, what in (("long", "the 20 newest of 100,000"), ("deep", "20 deep inside them")):
        value = median(times[name]) * 1000
        report(f"{what}, against 100", value, short, unit="ms", goal="<= 1.2")


async def _first_tokens(server: Process, made: dict[int, str]) -> None:
    """A run that shows the model what fits a window of 2,000 tokens: all threads' end."""
    connection = await Connection.open(server.port)
    body = json.dumps({"model": "tokens=1,rate=0"}).encode()
    assistant = json.loads(await connection.ask(post("/v1/assistants", body)))["id"]
    connection.close()
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    request = json.dumps(
        {"assistant_id": assistant, "stream": True, "max_prompt_tokens": 2000}
    ).encode()
    for _ in range(RUNS):
        for size in SIZES:
            path = f"/v1/threads/{made[size]}/runs"
            times[size].append((await stream(server.port, post(path, request))).first_token)
    value, short = (median(times[size]) * 1000 for size in (100_000, 100))
    report("first token on 100,000 messages, against 100", value, short, unit="ms", goal="<= 1.2")


async def benchmark() -> None:
    """Fill the store, then serve it."""
    with tempfile.TemporaryDirectory() as folder:
        made, middle = await _fill(Path(folder))
        with process("benchmarks.model") as model:
            command = ("--data-dir", folder, "--upstream", f"http://127.0.0.1:{model.port}/v1")
            with process(
                "rethread", "serve", "--port", "0", "--log-level", "warning", *command
            ) as server:
                await _pages(server, made, middle)
                await _first_tokens(server, made)


if __name__ == "__main__":
    run(benchmark)
