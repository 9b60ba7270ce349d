"""From start to the first answer, against starting an empty server; and memory at rest."""

import time

from benchmarks.measure import Connection, get, median, process, report, rethread, run

ROUNDS = 5


async def benchmark() -> None:
    """A real request answered, not only a socket that listens."""
    ours, ceilings, memory = [], [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with rethread() as server:
            connection = await Connection.open(server.port)
            await connection.ask(get("/v1/assistants"))
            ours.append(time.perf_counter() - started)
            time.sleep(1.0)  # noqa: ASYNC251 - at rest: what the start left running is done
            memory.append(server.memory_mib())
            connection.close()
        with process("benchmarks.model") as empty:
            ceilings.append(empty.seconds_to_listen)
    report("start to first answer", median(ours) * 1000, median(ceilings) * 1000, unit="ms",
           goal="<= 1500 ms")  # fmt: skip
    print(f"  memory at rest: {median(memory):.1f} MiB (goal <= 100 MB)")


if __name__ == "__main__":
    run(benchmark)
