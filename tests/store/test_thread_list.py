"""Lists of threads, filtered by metadata: what a plain filter finds, whatever happens meanwhile."""

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rethread.contract.threads import CreateThread, ModifyThread, Thread
from rethread.errors import NotFound
from rethread.store import database, threads
from rethread.store.database import FILE_NAME, SCHEMA, Database, open_database
from rethread.store.pages import PageRequest
from rethread.store.sqlite import Sqlite
from tests.objects import NOW, PROJECT, some_id, stored_message

LONG: Final = "x" * 511


async def made(db: Database, *, project: str = PROJECT, **metadata: str) -> str:
    """The id of a new thread with that metadata."""
    thread = Thread.new(CreateThread(metadata=metadata), now=NOW)
    adding = threads.adding(project, thread.id, msgspec.json.encode(thread), now=NOW)
    assert await db.write(adding, *threads.labelling(thread.id, thread.metadata))
    return thread.id


async def changed(db: Database, thread_id: str, metadata: Mapping[str, str]) -> None:
    """Have its metadata replaced."""
    old = await threads.get(db, PROJECT, thread_id)
    asked = ModifyThread(metadata=dict(metadata))
    new = msgspec.json.encode(msgspec.json.decode(old, type=Thread).modified(asked))
    labelling = threads.labelling(thread_id, metadata, anew=True)
    await threads.replace(db, PROJECT, thread_id, old=old, new=new, also=labelling)


async def listed(
    db: Database, metadata: Mapping[str, str] | None = None, *, project: str = PROJECT, **asked: Any
) -> tuple[list[str], bool]:
    """The ids on a page, and whether there are more behind."""
    found = await threads.page(db, project, PageRequest(**asked), metadata=metadata)
    assert all(msgspec.json.decode(body, type=Thread).id == id for id, body in found.rows)
    return [id for id, _ in found.rows], found.has_more


async def test_a_project_lists_its_own_threads_the_newest_first(db: Database) -> None:
    ids = [await made(db, user="7") for _ in range(5)]
    foreign = await made(db, project="other", user="7")
    assert await listed(db) == (ids[::-1], False)
    assert await listed(db, {"user": "7"}) == (ids[::-1], False)
    assert await listed(db, project="other") == ([foreign], False)
    assert await listed(db, {"user": "7"}, project="other") == ([foreign], False)
    assert await listed(db, {"user": "7"}, limit=2, after=ids[3]) == ([ids[2], ids[1]], True)
    assert await listed(db, order="asc", limit=2, before=ids[4]) == (ids[2:4], True)
    with pytest.raises(NotFound, match=f"No thread found with id '{foreign}'"):
        await listed(db, after=foreign)


async def test_all_pairs_have_to_match_and_as_a_whole(db: Database) -> None:
    one = await made(db, user="7", room="1")
    both = await made(db, user="7", room="2", other="7")
    await made(db, room="7")
    assert await listed(db, {"user": "7"}) == ([both, one], False)
    assert await listed(db, {"user": "7", "room": "2"}) == ([both], False)
    assert await listed(db, {"room": "1", "user": "7", "other": "7"}) == ([], False)
    assert await listed(db, {"User": "7"}) == ([], False)
    assert await listed(db, {"user": ""}) == ([], False)
    assert await listed(db, {"user": "70"}) == ([], False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("k", ""),
        ("", "v"),
        ("k" * 64, LONG),
        ("🔑" * 64, "🗝" * 512),
        ("a]b[c%'\"\\", "';--"),
        ("NUL\0", "\0"),
        ("é", "e\u0301"),
    ],
)
async def test_any_metadata_can_be_asked_for(db: Database, key: str, value: str) -> None:
    other = await made(db, **{key: f"{value[:510]}."})
    thread_id = await made(db, **{key: value})
    assert await listed(db, {key: value}) == ([thread_id], False)
    assert await listed(db, {key: f"{value[:510]}."}) == ([other], False)


async def test_values_that_begin_alike_are_told_apart(db: Database) -> None:
    ids = {end: await made(db, k=LONG + end) for end in "abc"}
    for end, id in ids.items():
        assert await listed(db, {"k": LONG + end}) == ([id], False)


async def test_a_change_of_metadata_moves_a_thread_from_list_to_list(db: Database) -> None:
    ids = [await made(db, state="open") for _ in range(3)]
    await changed(db, ids[1], {"state": "closed", "by": "me"})
    assert await listed(db, {"state": "open"}) == ([ids[2], ids[0]], False)
    assert await listed(db, {"state": "closed", "by": "me"}) == ([ids[1]], False)
    await changed(db, ids[1], {})
    assert await listed(db, {"state": "closed"}) == ([], False)


