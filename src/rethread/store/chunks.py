"""The chunks of the files in vector stores: their texts, and what the search index has of them.

A chunk's number is made of its file's number and its place in the file, and is never given to
another. Chunks are written before their file is `completed` and found only afterwards; what has
gone is put into `purged_files`, and is cleaned away in small writes.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from rethread.errors import Raced, Unavailable
from rethread.store import chunk_vectors, chunk_words
from rethread.store.database import Database, Row, Statement
from rethread.store.words import words_of

FILE_BITS: Final = 20
CHUNKS_A_FILE: Final = 1 << FILE_BITS
FORGOTTEN_AT_ONCE: Final = 100

NOTE = """
INSERT INTO indexed_files (file_number, store_id, chunks) VALUES ($1, $2, $3)
ON CONFLICT (file_number) DO UPDATE SET chunks = excluded.chunks
"""
# differs: one chunk a statement is the quickest for SQLite, whose writer is a thread away; for
# PostgreSQL a statement is a part of a function, which must not be made anew for each number.
ADD = {
    "sqlite": """
INSERT INTO chunks (number, start, page, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (number) DO UPDATE
   SET start = excluded.start, page = excluded.page, body = excluded.body
""",
    "postgresql": """
INSERT INTO chunks (number, start, page, body)
SELECT CAST(item ->> 0 AS BIGINT), CAST(item ->> 1 AS BIGINT), CAST(item ->> 2 AS BIGINT),
       convert_to(item ->> 3, 'UTF8')
  FROM json_array_elements(CAST($1 AS JSON)) AS items (item)
ON CONFLICT (number) DO UPDATE
   SET start = excluded.start, page = excluded.page, body = excluded.body
""",
}
INDEXED = "SELECT chunks FROM indexed_files WHERE file_number = $1"
TEXTS = "SELECT start, body FROM chunks WHERE number BETWEEN $1 AND $2 ORDER BY number"
FOUND = """
SELECT chunks.number, files.store_id, files.file_id, files.filename, files.attributes,
       chunks.body, chunks.page, chunks.start
  FROM {pairs_of}(CAST($1 AS {json})) AS wanted
  JOIN chunks ON chunks.number = CAST(wanted.key AS BIGINT)
  JOIN vector_store_files AS files ON files.number = CAST(wanted.value AS BIGINT)
"""
PURGED = """
SELECT purged_files.file_number, COALESCE(indexed_files.store_id, '')
  FROM purged_files
  LEFT JOIN indexed_files ON indexed_files.file_number = purged_files.file_number
 LIMIT 1
"""
OLDEST = f"""
SELECT number, body FROM chunks WHERE number BETWEEN $1 AND $2
 ORDER BY number LIMIT {FORGOTTEN_AT_ONCE}
"""
FORGET = "DELETE FROM chunks WHERE number BETWEEN $1 AND $2"
FORGET_FILE = "DELETE FROM indexed_files WHERE file_number = $1"
PURGE_IS_DONE = "DELETE FROM purged_files WHERE file_number = $1"


class IndexedChunk(NamedTuple):
    """A piece of a file; `words` with spaces between them; `vector` if there is an embedder.

    `is_entry` says that the words are the index's own already (`chunk_words.entry`).
    """

    text: str
    start: int
    page: int | None
    words: str
    vector: bytes | None
    is_entry: bool = False


def adding(
    db: Database,
    store_id: str,
    file_number: int,
    first_position: int,
    chunks: Sequence[IndexedChunk],
) -> list[Statement]:
    """Statements that index chunks of a file which follow each other; doing so again is harmless.

    CPU work of some 100 µs a chunk where its entry is still to be made: for many, in a thread.
    """
    first = range_of(file_number)[0] + first_position
    rows = [
        (number, chunk.start, chunk.page, chunk.text) for number, chunk in enumerate(chunks, first)
    ]
    entries = (
        (
            number,
            chunk.words if chunk.is_entry else chunk_words.entry(store_id, chunk.words.split()),
        )
        for number, chunk in enumerate(chunks, first)
    )
    vectors = [
        (number, chunk.vector)
        for number, chunk in enumerate(chunks, first)
        if chunk.vector is not None
    ]
    return [
        Statement(NOTE, file_number, store_id, first_position + len(chunks)),
        *_adding(db, rows),
        *chunk_words.adding_entries(db.dialect, entries),
        *chunk_vectors.adding(db, vectors),
    ]


def range_of(file_number: int) -> tuple[int, int]:
    """The first and the last number that a file's chunks can have."""
    first = file_number << FILE_BITS
    return first, first + CHUNKS_A_FILE - 1


async def count(db: Database, file_number: int) -> int:
    """How many of a file's first chunks are indexed: where its ingestion can go on."""
    rows = await db.read(INDEXED, file_number)
    return rows[0][0] if rows else 0


async def texts(db: Database, file_number: int) -> list[tuple[int, str]]:
    """Where each chunk begins in its file's text, and its text, in order."""
    first, last = range_of(file_number)
    rows = await db.read(TEXTS, first, last)
    return [(start, body.decode()) for start, body in rows]


class FoundChunk(NamedTuple):
    """A chunk with the file that it is from; `attributes` are JSON."""

    number: int
    store_id: str
    file_id: str
    filename: str
    attributes: bytes
    text: str
    page: int | None
    start: int


async def found(db: Database, numbers: Sequence[int]) -> list[FoundChunk]:
    """These chunks, in any order; without those that have gone."""
    wanted = {str(number): str(number >> FILE_BITS) for number in numbers}
    rows = await db.read(FOUND, msgspec.json.encode(wanted).decode())
    return [
        FoundChunk(
            number, store_id, file_id, filename, bytes(attributes), bytes(body).decode(), *place
        )
        for number, store_id, file_id, filename, attributes, body, *place in rows
    ]


async def forget_some(db: Database) -> bool:
    """Clean away some chunks of a file that has gone; whether there was such a file."""
    purged = await db.read(PURGED)
    if not purged:
        return False
    file_number, store_id = purged[0]
    if not await _forget(db, store_id, file_number):
        await db.write(Statement(FORGET_FILE, file_number), Statement(PURGE_IS_DONE, file_number))
    return True


async def forget_file(db: Database, store_id: str, file_number: int, *, check: Statement) -> None:
    """Clean away what is indexed of a file, for one that is to be indexed anew.

    Raced where the check refuses it: somebody else may be indexing it already.
    """
    while await _forget(db, store_id, file_number, check):
        pass
    _check_written(await db.write(check, Statement(FORGET_FILE, file_number)), check)


def _adding(db: Database, rows: Sequence[Row]) -> list[Statement]:
    if db.dialect == "sqlite":
        return [
            Statement(ADD[db.dialect], number, start, page, text.encode())
            for number, start, page, text in rows
        ]
    return [Statement(ADD[db.dialect], msgspec.json.encode(rows).decode())]


async def _forget(db: Database, store_id: str, file_number: int, *checks: Statement) -> bool:
    """Whether there were chunks, some of which are gone now."""
    first, last = range_of(file_number)
    rows = await db.read(OLDEST, first, last)
    if not rows:
        return False
    chunks = await asyncio.to_thread(_with_words, rows)
    ends = rows[0][0], rows[-1][0]
    gone = [*checks, Statement(FORGET, *ends), *await chunk_vectors.forgetting(db, *ends)]
    try:
        written = await db.write(*gone, *chunk_words.forgetting(db.dialect, store_id, chunks))
    except Unavailable:
        raise
    except Exception:
        # SQLite's index is told the words that it had. Were they others, under an older Python,
        # it may refuse; what it keeps of a chunk that has gone is never found.
        written = await db.write(*gone)
    _check_written(written, *checks)
    return True


def _check_written(rows: Sequence[Row], *checks: Statement) -> None:
    if checks and not rows:
        raise Raced("What is indexed of this file is somebody else's now.")


def _with_words(rows: Sequence[Row]) -> list[tuple[int, list[str]]]:
    return [(number, words_of(bytes(body).decode())) for number, body in rows]
