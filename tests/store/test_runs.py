"""Runs at rest: one active run a thread, and of two who move a run at once one is refused."""

import asyncio

import msgspec
import pytest

from rethread.contract.runs import Run
from rethread.errors import NotFound, Raced, ThreadLocked
from rethread.runs.lifecycle import move
from rethread.store import runs
from rethread.store.database import Database, Statement
from rethread.store.pages import PageRequest
from tests.objects import (
    NOW,
    PROJECT,
    a_run,
    claimed,
    some_id,
    stored_assistant,
    stored_message,
    stored_run,
    stored_thread,
)


async def ended(db: Database, run: Run, body: bytes) -> bytes:
    """The body of the run, failed and its thread free."""
    failed = move(run, "failed", now=NOW)
    new = msgspec.json.encode(failed)
    replacing = runs.replacing(failed, old=body, new=new, rested_at=NOW)
    assert await db.write(replacing, runs.freeing_thread(run.thread_id, run.id))
    return new


async def test_a_thread_has_one_active_run(db: Database) -> None:
    first = await stored_run(db)
    thread_id = first.run.thread_id
    with pytest.raises(ThreadLocked) as refused:
        await stored_run(db, thread_id=thread_id)
    assert str(refused.value) == f"Thread {thread_id} already has an active run {first.run.id}."
    await ended(db, first.run, first.body)
    second = await stored_run(db, thread_id=thread_id)
    found = await runs.page(db, PROJECT, thread_id, PageRequest())
    assert [id for id, _ in found.rows] == [second.run.id, first.run.id]


async def test_of_many_runs_created_at_once_one_is(db: Database) -> None:
    thread_id = await stored_thread(db)
    await stored_message(db, thread_id)
    assistant = await stored_assistant(db)
    results = await asyncio.gather(
        *(stored_run(db, thread_id=thread_id, assistant=assistant) for _ in range(10)),
        return_exceptions=True,
    )
    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert sum(isinstance(result, ThreadLocked) for result in results) == 9
    for table in ("runs", "work"):
        assert await db.read(f"SELECT COUNT(*) FROM {table}") == [(1,)]


async def test_freeing_a_thread_that_another_run_holds_does_nothing(db: Database) -> None:
    started = await stored_run(db)
    await db.write(runs.freeing_thread(started.run.thread_id, some_id("run")))
    with pytest.raises(ThreadLocked):
        await stored_message(db, started.run.thread_id)


async def test_of_two_who_move_a_run_at_once_one_is_refused(db: Database) -> None:
    started = await stored_run(db)
    run = started.run
    moved = [move(run, to, now=NOW) for to in ("in_progress", "cancelling")]
    results = await asyncio.gather(
        *(
            db.write(runs.replacing(to, old=started.body, new=msgspec.json.encode(to)))
            for to in moved
        )
    )
    assert sorted(map(len, results)) == [0, 1]
    body = await runs.get(db, PROJECT, run.thread_id, run.id)
    status = await db.read("SELECT status FROM runs WHERE id = $1", run.id)
    assert status == [(msgspec.json.decode(body, type=Run).status,)]


async def test_of_two_who_modify_a_run_one_has_to_do_it_again(db: Database) -> None:
    started = await stored_run(db)
    run = started.run
    await runs.modify(db, run, old=started.body, new=b'{"metadata":{}}')
    with pytest.raises(Raced, match=f"Run '{run.id}' was modified at the same time"):
        await runs.modify(db, run, old=started.body, new=b"{}")


async def test_a_modified_run_rests_since_when_it_did(db: Database) -> None:
    started = await stored_run(db)
    run = move(move(started.run, "in_progress", now=NOW), "expired", now=NOW)
    expired = msgspec.json.encode(run)
    await db.write(runs.replacing(run, old=started.body, new=expired, rested_at=NOW + 5))
    await runs.modify(db, run, old=expired, new=b"{}")
    rested = await db.read("SELECT rested_at FROM runs WHERE id = $1", run.id)
    assert rested == [(NOW + 5,)]


async def test_whoever_drives_a_run_gets_its_additional_instructions(db: Database) -> None:
    started = await stored_run(db, additional_instructions="In rhymes, ß.")
    stored = await runs.to_drive(db, started.run.thread_id, started.run.id)
    assert stored is not None
    assert stored.body == started.body
    assert stored.additional_instructions == "In rhymes, ß."
    assert stored.last_event == 2  # created, queued
    assert "rhymes" not in started.body.decode()


async def test_a_run_belongs_to_its_thread_and_its_project(db: Database) -> None:
    started = await stored_run(db)
    thread_id, run_id = started.run.thread_id, started.run.id
    other = await stored_thread(db)
    with pytest.raises(NotFound, match="No run found"):
        await runs.get(db, PROJECT, other, run_id)
    with pytest.raises(NotFound, match="No thread found"):
        await runs.get(db, "other", thread_id, run_id)
    assert isinstance(await runs.refusal(db, "other", thread_id), NotFound)
    assert isinstance(await runs.refusal(db, PROJECT, other), Raced)


async def test_runs_past_their_time_are_found_where_nobody_drives_them(db: Database) -> None:
    driven = await stored_run(db, now=NOW)
    assert (await claimed(db)).run_id == driven.run.id
    waiting, left = await stored_run(db, now=NOW), await stored_run(db, now=NOW)
    await stored_run(db, now=NOW + 1)  # not yet
    finished = await stored_run(db, now=NOW)
    await ended(db, finished.run, finished.body)
    for begun in (driven, left):
        driving = move(begun.run, "in_progress", now=NOW)
        assert await db.write(runs.replacing(driving, old=begun.body, new=b"{}"))
    assert await runs.overdue(db, now=NOW + 599) == []
    expected = {(each.run.thread_id, each.run.id) for each in (waiting, left)}
    assert set(await runs.overdue(db, now=NOW + 600)) == expected


async def test_a_refused_run_leaves_nothing(db: Database) -> None:
    thread_id = await stored_thread(db)
    run = a_run(thread_id)
    refusing = Statement("DELETE FROM threads WHERE id = 'nowhere' RETURNING id")
    statements = [
        runs.taking_thread(PROJECT, thread_id, run.id),
        runs.adding(PROJECT, run, b"{}", expires_at=NOW),
        refusing,
    ]
    with pytest.raises(Raced):
        await runs.create(db, PROJECT, run, statements)
    await stored_message(db, thread_id)
    assert await db.read("SELECT 1 FROM runs") == []
