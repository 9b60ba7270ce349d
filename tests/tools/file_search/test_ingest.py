"""A reader that is not the file's any more, or whose file nobody wants, does no harm and ends."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest

from rethread.contract.files import File
from rethread.contract.vector_stores import AUTO, StoreBody
from rethread.store import (
    chunk_vectors,
    chunks,
    files,
    ingestions,
    servers,
    vector_store_files,
    vector_stores,
)
from rethread.store.chunks import IndexedChunk
from rethread.store.database import Database, Statement, open_database
from rethread.store.files import StoredFile
from rethread.store.ingestions import Reading
from rethread.store.vector_store_files import Group
from rethread.tools.file_search.chunking import Chunk
from rethread.tools.file_search.embedding import Placed
from rethread.tools.file_search.gathering import Gathering
from rethread.tools.file_search.ingest import MOST_ATTEMPTS, Library, ingest
from rethread.tools.file_search.ingesting import Ingesting
from rethread.tools.file_search.reader import Reader
from rethread.tools.file_search.turns import Turns

STORE: Final = "vs_a"
HURRY: Final = """
UPDATE ingestions SET urgent = 1 WHERE number = (SELECT MAX(number) FROM ingestions)
"""
FOUND: Final = [Chunk("other text", 0, None, "other text")]


class Blobs:
    """Where every file is."""

    def __init__(self) -> None:
        self.opened = asyncio.Semaphore(0)

    @asynccontextmanager
    async def local(self, _name: str) -> AsyncIterator[Path]:
        """Nobody reads it."""
        self.opened.release()
        yield Path("nowhere")


class Fixed:
    """An embedder that knows one vector."""

    name = "fixed"
    dimensions = 4

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """The same for all."""
        return [struct.pack("<4f", 1, 0, 0, 0)] * len(texts)

    async def aclose(self) -> None:
        """Nothing to let go."""


class Watched:
    """A database of which is seen how many writes of chunks were under way at once."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.under_way = self.most = self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def write(self, *statements: Statement) -> Any:
        is_counted = any("INTO chunks" in each.sql for each in statements)
        self.writes += is_counted
        self.under_way += is_counted
        self.most = max(self.most, self.under_way)
        try:
            return await self._db.write(*statements)
        finally:
            self.under_way -= is_counted


async def claimed(db: Database, *, embedder: str = "", count: int = 1) -> list[Reading]:
    """Files of a vector store, with somebody who is to read them."""
    body = StoreBody()
    stored = vector_stores.new("p", STORE, body, days=None, embedder=embedder, now=1)
    assert await db.write(vector_stores.adding(stored))
    for number in range(count):
        await _add_file(db, f"b{number}")
    return await ingestions.claim(db, server="s", most=count)


async def _add_file(db: Database, blob: str) -> None:
    file = File.new(filename="a.txt", size=1, purpose="assistants", expires_after=None, now=1)
    encoded = msgspec.json.encode(file)
    await db.write(Statement("INSERT INTO blob_trash (id, due_at) VALUES ($1, 1)", blob))
    await db.write(*files.adding("p", file, encoded, name=blob, content=blob.encode()))
    found = StoredFile(file.id, "a.txt", 1, "assistants", blob, encoded)
    await db.write(*vector_store_files.adding(STORE, Group([found], AUTO, {}), now=1))


async def read_while(
    db: Database, reading: Reading, meanwhile: Callable[[], Awaitable[Any]]
) -> None:
    """Bring the file to its end; something else happens while its text is being taken out."""

    async def read(*_: Any, **__: Any) -> list[Chunk]:
        await meanwhile()
        return FOUND

    library: Any = SimpleNamespace(db=db, blobs=Blobs(), reader=SimpleNamespace(read=read))
    await ingest(
        Library(db, library.blobs, library.reader, None, asyncio.Lock(), Gathering()), reading
    )


async def test_a_reader_that_was_replaced_forgets_nothing_of_what_the_other_has_read(
    db: Database,
) -> None:
    [first] = await claimed(db)
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
    [reading] = await claimed(db)
    cancelling = Statement("UPDATE vector_store_files SET status = 'cancelled'")
    await read_while(db, reading, lambda: db.write(cancelling))
    assert await db.read("SELECT file_number FROM ingestions") == []


