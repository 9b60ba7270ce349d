"""The same on PostgreSQL, by 1, 2 and 4 server processes; and claims of runs a second.

PostgreSQL is started here, on this machine, and waits for the disk as it does by default.
"""

import argparse
import asyncio
import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks import bench_appends, bench_first_token, bench_streams
from benchmarks.measure import Process, report, rethread, run
from rethread.store import leases
from rethread.store.database import Database, Statement, open_database
from tests.own_postgres import own_postgres

PROCESSES: Final = (1, 2, 4)
RUNS: Final = 20_000
TASKS: Final = 64
QUEUE = """
INSERT INTO work (thread_id, run_id)
SELECT 'thread_' || n, 'run_' || n FROM generate_series(1, $1) AS n
"""


async def benchmark(url: str, which: set[str]) -> None:
    """Each part on a database of its own."""
    for count in PROCESSES:
        print(f"PostgreSQL, {count} server process{'es' if count > 1 else ''}:")
        for name, part in (
            ("appends", bench_appends.benchmark),
            ("first_token", bench_first_token.benchmark),
            ("streams", bench_streams.benchmark),
        ):
            if name in which:
                database = await _new_database(url, f"{name}_{count}")
                await part(partial(_start, database, count))
    if "claims" in which:
        await _claims(await _new_database(url, "claims"))


def _start(url: str, count: int, *arguments: str) -> AbstractContextManager[Process]:
    return rethread("--database-url", url, "--workers", str(count), *arguments)


async def _new_database(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return f"{url.rsplit('/', 1)[0]}/{name}"


async def _claims(url: str) -> None:
    """Runs that wait are claimed by 64 tasks, through one and through two servers' connections."""
    databases = [await open_database(Path(), url) for _ in range(2)]
    one = await _claims_a_second(databases[:1])
    two = await _claims_a_second(databases)
    report("claims a second, two servers against one", two, one, unit="/s", goal="(none)")
    for db in databases:
        await db.close()


async def _claims_a_second(databases: list[Database]) -> float:
    await databases[0].write(Statement(QUEUE, RUNS))
    taken: set[str] = set()

    async def work(db: Database) -> None:
        while lease := await leases.claim(db, server="benchmark"):
            assert lease.run_id not in taken, "claimed twice"
            taken.add(lease.run_id)

    started = time.perf_counter()
    await asyncio.gather(*(work(databases[n % len(databases)]) for n in range(TASKS)))
    seconds = time.perf_counter() - started
    assert len(taken) == RUNS
    await databases[0].write(Statement("DELETE FROM work"))
    return RUNS / seconds


if __name__ == "__main__":
    parts = ("appends", "first_token", "streams", "claims")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=parts, help=" ".join(parts))
    asked = set(parser.parse_args().parts)
    with own_postgres() as postgres:
        run(partial(benchmark, postgres.url, asked))
