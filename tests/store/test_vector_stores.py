"""Vector stores at rest: what is in one is counted, and what goes leaves nothing behind."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from rethread.contract.vector_stores import (
    AUTO,
    MAX_FILES_A_STORE,
    ChunkSizes,
    FileBatch,
    FileCounts,
    FileToAdd,
    ReadingError,
    StoreBody,
)
from rethread.errors import Conflict, NoSuchFile, NotFound, NotInStore
from rethread.store import (
    chunks,
    file_batches,
    ingestions,
    purged_stores,
    servers,
    vector_store_files,
    vector_stores,
)
from rethread.store.chunks import IndexedChunk
from rethread.store.database import Database, Statement, open_database
from rethread.store.files import StoredFile
from rethread.store.ingestions import Reading
from rethread.store.pages import PageRequest
from rethread.store.servers import Server
from rethread.store.vector_store_files import Group
from rethread.tools.file_search.stores import adding_files

PROJECT: Final = "p"
NOW: Final = 1_000_000
DAY: Final = 24 * 60 * 60
SMALL: Final = ChunkSizes(max_chunk_size_tokens=100, chunk_overlap_tokens=0)
ADD_FILE: Final = """
INSERT INTO files (id, project, purpose, blob_id, body) VALUES ($1, 'p', 'assistants', 'b', $2)
"""

WAITS: Final = """
SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


async def new_files(db: Database, *names: str) -> list[StoredFile]:
    ids = [f"file-{name}" for name in names]
    await db.write(*(Statement(ADD_FILE, id, b"{}") for id in ids))
    return [StoredFile(id, f"{id}.txt", 1, "assistants", "b", b"{}") for id in ids]


async def new_store(db: Database, id: str = "vs_a", *, days: int | None = None) -> str:
    stored = vector_stores.new(PROJECT, id, StoreBody(), days=days, embedder="", now=NOW)
    assert await db.write(vector_stores.adding(stored))
    return id


async def add(
    db: Database,
    store_id: str,
    files: Sequence[StoredFile],
    *,
    sizes: ChunkSizes = AUTO,
    batch_id: str | None = None,
    now: int = NOW,
    **attributes: Any,
) -> bool:
    group = Group(files, sizes, {file.id: attributes for file in files})
    statements = vector_store_files.taking_in(store_id, [group], now=now)
    statements += vector_store_files.adding(store_id, group, now=now)
    if batch_id:
        batch = FileBatch(
            id=batch_id,
            created_at=NOW,
            vector_store_id=store_id,
            status="in_progress",
            file_counts=FileCounts(),
        )
        statements += file_batches.adding(batch, [file.id for file in files])
    return bool(await db.write(*statements))


async def counts(db: Database, store_id: str) -> dict[str, int]:
    contents = await vector_stores.contents_of(db, [store_id])
    told = contents.get(store_id, vector_stores.Content()).counts
    names = ("in_progress", "completed", "failed", "cancelled", "total")
    return {name: getattr(told, name) for name in names if getattr(told, name)}


async def read(db: Database, reading: Reading, *texts: str, store_id: str = "vs_a") -> bool:
    """Bring a claimed file to its end with these chunks."""
    some = [IndexedChunk(text, 0, None, text, None) for text in texts]
    also = chunks.adding(db, store_id, reading.file_number, 0, some)
    return await ingestions.complete(db, reading, usage_bytes=sum(map(len, texts)), also=also)


async def rows_left(db: Database) -> dict[str, int]:
    tables = (
        "vector_store_files",
        "file_attributes",
        "file_batches",
        "batched_files",
        "ingestions",
        "chunks",
        "indexed_files",
        "purged_stores",
        "purged_files",
    )
    left = {name: (await db.read(f"SELECT COUNT(*) FROM {name}"))[0][0] for name in tables}
    return {name: count for name, count in left.items() if count}


async def clean_away(db: Database) -> None:
    while await purged_stores.purge_some(db) or await chunks.forget_some(db):
        pass


async def test_what_a_store_shows_is_what_its_files_are(db: Database) -> None:
    store_id = await new_store(db, days=2)
    files = await new_files(db, "1", "2", "3", "4")
    assert await add(db, store_id, files, batch_id="vsfb_1", now=NOW + 5)
    first, second, third = await ingestions.claim(db, server="s", most=3)
    assert await read(db, first, "some", "text")
    assert await ingestions.fail(db, second, ReadingError("invalid_file", "Broken."))
    assert await read(db, third, "more")

    stored = await vector_stores.get(db, PROJECT, store_id)
    shown = await vector_stores.shown(db, stored, now=NOW + 6)
    assert shown.file_counts == FileCounts(in_progress=1, completed=2, failed=1, total=4)
    assert (shown.status, shown.usage_bytes) == ("in_progress", 12)
    assert (shown.last_active_at, shown.expires_at) == (NOW + 5, NOW + 5 + 2 * DAY)
    failed = await vector_store_files.get(db, PROJECT, store_id, "file-2")
    assert failed.shown.last_error == ReadingError("invalid_file", "Broken.")
    await file_batches.cancel(db, "vsfb_1")
    batch = await file_batches.get(db, PROJECT, store_id, "vsfb_1")
    assert batch.file_counts == FileCounts(completed=2, failed=1, cancelled=1, total=4)
    assert batch.status == "cancelled"
    assert await ingestions.claim(db, server="s", most=3) == []
    assert (await vector_stores.shown(db, stored, now=NOW)).status == "completed"


