"""A reader that is not the file's any more, or whose file nobody wants, does no harm and ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from rethread.contract.files import File
from rethread.contract.vector_stores import AUTO, StoreBody
from rethread.store import chunks, files, ingestions, vector_store_files, vector_stores
from rethread.store.chunks import IndexedChunk
from rethread.store.database import Database, Statement
from rethread.store.files import StoredFile
from rethread.store.ingestions import Reading
from rethread.store.vector_store_files import Group
from rethread.tools.file_search.chunking import Chunk
from rethread.tools.file_search.ingest import Library, ingest

STORE: Final = "vs_a"
FOUND: Final = [Chunk("other text", 0, None, "other text")]


class Blobs:
    """Where every file is."""

    @asynccontextmanager
    async def local(self, _name: str) -> AsyncIterator[Path]:
        """Nobody reads it."""
        yield Path("nowhere")


async def claimed(db: Database) -> Reading:
    """A file of a vector store, with somebody who is to read it."""
    body = StoreBody()
    stored = vector_stores.new("p", STORE, body, days=None, embedder="", now=1)
    assert await db.write(vector_stores.adding(stored))
    file = File.new(filename="a.txt", size=1, purpose="assistants", expires_after=None, now=1)
    encoded = msgspec.json.encode(file)
    await db.write(
        Statement("INSERT INTO blobs (id, hash, size) VALUES ('b', $1, 1)", b"hash"),
        Statement("INSERT INTO blob_trash (id, due_at) VALUES ('b', 1)"),
    )
    await db.write(*files.adding("p", file, encoded, name="b", content=b"hash"))
    found = StoredFile(file.id, "a.txt", 1, "assistants", "b", encoded)
    await db.write(*vector_store_files.adding(STORE, Group([found], AUTO, {}), now=1))
    [reading] = await ingestions.claim(db, server="s", most=1)
    return reading


async def read_while(
    db: Database, reading: Reading, meanwhile: Callable[[], Awaitable[Any]]
) -> None:
    """Bring the file to its end; something else happens while its text is being taken out."""

    async def read(*_: Any, **__: Any) -> list[Chunk]:
        await meanwhile()
        return FOUND

    library: Any = SimpleNamespace(db=db, blobs=Blobs(), reader=SimpleNamespace(read=read))
    await ingest(Library(db, library.blobs, library.reader), reading)


async def test_a_reader_that_was_replaced_forgets_nothing_of_what_the_other_has_read(
    db: Database,
) -> None:
    first = await claimed(db)
    await ingestions.release(db, first)
    [late] = await ingestions.claim(db, server="s", most=1)

    async def other_reads_it() -> None:
        await ingestions.release(db, late)
        [reading] = await ingestions.claim(db, server="t", most=1)
        also = chunks.adding(
            db, STORE, reading.file_number, 0, [IndexedChunk("text", 0, None, "text", None)]
        )
        assert await ingestions.complete(db, reading, usage_bytes=4, also=also)

    await read_while(db, late, other_reads_it)
    assert await chunks.texts(db, late.file_number) == [(0, "text")]


async def test_a_reading_that_nobody_wants_any_more_is_not_held_for_ever(db: Database) -> None:
    reading = await claimed(db)
    cancelling = Statement("UPDATE vector_store_files SET status = 'cancelled'")
    await read_while(db, reading, lambda: db.write(cancelling))
    assert await db.read("SELECT file_number FROM ingestions") == []
