"""Durable message appends over HTTP at 64 connections, against the same stack without a store."""

import json

from benchmarks.measure import (
    Connection,
    Process,
    Start,
    get,
    load,
    post,
    process,
    report,
    rethread,
    run,
)

CONNECTIONS = 64
SECONDS = 5.0
ROUNDS = 3
BODY = json.dumps({"role": "user", "content": "What is the weather like today? " * 16}).encode()


async def _threads(server: Process) -> list[str]:
    connection = await Connection.open(server.port)
    made = [
        json.loads(await connection.ask(post("/v1/threads", b"{}")))["id"]
        for _ in range(CONNECTIONS)
    ]
    connection.close()
    return made


async def benchmark(rethread: Start = rethread) -> None:
    """Alternate the two servers, so that both see the same machine."""
    with rethread() as server, process("benchmarks.http_ceiling") as ceiling:
        threads = await _threads(server)
        kept = [post(f"/v1/threads/{thread}/messages", BODY) for thread in threads]
        bare = post("/bare", BODY)
        rows: dict[str, list[float]] = {"kept": [], "unkept": [], "bare": []}
        for _ in range(ROUNDS):
            for name, port, requests in (
                ("kept", server.port, lambda number: kept[number]),
                ("unkept", ceiling.port, lambda number: kept[number]),
                ("bare", ceiling.port, lambda _: bare),
            ):
                result = await load(port, requests, connections=CONNECTIONS, seconds=SECONDS)
                rows[name].append(result.per_second)
                if name == "kept":
                    times = f"p50 {result.percentile(50):.1f} ms, p99 {result.percentile(99):.1f}"
        value, unkept, bare_rate = (sorted(rows[name])[ROUNDS // 2] for name in rows)
        report("appends, against the same work without the write", value, unkept, unit="/s",
               goal=">= 0.5")  # fmt: skip
        report("appends, against bare uvicorn answering the body", value, bare_rate, unit="/s",
               goal="(none)")  # fmt: skip
        print(f"  of the last round: {times}")
        await _check(server, threads[0])


async def _check(server: Process, thread: str) -> None:
    connection = await Connection.open(server.port)
    page = json.loads(await connection.ask(get(f"/v1/threads/{thread}/messages?limit=100")))
    assert page["has_more"], "the appends were not kept"
    connection.close()


if __name__ == "__main__":
    run(benchmark)
