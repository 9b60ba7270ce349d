"""Run steps at rest: in their run's order, and in the thread where their tools were called."""

import msgspec
import pytest

from rethread.contract.runs import Run
from rethread.contract.steps import (
    MessageCreation,
    MessageCreationDetails,
    Step,
    StepDetails,
    ToolCallsDetails,
)
from rethread.errors import NotFound
from rethread.runs.lifecycle import end_step, new_step
from rethread.store import messages, runs, steps
from rethread.store.database import Database
from rethread.store.pages import PageRequest
from tests.objects import (
    NOW,
    PROJECT,
    a_message,
    a_run,
    stored_message,
    stored_run,
    stored_thread,
)


async def stored_step(db: Database, run: Run, details: StepDetails) -> Step:
    step = new_step(run, details, now=NOW)
    await db.write(steps.adding(step, msgspec.json.encode(step)))
    return step


def writing() -> MessageCreationDetails:
    return MessageCreationDetails(MessageCreation("msg_a"))


async def test_steps_are_listed_in_the_order_in_which_they_were_taken(db: Database) -> None:
    thread_id = await stored_thread(db)
    run, other = a_run(thread_id), a_run(thread_id)
    made = [await stored_step(db, run, writing()) for _ in range(3)]
    foreign = await stored_step(db, other, writing())
    ids = [step.id for step in made]
    found = await steps.page(db, thread_id, run.id, PageRequest(order="asc", limit=2))
    assert ([id for id, _ in found.rows], found.has_more) == (ids[:2], True)
    assert await steps.of_run(db, thread_id, run.id) == [msgspec.json.encode(s) for s in made]
    with pytest.raises(NotFound, match=f"No run step found with id '{foreign.id}'"):
        await steps.page(db, thread_id, run.id, PageRequest(after=foreign.id))


async def test_a_step_is_found_in_its_run_and_its_project_only(db: Database) -> None:
    thread_id = await stored_thread(db)
    run = a_run(thread_id)
    step = await stored_step(db, run, writing())
    assert await steps.get(db, PROJECT, thread_id, run.id, step.id) == msgspec.json.encode(step)
    for project, run_id in (("other", run.id), (PROJECT, a_run(thread_id).id)):
        with pytest.raises(NotFound):
            await steps.get(db, project, thread_id, run_id, step.id)


async def test_tool_calls_stand_behind_the_message_that_they_followed(db: Database) -> None:
    thread_id = await stored_thread(db)
    run = a_run(thread_id)
    await stored_message(db, thread_id)
    first = await stored_step(db, run, ToolCallsDetails())
    second = await stored_step(db, run, ToolCallsDetails())
    await stored_step(db, run, writing())
    written = a_message(thread_id, run_id=run.id)
    await db.write(*messages.appending(written, msgspec.json.encode(written)))
    third = await stored_step(db, run, ToolCallsDetails())

    async def found(first: int, before: int) -> list[tuple[int, str]]:
        between = await steps.between(db, thread_id, first=first, before=before)
        return [(place, msgspec.json.decode(body, type=Step).id) for place, body in between]

    assert await found(0, 99) == [(2, third.id), (1, second.id), (1, first.id)]
    assert await found(1, 2) == [(1, second.id), (1, first.id)]


async def test_calls_stand_behind_earlier_ones_though_the_newest_message_was_deleted(
    db: Database,
) -> None:
    thread_id = await stored_thread(db)
    run = a_run(thread_id)
    said = [await stored_message(db, thread_id) for _ in range(2)]
    first = await stored_step(db, run, ToolCallsDetails())
    await messages.delete(db, PROJECT, thread_id, said[1].id, now=NOW)
    second = await stored_step(db, run, ToolCallsDetails())
    between = await steps.between(db, thread_id, first=0, before=99)
    newest_first = [msgspec.json.decode(body, type=Step).id for _, body in between]
    assert newest_first == [second.id, first.id]


async def test_calls_of_runs_behind_the_same_message_stand_in_the_order_of_the_runs(
    db: Database,
) -> None:
    # A run that ends without a message, and the next one on the same thread.
    earlier = (await stored_run(db)).run
    await db.write(runs.freeing_thread(earlier.thread_id, earlier.id))
    later = (await stored_run(db, thread_id=earlier.thread_id)).run
    made = [await stored_step(db, run, ToolCallsDetails()) for run in (earlier, earlier, later)]
    between = await steps.between(db, earlier.thread_id, first=0, before=99)
    newest_first = [msgspec.json.decode(body, type=Step).id for _, body in between]
    assert newest_first == [step.id for step in reversed(made)]


async def test_a_step_is_replaced_where_it_stands(db: Database) -> None:
    thread_id = await stored_thread(db)
    run = a_run(thread_id)
    first, second = [await stored_step(db, run, ToolCallsDetails()) for _ in range(2)]
    ended = end_step(first, "completed", now=NOW)
    await db.write(steps.replacing(ended, msgspec.json.encode(ended)))
    stored = [msgspec.json.decode(body, type=Step) for body in await steps.of_run(db, *run_of(run))]
    assert stored == [ended, second]


def run_of(run: Run) -> tuple[str, str]:
    return run.thread_id, run.id