async def test_a_file_that_only_waits_does_not_count_the_crashes_of_its_server(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await claimed(db, count=3)
    await ingestions.release_all(db)
    await db.write(Statement("UPDATE ingestions SET crashes = 0"))
    reader = Reader(processes=1, timeout_seconds=1, memory_bytes=1)
    library: Any = SimpleNamespace(
        db=db, blobs=Blobs(), reader=reader, embedder=None, gathering=Gathering()
    )
    has_begun = asyncio.Event()

    async def never_started(_: Reader) -> None:
        has_begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Reader, "_started", never_started)
    for number in range(MOST_ATTEMPTS):
        readings = await ingestions.claim(db, server="s", most=3)
        under_way = [asyncio.create_task(ingest(library, readings[0]))]
        await has_begun.wait()
        has_begun.clear()
        library.blobs.opened = asyncio.Semaphore(0)
        under_way += [asyncio.create_task(ingest(library, each)) for each in readings[1:]]
        for _ in readings[1:]:
            await library.blobs.opened.acquire()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await (servers.take_back(db) if number % 2 else ingestions.release_all(db))
    crashes = await db.read("SELECT crashes FROM ingestions ORDER BY file_number")
    assert crashes == [(MOST_ATTEMPTS,), (1,), (1,)]
    await reader.aclose()


async def test_an_urgent_file_takes_the_first_place_that_comes_free(db: Database) -> None:
    await claimed(db, count=6)
    await ingestions.release_all(db)
    asked = asyncio.Queue[tuple[bool, asyncio.Future[list[Chunk]]]]()

    async def read(*_: Any, is_urgent: bool, **__: Any) -> list[Chunk]:
        answer: asyncio.Future[list[Chunk]] = asyncio.get_running_loop().create_future()
        asked.put_nowait((is_urgent, answer))
        return await answer

    reader: Any = SimpleNamespace(read=read)
    blobs: Any = Blobs()
    library = Library(db, blobs, reader, None, asyncio.Lock(), Gathering())
    ingesting = Ingesting(library, server="s", most=4)
    claiming = asyncio.create_task(ingesting.run())
    async with asyncio.timeout(20):
        slow = [await asked.get() for _ in range(4)]
        assert [is_urgent for is_urgent, _ in slow] == [False] * 4
        await db.write(Statement(HURRY))
        slow[0][1].set_result(FOUND)
        is_urgent, answer = await asked.get()
    assert is_urgent
    assert asked.empty()
    answer.set_result(FOUND)
    claiming.cancel()
    await asyncio.gather(claiming, return_exceptions=True)
    await ingesting.stop()


async def test_who_is_urgent_has_the_next_turn_and_who_has_gone_has_none() -> None:
    turns, order = Turns(1), list[str]()

    async def wait(name: str, *, is_urgent: bool) -> None:
        async with turns.one(is_urgent=is_urgent):
            order.append(name)

    async with asyncio.TaskGroup() as waiting, turns.one(is_urgent=False):
        waiting.create_task(wait("first", is_urgent=False))
        gone = waiting.create_task(wait("gone", is_urgent=True))
        waiting.create_task(wait("second", is_urgent=False))
        waiting.create_task(wait("urgent", is_urgent=True))
        await asyncio.sleep(0)
        gone.cancel()
    assert order == ["urgent", "first", "second"]


async def test_vectors_leave_postgresql_to_others_between_short_writes(
    postgres_url: str, tmp_path: Path
) -> None:
    db = await open_database(tmp_path, postgres_url)
    await chunk_vectors.check(db)
    readings = await claimed(db, embedder=Fixed.name, count=4)
    watched: Any = Watched(db)

    async def read(*_: Any, **__: Any) -> list[Chunk]:
        return [Chunk(f"text {n}", n, None, "text") for n in range(200)]

    reader: Any = SimpleNamespace(read=read)
    blobs: Any = Blobs()
    library = Library(watched, blobs, reader, Placed(Fixed(), db), asyncio.Lock(), Gathering())
    await asyncio.gather(*(ingest(library, reading) for reading in readings))
    assert await db.read("SELECT status FROM vector_store_files") == [("completed",)] * 4
    assert (watched.most, watched.writes) == (1, 4 * 4)
    await db.close()