async def test_a_file_that_is_added_again_is_read_again_only_for_another_text(
    db: Database,
) -> None:
    store_id = await new_store(db)
    [file] = await new_files(db, "1")
    await add(db, store_id, [file], batch_id="vsfb_1", colour="red", wide=True)
    [reading] = await ingestions.claim(db, server="s", most=9)
    await add(db, store_id, [file], batch_id="vsfb_2", colour="blue")
    assert await read(db, reading, "text")  # it was not begun anew
    for batch_id in ("vsfb_1", "vsfb_2"):
        batch = await file_batches.get(db, PROJECT, store_id, batch_id)
        assert batch.file_counts == FileCounts(completed=1, total=1)
    stored = await vector_store_files.get(db, PROJECT, store_id, file.id)
    assert stored.shown.attributes == {"colour": "blue"}
    assert await db.read("SELECT key, text_value FROM file_attributes") == [("colour", "blue")]

    await add(db, store_id, [file], sizes=SMALL)
    assert await counts(db, store_id) == {"in_progress": 1, "total": 1}
    [again] = await ingestions.claim(db, server="s", most=9)
    await clean_away(db)
    assert await read(db, again, "te", "xt")
    assert [text for _, text in await chunks.texts(db, again.file_number)] == ["te", "xt"]
    assert await chunks.texts(db, reading.file_number) == []


async def test_a_reader_that_was_replaced_or_is_not_wanted_adds_nothing(db: Database) -> None:
    store_id = await new_store(db)
    await add(db, store_id, await new_files(db, "1", "2", "3", "4"))
    first, second, third, fourth = await ingestions.claim(db, server="s", most=4)
    await ingestions.release(db, first)
    [again] = await ingestions.claim(db, server="t", most=4)
    assert again == Reading(first.file_number, first.fence + 1)
    assert not await read(db, first, "late")
    assert not await db.write(ingestions.holding(first))
    assert await read(db, again, "in time")

    stored = await vector_store_files.get(db, PROJECT, store_id, "file-2")
    await vector_store_files.remove(db, stored, now=NOW)
    await db.write(*vector_store_files.forgetting_file("file-3", now=NOW))
    assert not await read(db, second, "late")
    assert not await ingestions.fail(db, third, ReadingError("invalid_file", "Late."))
    await vector_stores.delete(db, PROJECT, store_id, now=NOW)
    assert not await read(db, fourth, "late")
    assert await ingestions.wanted(db, [fourth]) == {}
    await clean_away(db)
    assert await rows_left(db) == {}


async def test_nothing_is_left_of_a_store_that_was_deleted(db: Database) -> None:
    store_id = await new_store(db)
    other = await new_store(db, "vs_b")
    files = await new_files(db, *map(str, range(210)))
    assert await add(db, store_id, files, batch_id="vsfb_1", colour="red", size=1.5)
    assert await add(db, other, files[:1], batch_id="vsfb_2", colour="red")
    for reading in await ingestions.claim(db, server="s", most=100):
        assert await read(db, reading, "text")
    await vector_stores.delete(db, PROJECT, store_id, now=NOW)
    with pytest.raises(NotFound, match="No vector store found with id 'vs_a'"):
        await vector_store_files.get(db, PROJECT, store_id, files[0].id)
    await clean_away(db)
    left = dict.fromkeys(("vector_store_files", "file_attributes", "file_batches"), 1)
    assert await rows_left(db) == {**left, "batched_files": 1, "ingestions": 1}


async def test_servers_that_clean_one_store_away_at_once_forget_no_file(
    postgres_url: str, tmp_path: Path
) -> None:
    together = [await open_database(tmp_path, postgres_url) for _ in range(3)]
    fill = (
        "INSERT INTO vector_store_files (store_id, file_id, status, created_at, filename, "
        "max_chunk_tokens, overlap_tokens, attributes) SELECT CAST($1 AS TEXT), number, "
        "'completed', 1, '', 800, 400, CAST($2 AS BYTEA) FROM generate_series(1, 5000) AS number"
    )
    await together[0].write(
        Statement(fill, "vs_a", b"{}"),
        Statement("INSERT INTO purged_stores (store_id) VALUES ('vs_a')"),
    )

    async def clean_away(server: Database) -> None:
        while await purged_stores.purge_some(server):
            pass

    await asyncio.gather(*(clean_away(server) for server in together))
    assert await rows_left(together[0]) == {"purged_files": 5000}
    for server in together:
        await server.close()


