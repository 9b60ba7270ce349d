"""Pages by key: every page of every list is the one that a plain Python list would give."""

import asyncio
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rethread.errors import Invalid, NotFound
from rethread.store import assistants, messages
from rethread.store.database import Database, Statement, open_database
from rethread.store.pages import FORGET, PageRequest
from rethread.store.sqlite import Sqlite
from tests.objects import (
    NOW,
    PROJECT,
    some_id,
    stored_assistant,
    stored_message,
    stored_thread,
)

# The property below opens a database an example; no clock of hypothesis' shall judge that.
PROPERTY: Final = settings(derandomize=True, deadline=None, max_examples=25)


async def page(db: Database, thread_id: str, **asked: object) -> tuple[list[str], bool]:
    """The ids on a page of messages, and whether there are more behind."""
    found = await messages.page(db, PROJECT, thread_id, PageRequest(**asked))  # type: ignore[arg-type]
    return [id for id, _ in found.rows], found.has_more


async def walked(db: Database, thread_id: str, **asked: object) -> list[str]:
    """What a client collects that pages until `has_more` is false."""
    seen, more = await page(db, thread_id, **asked)
    while more:
        following, more = await page(db, thread_id, **{**asked, "after": seen[-1]})
        assert following
        seen += following
    return seen


def expected(
    ids: list[str], order: str, limit: int, after: str | None, before: str | None
) -> tuple[list[str], bool]:
    """The same page of a plain list, which holds the deleted ones under their ids in brackets."""
    listed = ids if order == "asc" else ids[::-1]
    names = [id.strip("()") for id in listed]
    low = names.index(after) + 1 if after else 0
    high = names.index(before) if before else len(listed)
    left = [id for id in listed[low:high] if not id.startswith("(")]
    backwards = before is not None and after is None
    return (left[-limit:] if backwards else left[:limit]), len(left) > limit


@PROPERTY
@given(data=st.data(), count=st.integers(0, 5))
def test_every_page_is_that_of_a_plain_list(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, count: int
) -> None:
    """All cursors, orders and limits, with some of the messages deleted and some added since."""
    asyncio.run(_compare(tmp_path_factory.mktemp("pages"), data, count))


async def _compare(folder: Path, data: st.DataObject, count: int) -> None:
    db = await open_database(folder)
    thread_id = await stored_thread(db)
    ids: list[str] = []
    for _ in range(count):
        ids.append((await stored_message(db, thread_id)).id)
        kept = [id for id in ids if not id.startswith("(")]
        if data.draw(st.booleans()):  # deleted, the newest too, before the next is added
            gone = data.draw(st.sampled_from(kept)) if kept else None
            if gone is not None:
                await messages.delete(db, PROJECT, thread_id, gone, now=NOW)
                ids[ids.index(gone)] = f"({gone})"
    cursors = [None, *(id.strip("()") for id in ids)]
    for order in ("asc", "desc"):
        for limit in range(1, count + 2):
            for after in cursors:
                for before in cursors:
                    got = await page(
                        db, thread_id, order=order, limit=limit, after=after, before=before
                    )
                    assert got == expected(ids, order, limit, after, before)
    await db.close()


async def test_a_walk_sees_each_object_once_while_others_are_added(db: Database) -> None:
    thread_id = await stored_thread(db)
    ids = [(await stored_message(db, thread_id)).id for _ in range(10)]
    seen, more = await page(db, thread_id, order="desc", limit=3)
    while more:
        await stored_message(db, thread_id)
        following, more = await page(db, thread_id, order="desc", limit=3, after=seen[-1])
        seen += following
    assert seen == ids[::-1]


async def test_a_walk_in_order_meets_what_is_added_meanwhile(db: Database) -> None:
    thread_id = await stored_thread(db)
    ids = [(await stored_message(db, thread_id)).id for _ in range(4)]
    seen, _ = await page(db, thread_id, order="asc", limit=3)
    ids.append((await stored_message(db, thread_id)).id)
    assert seen + await walked(db, thread_id, order="asc", limit=1, after=seen[-1]) == ids


async def test_a_client_may_delete_while_it_reads_page_after_page(db: Database) -> None:
    thread_id = await stored_thread(db)
    ids = [(await stored_message(db, thread_id)).id for _ in range(7)]
    seen: list[str] = []
    more = True
    while more:
        after = seen[-1] if seen else None
        following, more = await page(db, thread_id, order="desc", limit=2, after=after)
        seen += following
        for id in following:
            await messages.delete(db, PROJECT, thread_id, id, now=NOW)
    assert seen == ids[::-1]


async def test_whoever_waits_behind_a_deleted_message_meets_the_next_one(db: Database) -> None:
    """The newest messages' numbers are not given again."""
    thread_id = await stored_thread(db)
    ids = [(await stored_message(db, thread_id)).id for _ in range(3)]
    for id in ids[1:]:
        await messages.delete(db, PROJECT, thread_id, id, now=NOW)
    added = await stored_message(db, thread_id)
    assert await page(db, thread_id, order="asc", after=ids[2]) == ([added.id], False)
    assert await page(db, thread_id, order="desc", after=ids[2]) == ([ids[0]], False)


async def test_a_cursor_of_another_list_is_not_found(db: Database) -> None:
    thread_id, other = await stored_thread(db), await stored_thread(db)
    foreign = await stored_message(db, other)
    for cursor in (foreign.id, some_id("msg")):
        with pytest.raises(NotFound, match=f"No message found with id '{cursor}'"):
            await page(db, thread_id, after=cursor)
    with pytest.raises(Invalid, match="Expected an ID that begins with 'msg'"):
        await page(db, thread_id, before=thread_id)


async def test_another_projects_deleted_object_is_no_cursor(db: Database) -> None:
    assistant = await stored_assistant(db)
    await assistants.delete(db, PROJECT, assistant.id, now=NOW)
    assert (await assistants.page(db, PROJECT, PageRequest(after=assistant.id))).rows == []
    with pytest.raises(NotFound):
        await assistants.page(db, "other", PageRequest(after=assistant.id))


async def test_a_tombstone_lasts_for_a_while(db: Database) -> None:
    assistant = await stored_assistant(db)
    await assistants.delete(db, PROJECT, assistant.id, now=NOW)
    await db.write(Statement(FORGET, NOW - 1))
    assert (await assistants.page(db, PROJECT, PageRequest(after=assistant.id))).rows == []
    await db.write(Statement(FORGET, NOW))
    with pytest.raises(NotFound):
        await assistants.page(db, PROJECT, PageRequest(after=assistant.id))


async def test_a_page_deep_inside_is_found_by_its_key(sqlite: Sqlite) -> None:
    plan = await sqlite.read(
        f"EXPLAIN QUERY PLAN {messages.LISTING.select} AND number > $2 AND number < $3 "
        "ORDER BY number DESC LIMIT $4",
        *("thread_a", 1, 2, 3),
    )
    details = " ".join(row[3] for row in plan)
    assert "thread_id=? AND number>? AND number<?" in details
    assert "TEMP B-TREE" not in details
