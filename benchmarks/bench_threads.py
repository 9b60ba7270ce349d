"""A project of 1,000,000 threads and 10,000,000 messages against one of 1,000 and 10,000.

`python -m benchmarks.bench_threads [--threads N] [--database-url URL]`: URL is a PostgreSQL with
nothing in it; two schemas are made there. The rows are written past the store: through it they
would take hours.
"""

import argparse
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from benchmarks.measure import Connection, get, median, process, report, run
from rethread.contract.messages import CreateMessage, Message
from rethread.contract.threads import CreateThread, Thread
from rethread.store import search
from rethread.store.database import FILE_NAME, open_database

PROJECT: Final = "default"
SMALL: Final = 1000
MESSAGES_A_THREAD: Final = 10
THREADS_A_USER: Final = 100
WORDS_A_MESSAGE: Final = 20
VOCABULARY: Final = 50_000
ROWS_AT_ONCE: Final = 50_000
ROUNDS: Final = 50

TABLES: Final = {
    "threads": ("number", "id", "project", "created_at", "body"),
    "thread_metadata": ("thread_id", "key", "value", "project", "number"),
    "messages": ("thread_id", "number", "id", "created_at", "body"),
    "message_texts": ("project", "number", "thread_id", "message_id"),
}
INDEXES: Final = {
    "thread_metadata_by_value": "ON thread_metadata (project, key, substr(value, 1, 100), number)",
    "message_texts_by_words": "ON message_texts USING GIN (words)",
}


class Filled(NamedTuple):
    """A database that was filled, and what in it to ask for."""

    arguments: tuple[str, ...]
    middle_thread: str
    middle_message: str


class Rows(NamedTuple):
    """Rows for the tables, of some threads; `words` are those of the messages."""

    tables: dict[str, list[tuple[Any, ...]]]
    words: list[list[str]]


def _rows(first: int, count: int, chosen: random.Random) -> Rows:
    """Threads of that number and those behind it; how often a word comes is as in a language."""
    tables: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    words = []
    now = int(time.time())
    ranks = range(1, VOCABULARY + 1)
    weights = [1 / rank for rank in ranks]
    said = iter(chosen.choices(ranks, weights, k=count * MESSAGES_A_THREAD * WORDS_A_MESSAGE))
    for number in range(first, first + count):
        metadata = {
            "user": f"user{number // THREADS_A_USER}",
            "state": ("open", "shut")[number % 2],
        }
        thread = Thread.new(CreateThread(metadata=metadata), now=now)
        tables["threads"].append((number, thread.id, PROJECT, now, msgspec.json.encode(thread)))
        tables["thread_metadata"] += [
            (thread.id, key, value, PROJECT, number) for key, value in metadata.items()
        ]
        for place in range(1, MESSAGES_A_THREAD + 1):
            said_here = [f"w{rank}" for rank in islice(said, WORDS_A_MESSAGE)]
            asked = CreateMessage(role="user", content=" ".join(said_here))
            message = Message.new(asked, thread_id=thread.id, now=now)
            body = msgspec.json.encode(message)
            tables["messages"].append((thread.id, place, message.id, now, body))
            text = (PROJECT, number * MESSAGES_A_THREAD + place, thread.id, message.id)
            tables["message_texts"].append(text)
            words.append([search.project_word(PROJECT), *said_here])
    return Rows(tables, words)


def _all_rows(threads: int) -> Iterator[Rows]:
    chosen = random.Random(1)
    at_once = ROWS_AT_ONCE // MESSAGES_A_THREAD
    for first in range(1, threads + 1, at_once):
        yield _rows(first, min(at_once, threads + 1 - first), chosen)


async def _fill_file(folder: Path, threads: int) -> Filled:
    await (await open_database(folder)).close()
    file = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    file.execute("PRAGMA synchronous = OFF")
    file.execute("PRAGMA cache_size = -1000000")
    filled: Filled | None = None
    for rows in _all_rows(threads):
        file.execute("BEGIN")
        for table, columns in TABLES.items():
            marks = ", ".join("?" * len(columns))
            insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
            file.executemany(insert, rows.tables[table])
        numbers = (row[1] for row in rows.tables["message_texts"])
        texts = zip(numbers, map(" ".join, rows.words), strict=True)
        file.executemany("INSERT INTO message_words (rowid, words) VALUES (?, ?)", texts)
        file.execute("COMMIT")
        filled = _until_middle(filled, rows, threads, ("--data-dir", str(folder)))
    file.close()
    assert filled is not None
    return filled