async def test_a_store_takes_10000_files_and_says_so(db: Database) -> None:
    store_id = await new_store(db)
    fill = "".join(f"({n})," for n in range(100)).rstrip(",")
    await db.write(
        Statement(
            "INSERT INTO vector_store_files (store_id, file_id, status, created_at, filename, "
            "max_chunk_tokens, overlap_tokens, attributes) SELECT CAST($1 AS TEXT), "
            "'file-x' || CAST(a.n * 100 + b.n AS TEXT), 'completed', 1, '', 800, 400, "
            f"CAST($2 AS {{bytes}}) FROM (SELECT column1 AS n FROM (VALUES {fill}) AS t) AS a, "
            f"(SELECT column1 AS n FROM (VALUES {fill}) AS t) AS b "
            f"WHERE a.n * 100 + b.n < {MAX_FILES_A_STORE - 1}",
            store_id,
            b"{}",
        )
    )
    one, other = await new_files(db, "1", "2")
    assert not await add(db, store_id, [one, other])
    problem = await vector_store_files.refusal(db, PROJECT, store_id, adding=2, now=NOW)
    assert isinstance(problem, Conflict)
    assert "has 9999 files: with 2 more it would have more than 10000" in str(problem)
    assert await add(db, store_id, [one])
    assert await add(db, store_id, [one])
    assert not await add(db, store_id, [other])


async def test_a_store_whose_time_is_over_stays_so_and_keeps_the_names_of_its_files(
    db: Database,
) -> None:
    store_id = await new_store(db, days=1)
    files = await new_files(db, "1", "2")
    await add(db, store_id, files)
    first, _ = await ingestions.claim(db, server="s", most=2)
    await read(db, first, "text")
    over = NOW + DAY
    await db.write(vector_stores.touching(store_id, over))
    assert not await add(db, store_id, files, now=over)
    with pytest.raises(Conflict, match="Vector store 'vs_a' has expired"):
        await vector_stores.usable(db, PROJECT, store_id, now=over)

    assert await vector_stores.empty_expired(db)
    assert not await vector_stores.empty_expired(db)
    await clean_away(db)
    assert await rows_left(db) == {"vector_store_files": 2}
    stored = await vector_stores.get(db, PROJECT, store_id)
    shown = await vector_stores.shown(db, stored, now=over)
    assert (shown.status, shown.usage_bytes) == ("expired", 0)
    assert shown.file_counts == FileCounts(completed=1, cancelled=1, total=2)
    page = await vector_store_files.page(db, store_id, PageRequest())
    assert [id for id, _ in page.rows] == ["file-2", "file-1"]


async def test_a_file_that_was_deleted_meanwhile_is_not_added(db: Database) -> None:
    store_id = await new_store(db)
    [file] = await new_files(db, "1")
    await db.write(Statement("DELETE FROM files WHERE id = $1", file.id))
    assert await add(db, store_id, [file])
    assert await counts(db, store_id) == {}


async def test_a_file_that_another_server_is_deleting_is_not_added(
    postgres_url: str, tmp_path: Path
) -> None:
    here, there = [await open_database(tmp_path, postgres_url) for _ in range(2)]
    store_id = await new_store(here)
    [file] = await new_files(here, "1")
    deleting = await asyncpg.connect(postgres_url)
    async with deleting.transaction():
        # As it is once it has looked in all stores, and before its commit.
        await deleting.execute("DELETE FROM files WHERE id = $1", file.id)
        adding = asyncio.create_task(add(there, store_id, [file]))
        while not adding.done() and not await here.read(WAITS):
            pass
    await adding
    assert await counts(here, store_id) == {}
    await deleting.close()
    await here.close()
    await there.close()


