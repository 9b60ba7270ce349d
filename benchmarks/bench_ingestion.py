"""1,000 documents of 10 KB into a vector store, by keywords only, against one bare loop.

The loop reads each file and inserts its text into an FTS5 table: once with each document on disk
before the next, as rethread has it before it says `completed`, and once all in one transaction.
rethread is timed from the first batch to the moment when a poll says that no file is left. It reads
each file in another process and divides it into chunks that overlap by half, so it indexes twice
the text.
"""

import json
import sqlite3
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Process, median, report, rethread

DOCUMENTS: Final = 1000
CHARACTERS: Final = 10_000
AT_ONCE: Final = 500
ROUNDS: Final = 3
POLLING: Final = {"x-stainless-poll-helper": "true"}


def benchmark() -> None:
    """Each round: the bare loop, then rethread, on the same documents."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        paths = [Path(folder) / f"{number}.txt" for number in range(DOCUMENTS)]
        for path, text in zip(paths, documents(), strict=False):
            path.write_text(text, encoding="utf-8")
        each_on_disk: list[float] = []
        at_once: list[float] = []
        ours: list[float] = []
        for number in range(ROUNDS):
            place = Path(folder) / f"bare{number}"
            each_on_disk.append(_bare_loop(paths, place.with_suffix(".a"), is_at_once=False))
            at_once.append(_bare_loop(paths, place.with_suffix(".b"), is_at_once=True))
            with rethread() as server:
                ours.append(_ingested(server, paths))
    rate = DOCUMENTS / median(ours)
    for how, bare in (("each document on disk", each_on_disk), ("in one transaction", at_once)):
        report(
            f"documents of 10 KB, against a bare loop, {how}",
            rate,
            DOCUMENTS / median(bare),
            unit="/s",
            goal=">= 0.5",
        )


def documents() -> Iterator[str]:
    """Pieces of the standard library's sources, each another one."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if "test" not in path.parts and "site-packages" not in path.parts:
            text = path.read_bytes().decode("utf-8", "replace")
            for start in range(0, len(text) - CHARACTERS, CHARACTERS):
                yield text[start : start + CHARACTERS]


def _bare_loop(paths: list[Path], place: Path, *, is_at_once: bool) -> float:
    began = time.perf_counter()
    with closing(sqlite3.connect(place, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE VIRTUAL TABLE texts USING fts5 (text)")
        if is_at_once:
            database.execute("BEGIN")
        for path in paths:
            text = path.read_text(encoding="utf-8")
            database.execute("INSERT INTO texts (text) VALUES (?)", (text,))
        if is_at_once:
            database.execute("COMMIT")
    return time.perf_counter() - began


def _ingested(server: Process, paths: list[Path]) -> float:
    with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        file_ids = [_uploaded(connection, path) for path in paths]
        _in_store(connection, file_ids[:8])  # the processes that read are there from now on
        return _in_store(connection, file_ids)


def _in_store(connection: HTTPConnection, file_ids: list[str]) -> float:
    store_id = _asked(connection, "POST", "/vector_stores", {})["id"]
    began = time.perf_counter()
    batches = [
        _asked(
            connection,
            "POST",
            f"/vector_stores/{store_id}/file_batches",
            {"file_ids": file_ids[start : start + AT_ONCE]},
        )
        for start in range(0, len(file_ids), AT_ONCE)
    ]
    for batch in batches:
        path = f"/vector_stores/{store_id}/file_batches/{batch['id']}"
        while _asked(connection, "GET", path, headers=POLLING)["file_counts"]["in_progress"]:
            pass
    took = time.perf_counter() - began
    counts = _asked(connection, "GET", f"/vector_stores/{store_id}")["file_counts"]
    assert counts["completed"] == len(file_ids), counts
    return took


def _uploaded(connection: HTTPConnection, path: Path) -> str:
    head = (
        '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--b\r\n'
        f'content-disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    )
    body = head.encode() + path.read_bytes() + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return str(_asked(connection, "POST", "/files", body, headers=headers)["id"])


def _asked(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
) -> Any:
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, sent, headers or {})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        raise RuntimeError(said.decode())
    return json.loads(said)


if __name__ == "__main__":
    benchmark()
