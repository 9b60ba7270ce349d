"""What is indexed anew, and how far that has come: written with each batch, so that it goes on.

While a store is being indexed anew it belongs to no embedder, so nobody searches half of it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from rethread.store import chunk_vectors, chunk_words, chunks
from rethread.store.database import Database, Statement
from rethread.store.words import words_of

# No embedder is called so. The old one's name is not needed any more.
BETWEEN: Final = "(being reindexed)"
ALL_WORDS: Final = ""  # in the place of a store: the words of all
AT_ONCE: Final = 64  # chunks

OTHERS: Final = """
SELECT id, CAST(COALESCE((SELECT SUM(chunks) FROM indexed_files
                           WHERE indexed_files.store_id = vector_stores.id), 0) AS BIGINT)
  FROM vector_stores WHERE embedder <> $1 ORDER BY number
"""
EVERY: Final = OTHERS.replace("WHERE embedder <> $1", "WHERE CAST($1 AS TEXT) IS NOT NULL")
BEGIN: Final = """
INSERT INTO reindexing (store_id, embedder, last_number) VALUES ($1, $2, 0)
ON CONFLICT (store_id) DO UPDATE
   SET last_number = CASE WHEN reindexing.embedder = excluded.embedder
                          THEN reindexing.last_number ELSE 0 END,
       embedder = excluded.embedder
"""
# Whoever is reading a file of the store has the old embedder: what was written so far is indexed
# anew, and nothing of it comes behind.
REPLACE_READERS: Final = """
UPDATE ingestions SET fence = fence + 1, claimed = 0 WHERE store_id = $1 AND claimed = 1
"""
REACHED: Final = "SELECT last_number FROM reindexing WHERE store_id = $1"
REACH: Final = "UPDATE reindexing SET last_number = $2 WHERE store_id = $1"
END: Final = "DELETE FROM reindexing WHERE store_id = $1"
BELONG: Final = "UPDATE vector_stores SET embedder = $2 WHERE id = $1"
FILES: Final = """
SELECT file_number, store_id FROM indexed_files WHERE file_number >= $1 AND {which}
 ORDER BY file_number LIMIT 1
"""
OF_STORE: Final = "store_id = $2"
OF_ANY: Final = "CAST($2 AS TEXT) IS NOT NULL"
BODIES: Final = f"""
SELECT number, body FROM chunks WHERE number BETWEEN $1 AND $2 ORDER BY number LIMIT {AT_ONCE}
"""
COUNT: Final = "SELECT CAST(COALESCE(SUM(chunks), 0) AS BIGINT) FROM indexed_files"
# differs: SQLite's index holds nothing but words, and is emptied by a word of its own.
FORGET_WORDS: Final = {
    "sqlite": "INSERT INTO chunk_words (chunk_words) VALUES ('delete-all')",
    "postgresql": "DELETE FROM chunk_words",
}


class Store(NamedTuple):
    """A store to index anew, and how many chunks it has."""

    id: str
    chunks: int


class Batch(NamedTuple):
    """Chunks of one file that follow each other: numbers and texts."""

    store_id: str
    numbers: list[int]
    texts: list[str]


async def stores(db: Database, embedder: str, *, also_its_own: bool = False) -> list[Store]:
    """The stores whose vectors another embedder has made, or nobody; '' is nobody."""
    return [Store(*row) for row in await db.read(EVERY if also_its_own else OTHERS, embedder)]


async def begin(db: Database, store_id: str, embedder: str) -> int:
    """Begin, or go on: the number of the last chunk that is done."""
    await db.write(
        Statement(BEGIN, store_id, embedder),
        Statement(BELONG, store_id, BETWEEN),
        Statement(REPLACE_READERS, store_id),
    )
    return int((await db.read(REACHED, store_id))[0][0])


async def begin_words(db: Database) -> int:
    """The same for the words of all chunks; the old ones go when it begins."""
    if not await db.read(REACHED, ALL_WORDS):
        await db.write(Statement(FORGET_WORDS[db.dialect]), Statement(BEGIN, ALL_WORDS, "words"))
    return int((await db.read(REACHED, ALL_WORDS))[0][0])


async def next_batch(db: Database, store_id: str, after: int) -> Batch | None:
    """The chunks of a store, or of all, behind that number."""
    file_number = after >> chunks.FILE_BITS
    which = OF_ANY if store_id == ALL_WORDS else OF_STORE
    while files := await db.read(FILES.format(which=which), file_number, store_id):
        file_number, owner = files[0]
        first, last = chunks.range_of(file_number)
        if rows := await db.read(BODIES, max(first, after + 1), last):
            texts = [bytes(body).decode() for _, body in rows]
            return Batch(owner, [number for number, _ in rows], texts)
        file_number += 1
    return None


async def keep_vectors(db: Database, batch: Batch, vectors: Sequence[bytes]) -> None:
    """Put vectors in the place of those that a batch had: one for each chunk, or none at all."""
    numbers = batch.numbers
    await db.write(
        *await chunk_vectors.forgetting(db, numbers[0], numbers[-1]),
        *chunk_vectors.adding(db, list(zip(numbers, vectors, strict=False))),
        Statement(REACH, batch.store_id, numbers[-1]),
    )


async def keep_words(db: Database, batch: Batch) -> None:
    """Index the words of a batch."""
    words = ((number, words_of(text)) for number, text in zip(*batch[1:], strict=True))
    await db.write(
        *chunk_words.adding(db.dialect, batch.store_id, words),
        Statement(REACH, ALL_WORDS, batch.numbers[-1]),
    )


async def end(db: Database, store_id: str, embedder: str) -> None:
    """The store belongs to its new embedder."""
    await db.write(Statement(BELONG, store_id, embedder), Statement(END, store_id))


async def end_words(db: Database) -> None:
    """All words are indexed."""
    await db.write(Statement(END, ALL_WORDS))


async def count(db: Database) -> int:
    """How many chunks there are in all."""
    return int((await db.read(COUNT))[0][0])