async def test_a_cursor_stays_where_it_was_when_its_thread_changes_or_goes(db: Database) -> None:
    """As when a client closes or deletes what it reads, page after page."""
    ids = [await made(db, state="open") for _ in range(7)]
    seen: list[str] = []
    more = True
    while more:
        after = {"after": seen[-1]} if seen else {}
        page, more = await listed(db, {"state": "open"}, limit=2, **after)
        for place, id in enumerate(page):
            if place % 2:
                await threads.delete(db, PROJECT, id)
            else:
                await changed(db, id, {"state": "closed"})
        await made(db, state="open")
        seen += page
    assert seen == ids[::-1]
    with pytest.raises(NotFound):
        await listed(db, project="other", after=seen[1])


async def test_a_deleted_thread_leaves_none_of_its_metadata(db: Database) -> None:
    thread_id = await made(db, a="1", b="2")
    await stored_message(db, thread_id)
    await threads.delete(db, PROJECT, thread_id)
    assert await listed(db, {"a": "1"}) == ([], False)
    assert await db.read("SELECT 1 FROM thread_metadata") == []


async def test_a_page_deep_inside_is_found_by_its_key(sqlite: Sqlite) -> None:
    for select, arguments in (
        (threads.LISTING.select, (PROJECT,)),
        (threads._labelled(1), (PROJECT, "k", "v")),
        (threads._labelled(3), (PROJECT, "k", "v", "k2", "v2", "k3", "v3")),
    ):
        places = [f"${len(arguments) + n}" for n in (1, 2, 3)]
        plan = await sqlite.read(
            f"EXPLAIN QUERY PLAN {select} AND number > {places[0]} AND number < {places[1]} "
            f"ORDER BY number DESC LIMIT {places[2]}",
            *(*arguments, 1, 2, 3),
        )
        details = " ".join(row[3] for row in plan)
        assert "number>? AND number<?" in details
        assert "TEMP B-TREE" not in details
        assert "SCAN" not in details.replace("SCALAR", "")


PAIRS: Final = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)


@given(made_with=st.lists(PAIRS, max_size=8), asked=st.lists(PAIRS, min_size=4, max_size=4))
@settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_list_is_what_a_plain_filter_gives(
    tmp_path: Path,
    database_url: str | None,
    made_with: list[dict[str, str]],
    asked: list[dict[str, str]],
) -> None:
    asyncio.run(_compare(tmp_path / "data", database_url, made_with, asked))


async def _compare(
    folder: Path, url: str | None, made_with: list[dict[str, str]], asked: list[dict[str, str]]
) -> None:
    db = await open_database(folder, url)
    project = some_id()  # the examples share a database
    ids = {await made(db, project=project, **pairs): pairs for pairs in made_with}
    for wanted in asked:
        expected = [id for id, pairs in ids.items() if pairs.items() >= wanted.items()]
        assert await listed(db, wanted, project=project, order="asc") == (expected, False)
    await db.close()


async def test_threads_and_messages_from_before_are_listed_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of the version that had neither is brought up to date."""
    older = tmp_path / "schema"
    older.mkdir()
    for path in SCHEMA.glob("0001*.sql"):
        (older / path.name).write_text(path.read_text("utf-8"))
    with monkeypatch.context() as before:
        before.setattr(database, "SCHEMA", older)
        await (await open_database(tmp_path / "data")).close()
    file = sqlite3.connect(tmp_path / "data" / FILE_NAME)
    ids = []
    for metadata in ({}, {"user": "7", "k": LONG}, {"user": "é\n\"'"}, None):
        thread = msgspec.json.encode({"id": some_id(), "metadata": metadata})
        ids.append(msgspec.json.decode(thread)["id"])
        file.execute(
            "INSERT INTO threads (id, project, created_at, body) VALUES (?, ?, ?, ?)",
            (ids[-1], PROJECT, NOW, thread),
        )
        file.execute(
            "INSERT INTO messages (thread_id, number, id, created_at, body) VALUES (?, 1, ?, ?, ?)",
            (ids[-1], f"msg_{ids[-1]}", NOW, b"{}"),
        )
    file.commit()
    file.close()
    db = await open_database(tmp_path / "data")
    found = [
        [row[0] for row in (await threads.page(db, PROJECT, PageRequest(), metadata=pairs)).rows]
        for pairs in ({"user": "7", "k": LONG}, {"user": "é\n\"'"}, {"user": "8"})
    ]
    assert found == [[ids[1]], [ids[2]], []]
    queued = await db.read("SELECT thread_id, message_id FROM unindexed_messages ORDER BY number")
    assert {tuple(row) for row in queued} == {(id, f"msg_{id}") for id in ids}
    await db.close()
