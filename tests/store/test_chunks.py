"""Chunks come and go whole: their texts, and what the index has of them, on both databases."""

from rethread.store import chunks
from rethread.store.chunks import IndexedChunk
from rethread.store.database import Database, Statement
from rethread.store.words import words_of

PURGE = "INSERT INTO purged_files (file_number) VALUES ($1)"


def chunk(text: str, start: int = 0, *, vector: bytes | None = None) -> IndexedChunk:
    return IndexedChunk(text, start, None, " ".join(words_of(text)), vector)


async def test_a_files_texts_come_back_in_order_and_others_do_not(db: Database) -> None:
    await db.write(*chunks.adding(db, "vs_a", 7, 0, [chunk("one", 0), chunk("zwei ☂ 2", 3)]))
    await db.write(*chunks.adding(db, "vs_a", 8, 0, [chunk("another file")]))
    await db.write(*chunks.adding(db, "vs_a", 7, 2, [chunk("three", 11)]))
    assert await chunks.texts(db, 7) == [(0, "one"), (3, "zwei ☂ 2"), (11, "three")]
    assert await chunks.count(db, 7) == 3
    assert await chunks.count(db, 9) == 0


async def test_chunks_that_are_added_again_are_there_once(db: Database) -> None:
    for _ in range(2):
        await db.write(*chunks.adding(db, "vs_a", 7, 0, [chunk("one"), chunk("two", 3)]))
    assert await chunks.texts(db, 7) == [(0, "one"), (3, "two")]
    assert await chunks.count(db, 7) == 2


async def test_a_purged_file_leaves_nothing_behind_and_takes_nothing_along(db: Database) -> None:
    many = [chunk(f"piece number {n}", n) for n in range(chunks.FORGOTTEN_AT_ONCE + 5)]
    await db.write(*chunks.adding(db, "vs_a", 7, 0, many))
    await db.write(*chunks.adding(db, "vs_a", 8, 0, [chunk("this one stays")]))
    await db.write(Statement(PURGE, 7))
    while await chunks.forget_some(db):
        pass
    assert await chunks.texts(db, 7) == []
    assert await chunks.texts(db, 8) == [(0, "this one stays")]
    assert await db.read("SELECT * FROM purged_files") == []
    assert await db.read("SELECT file_number FROM indexed_files") == [(8,)]