async def test_a_file_that_another_server_is_adding_is_cancelled_with_its_reading(
    postgres_url: str, tmp_path: Path
) -> None:
    here = await open_database(tmp_path, postgres_url)
    store_id = await new_store(here)
    await add(here, store_id, await new_files(here, "1", "2"), batch_id="vsfb_1")
    await ingestions.claim(here, server="s", most=9)
    adding = await asyncpg.connect(postgres_url)
    async with adding.transaction():
        # As it is for one who adds a file again, before its commit.
        await adding.execute("SELECT id FROM vector_stores WHERE id = $1 FOR UPDATE", store_id)
        await adding.execute("UPDATE ingestions SET claimed = 0")
        await adding.execute("UPDATE vector_store_files SET number = number + 10")
        await adding.execute("UPDATE ingestions SET file_number = file_number + 10")
        cancelling = asyncio.create_task(file_batches.cancel(here, "vsfb_1"))
        while not cancelling.done() and not await here.read(WAITS):
            pass
    await cancelling
    assert await counts(here, store_id) == {"cancelled": 2, "total": 2}
    assert (await rows_left(here)).get("ingestions") is None
    await adding.close()
    await here.close()


async def test_what_was_read_of_a_file_goes_with_its_reading_if_nobody_wants_it(
    db: Database,
) -> None:
    store_id = await new_store(db)
    await add(db, store_id, await new_files(db, "1", "2"))
    unwanted, wanted = await ingestions.claim(db, server="s", most=2)
    text = [IndexedChunk("text", 0, None, "text", None)]
    for reading in (unwanted, wanted):
        also = chunks.adding(db, store_id, reading.file_number, 0, text)
        assert await db.write(ingestions.holding(reading), *also)
    cancelling = "UPDATE vector_store_files SET status = 'cancelled' WHERE number = $1"
    await db.write(Statement(cancelling, unwanted.file_number))
    for reading in (unwanted, wanted):
        await ingestions.drop(db, reading)
    await clean_away(db)
    assert await chunks.texts(db, unwanted.file_number) == []
    assert await chunks.texts(db, wanted.file_number) == [(0, "text")]


async def test_who_waits_for_a_file_is_told_when_it_is_deleted(db: Database) -> None:
    store_id = await new_store(db)
    [file] = await new_files(db, "1")
    await add(db, store_id, [file])
    with db.listen(vector_store_files.ingested_topic(store_id)) as wakeup:
        await vector_store_files.delete_file(db, PROJECT, file.id, now=NOW)
        assert await wakeup.wait(timeout_seconds=10)
    assert await vector_store_files.unfinished(db, [store_id]) == 0


async def test_a_cursor_goes_on_behind_a_file_that_has_gone_twice(db: Database) -> None:
    store_id = await new_store(db)
    files = await new_files(db, "1", "2", "3")
    for _ in range(2):
        await add(db, store_id, files)
        stored = await vector_store_files.get(db, PROJECT, store_id, "file-2")
        await vector_store_files.remove(db, stored, now=NOW)
    with pytest.raises(NotInStore, match="No file found with id 'file-2' in vector store 'vs_a'"):
        await vector_store_files.get(db, PROJECT, store_id, "file-2")
    behind = PageRequest(order="asc", after="file-2")
    await add(db, store_id, files[1:2])
    await db.write(*vector_store_files.forgetting_file("file-2", now=NOW))
    assert (await vector_store_files.page(db, store_id, behind)).rows == []


async def test_a_project_has_its_own_stores_and_files_alone(db: Database) -> None:
    store_id = await new_store(db)
    [file] = await new_files(db, "1")
    await add(db, store_id, [file], batch_id="vsfb_1")
    for looking in (
        vector_stores.get(db, "other", store_id),
        vector_store_files.get(db, "other", store_id, file.id),
        file_batches.get(db, "other", store_id, "vsfb_1"),
        vector_stores.delete(db, "other", store_id, now=NOW),
    ):
        with pytest.raises(NotFound, match="No vector store found with id 'vs_a'"):
            await looking
    assert (await vector_stores.page(db, "other", PageRequest(), now=NOW)).rows == []
    with pytest.raises(NoSuchFile, match="No such File object: file-1"):
        await adding_files(db, "other", store_id, [FileToAdd(file_id=file.id)], now=NOW)


async def test_the_files_of_a_dead_server_are_read_by_another(db: Database) -> None:
    store_id = await new_store(db)
    await add(db, store_id, await new_files(db, "1", "2", "3"))
    alive, dead = Server("server_a", "here"), Server("server_b", "there")
    await servers.beat(db, alive)
    await servers.beat(db, dead)
    [kept] = await ingestions.claim(db, server=alive.id, most=1)
    lost = await ingestions.claim(db, server=dead.id, most=2)
    assert await servers.take_back(db) == (0, 0)
    await db.write(Statement("UPDATE servers SET seen_at = 0 WHERE id = $1", dead.id))
    assert await servers.take_back(db) == (0, 2)
    again = await ingestions.claim(db, server=alive.id, most=9)
    assert again == [Reading(each.file_number, 2, crashes=1) for each in lost]
    await servers.leave(db, alive)
    assert len(await ingestions.claim(db, server="server_c", most=9)) == 3
    assert not await read(db, kept, "late")
