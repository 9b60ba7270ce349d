"""Threads: gone at once with all that hangs on them, cleaned away bit by bit."""

import asyncio

import msgspec
import pytest

from rethread.contract.steps import ToolCallsDetails
from rethread.errors import NotFound, Raced
from rethread.runs.lifecycle import new_step
from rethread.store import leases, messages, runs, steps, threads
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog, Record
from rethread.store.pages import PageRequest
from tests.objects import (
    PROJECT,
    a_run,
    claimed,
    some_id,
    stored_message,
    stored_run,
    stored_thread,
)

TABLES = ("messages", "steps", "events", "runs", "work", "purges", "threads")


async def counts(db: Database) -> dict[str, int]:
    return {table: (await db.read(f"SELECT COUNT(*) FROM {table}"))[0][0] for table in TABLES}


async def test_a_thread_belongs_to_its_project(db: Database) -> None:
    thread_id = await stored_thread(db)
    body = await threads.get(db, PROJECT, thread_id)
    for project, id in (("other", thread_id), (PROJECT, some_id())):
        with pytest.raises(NotFound, match=f"No thread found with id '{id}'"):
            await threads.get(db, project, id)
        with pytest.raises(NotFound):
            await threads.delete(db, project, id)
    with pytest.raises(Raced):
        await threads.replace(db, "other", thread_id, old=body, new=b"{}")
    assert await threads.get(db, PROJECT, thread_id) == body


async def test_of_two_who_modify_at_once_one_is_told(db: Database) -> None:
    thread_id = await stored_thread(db)
    old = await threads.get(db, PROJECT, thread_id)
    results = await asyncio.gather(
        *(threads.replace(db, PROJECT, thread_id, old=old, new=n) for n in (b"1", b"2")),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result] == [Raced]


async def test_a_deleted_thread_is_gone_at_once_with_all_that_hangs_on_it(db: Database) -> None:
    started = await stored_run(db)
    thread_id, run_id = started.run.thread_id, started.run.id
    assert await threads.delete(db, PROJECT, thread_id) == run_id
    for call in (
        threads.get(db, PROJECT, thread_id),
        runs.get(db, PROJECT, thread_id, run_id),
        runs.page(db, PROJECT, thread_id, PageRequest()),
        messages.page(db, PROJECT, thread_id, PageRequest()),
        threads.delete(db, PROJECT, thread_id),
    ):
        with pytest.raises(NotFound, match="No thread found"):
            await call
    assert await runs.to_drive(db, thread_id, run_id) is None
    assert await leases.claim(db) is None


async def test_the_driver_of_a_deleted_threads_run_can_write_nothing_more(db: Database) -> None:
    log = EventLog(db)
    started = await stored_run(db, log)
    lease = await claimed(db)
    await threads.delete(db, PROJECT, started.run.thread_id)
    record = Record(3, 3, b"id: 3\nevent: x\ndata: {}\n\n")
    moved = runs.replacing(started.run, old=started.body, new=b"{}")
    assert not await log.append(*lease[:2], record, fence=lease.fence)
    assert not await log.append(*lease[:2], record, moved)


async def test_purging_takes_all_of_a_deleted_thread_and_nothing_else(db: Database) -> None:
    kept = await stored_run(db)
    before = await counts(db)
    thread_id = await stored_thread(db)
    for _ in range(5):
        await stored_message(db, thread_id)
    await db.write(
        Statement(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 1300) "
            "INSERT INTO messages (thread_id, number, id, created_at, body) "
            "SELECT $1, i, 'msg_' || i, 0, '{}' FROM n",
            thread_id,
        )
    )
    run = a_run(thread_id)
    step = new_step(run, ToolCallsDetails(), now=0)
    await db.write(steps.adding(step, msgspec.json.encode(step)))
    await stored_run(db, thread_id=thread_id)
    await threads.delete(db, PROJECT, thread_id)
    rounds = 0
    while await threads.purge_some(db):
        rounds += 1
    assert 3 <= rounds <= 6  # in small writes
    after = await counts(db)
    assert after == before
    assert await runs.get(db, PROJECT, kept.run.thread_id, kept.run.id) == kept.body


async def test_with_nothing_deleted_there_is_nothing_to_purge(db: Database) -> None:
    await stored_run(db)
    assert not await threads.purge_some(db)