async def _fill_schema(folder: Path, url: str, threads: int) -> Filled:
    schema = f"bench_{threads}"
    connection = await asyncpg.connect(url)
    await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    await connection.execute(f"CREATE SCHEMA {schema}")
    await connection.execute(f"SET search_path = {schema}")
    own = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
    await (await open_database(folder, own)).close()
    await connection.execute("SET synchronous_commit = off")
    for index in INDEXES:
        await connection.execute(f"DROP INDEX {index}")
    await connection.execute("CREATE TEMPORARY TABLE texts (LIKE message_texts)")
    await connection.execute("ALTER TABLE texts ALTER COLUMN words TYPE TEXT")
    filled: Filled | None = None
    for rows in _all_rows(threads):
        texts = zip(rows.tables["message_texts"], rows.words, strict=True)
        vectors = [(*row, search.vector(words)) for row, words in texts]
        for table, columns in TABLES.items():
            records = vectors if table == "message_texts" else rows.tables[table]
            named = [*columns, "words"] if table == "message_texts" else columns
            into = "texts" if table == "message_texts" else table
            await connection.copy_records_to_table(into, records=records, columns=named)
        await connection.execute(
            "INSERT INTO message_texts (project, number, thread_id, message_id, words) "
            "SELECT project, number, thread_id, message_id, CAST(words AS TSVECTOR) FROM texts"
        )
        await connection.execute("TRUNCATE texts")
        arguments = ("--data-dir", str(folder), "--database-url", own)
        filled = _until_middle(filled, rows, threads, arguments)
    for index, what in INDEXES.items():
        await connection.execute(f"CREATE INDEX {index} {what}")
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    assert filled is not None
    return filled


def _until_middle(
    filled: Filled | None, rows: Rows, threads: int, arguments: tuple[str, ...]
) -> Filled:
    """The last thread and message of what was filled first, up to the middle."""
    thread, text = rows.tables["threads"][-1], rows.tables["message_texts"][-1]
    if filled is not None and thread[0] > threads // 2:
        return filled
    return Filled(arguments, thread[1], text[3])


def _paths(filled: Filled) -> dict[str, str]:
    deep = f"&after={filled.middle_message}"
    return {
        "threads, the newest": "/v1/threads?",
        "threads, deep inside": f"/v1/threads?after={filled.middle_thread}",
        "threads of a user": "/v1/threads?metadata[user]=user7",
        "threads in a state": "/v1/threads?metadata[state]=open",
        "threads of a user in a state": "/v1/threads?metadata[state]=open&metadata[user]=user7",
        "a word of every second message": "/v1/threads/search?q=w3",
        "the same, deep inside": f"/v1/threads/search?q=w3{deep}",
        "a word of 1 message in 200": "/v1/threads/search?q=w350",
        "the same, deep inside ": f"/v1/threads/search?q=w350{deep}",
        "a word of 1 message in 20,000": "/v1/threads/search?q=w35000",
        "two words": "/v1/threads/search?q=w30+w40",
        "a phrase": "/v1/threads/search?q=%22w20+w30%22",
        "a word that nobody said": "/v1/threads/search?q=nobody",
    }


async def _seconds(connection: Connection, path: str) -> float:
    started = time.perf_counter()
    json.loads(await connection.ask(get(path)))
    return time.perf_counter() - started


async def _measured(filled: Filled) -> dict[str, float]:
    """The median time of each question, in milliseconds."""
    command = ("rethread", "serve", "--port", "0", "--log-level", "warning", *filled.arguments)
    with process(*command) as server:
        connection = await Connection.open(server.port)
        times = {
            what: [await _seconds(connection, path) for _ in range(ROUNDS)]
            for what, path in _paths(filled).items()
        }
        connection.close()
    return {what: median(seconds) * 1000 for what, seconds in times.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1_000_000)
    parser.add_argument("--database-url")
    return parser.parse_args()


async def benchmark() -> None:
    """Fill two databases, and ask both the same."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for threads in (SMALL, asked.threads):
            own = Path(folder) / str(threads)
            own.mkdir()
            started = time.perf_counter()
            if asked.database_url is None:
                filled = await _fill_file(own, threads)
            else:
                filled = await _fill_schema(own, asked.database_url, threads)
            print(
                f"{threads:,} threads filled in {time.perf_counter() - started:.0f} s", flush=True
            )
            found.append(await _measured(filled))
        small, large = found
        for what, value in large.items():
            report(f"{what}, against {SMALL:,}", value, small[what], unit="ms", goal="<= 5 ms")


if __name__ == "__main__":
    run(benchmark)
