"""The recorder: stored before heard, in order, many tokens a commit, nothing when replaced."""

import asyncio
import gc
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from rethread.contract.events import Event, rendered_name
from rethread.contract.messages import Message
from rethread.contract.steps import Step
from rethread.errors import Unavailable
from rethread.runs.lifecycle import move
from rethread.runs.recorder import Recorder, Replaced
from rethread.runs.turn import Turn
from rethread.store import events, leases, messages, steps, threads
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog
from rethread.store.leases import Lease
from rethread.store.pages import PageRequest
from tests.fakes import replies
from tests.heard import USAGE, chunks_of
from tests.objects import NOW, PROJECT, claimed, stored_run


class Recording:
    """A claimed run whose answer is recorded."""

    def __init__(self, db: Database, log: EventLog, lease: Lease, turn: Turn) -> None:
        self.db = db
        self.log = log
        self.lease = lease
        self.turn = turn
        self.recorder = Recorder(log, lease, last_number=2)

    def feed(self, *pieces: str) -> list[Event]:
        """The events of these words."""
        fed = (self.turn.feed(chunk, now=NOW) for chunk in chunks_of(replies.text(*pieces)))
        return [event for events_of_chunk in fed for event in events_of_chunk]

    async def logged(self) -> list[str]:
        """The names of the events on disk, from the third on."""
        found = []
        async for record in events.read_all(self.db, *self.lease[:2]):
            found += [rendered_name(event) for event in record.body.split(b"\n\n")[:-1]]
        return found[2:]

    async def records(self) -> int:
        """How many appends there were."""
        rows = await self.db.read("SELECT COUNT(*) FROM events WHERE first > 2")
        return int(rows[0][0])


@pytest.fixture
async def recording(db: Database) -> Recording:
    log = EventLog(db)
    started = await stored_run(db, log)
    lease = await claimed(db)
    run = move(started.run, "in_progress", now=NOW)
    return Recording(db, log, lease, Turn(run))


async def test_what_arrives_while_one_append_is_under_way_becomes_the_next(
    recording: Recording,
) -> None:
    for number in range(200):
        recording.recorder.record(recording.feed(f"{number} "))
    await recording.recorder.settle()
    assert await recording.records() == 1  # nothing had begun: all went out as one
    for number in range(200):
        recording.recorder.record(recording.feed(f"{number} "))
        await asyncio.sleep(0)
    await recording.recorder.settle()
    assert await recording.records() < 100


async def test_nothing_is_lost_or_out_of_order_however_it_is_coalesced(
    recording: Recording,
) -> None:
    text = [f"{number} " for number in range(100)]
    following = recording.log.follow(*recording.lease[:2], after=2, silence_seconds=60)
    for piece in text:
        recording.recorder.record(recording.feed(piece))
        await asyncio.sleep(0)
    ending = recording.turn.end(usage=USAGE, now=NOW)
    assert await recording.recorder.commit(ending.events)
    heard = b""
    async with aclosing(following):
        while b"thread.run.step.completed" not in heard:
            record = await anext(following)
            assert record is not None
            heard += record.body
    ids = [int(line[4:]) for line in heard.split(b"\n") if line.startswith(b"id: ")]
    assert ids == list(range(3, 3 + len(ids)))
    deltas = [
        msgspec.json.decode(line[6:])["delta"]["content"][0]["text"]["value"]
        for line in heard.split(b"\n")
        if line.startswith(b"data: ") and b"message.delta" in line
    ]
    assert "".join(deltas) == "".join(text)


async def test_the_rows_are_written_with_the_events_that_speak_of_them(
    recording: Recording,
) -> None:
    thread_id, run_id = recording.lease[:2]
    recording.recorder.record(recording.feed("Hel", "lo"))
    await recording.recorder.settle()
    message_id = (await messages.page(recording.db, PROJECT, thread_id, PageRequest(limit=1))).rows[
        0
    ][0]

    async def stored() -> tuple[Message, Step]:
        body = await messages.of_thread(recording.db, thread_id, message_id)
        assert body is not None
        bodies = await steps.of_run(recording.db, thread_id, run_id)
        return msgspec.json.decode(body, type=Message), msgspec.json.decode(bodies[0], type=Step)

    message, step = await stored()
    assert (message.status, message.content, step.status) == ("in_progress", [], "in_progress")
    ending = recording.turn.end(usage=USAGE, now=NOW)
    assert await recording.recorder.commit(ending.events)
    message, step = await stored()
    assert (message.status, step.status, step.usage) == ("completed", "completed", USAGE)
    assert ending.events[0].payload == message


async def test_a_refused_commit_changes_nothing_and_may_come_again(recording: Recording) -> None:
    recording.recorder.record(recording.feed("Hello"))
    ending = recording.turn.end(usage=USAGE, now=NOW)
    refusing = Statement("DELETE FROM threads WHERE id = 'nowhere' RETURNING id")
    assert not await recording.recorder.commit(ending.events, refusing)
    before = await recording.logged()
    assert before[-1] == "thread.message.delta"
    assert await recording.recorder.commit(ending.events)
    assert await recording.logged() == [
        *before,
        "thread.message.completed",
        "thread.run.step.completed",
    ]


async def test_one_who_was_replaced_can_append_nothing_more(recording: Recording) -> None:
    await leases.release_all(recording.db)
    await claimed(recording.db)
    recording.recorder.record(recording.feed("Hello"))
    with pytest.raises(Replaced):
        await recording.recorder.settle()
    assert await recording.logged() == []
    written = await recording.db.read("SELECT 1 FROM messages WHERE run_id IS NOT NULL")
    assert written == []


async def test_one_whose_thread_was_deleted_is_told_at_the_next_record(
    recording: Recording,
) -> None:
    await threads.delete(recording.db, PROJECT, recording.lease.thread_id)
    recording.recorder.record(recording.feed("a"))
    with pytest.raises(Replaced):  # noqa: PT012 - the first append may still be under way
        for _ in range(10_000):
            await asyncio.sleep(0.001)
            recording.recorder.record(recording.feed("b"))


async def test_an_append_that_nobody_asks_about_any_more_is_no_error(recording: Recording) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    await threads.delete(recording.db, PROJECT, recording.lease.thread_id)
    recorder = Recorder(recording.log, recording.lease, last_number=2)
    others = asyncio.all_tasks()
    recorder.record(recording.feed("a"))
    [appending] = asyncio.all_tasks() - others
    await asyncio.wait({appending})
    del recorder, appending  # as when the driver has heard of the deletion first
    gc.collect()
    assert complaints == []


async def test_whoever_stops_waiting_does_not_stop_the_append(recording: Recording) -> None:
    """A run that is cancelled while its last tokens go to disk."""
    recording.recorder.record(recording.feed("Hello"))
    waiting = asyncio.create_task(recording.recorder.settle())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    closing = recording.turn.abandon("cancelled", None, now=NOW)
    assert await recording.recorder.commit(closing)
    assert (await recording.logged())[-2:] == [
        "thread.message.incomplete",
        "thread.run.step.cancelled",
    ]


async def test_a_disk_that_fails_is_told_to_whoever_records(recording: Recording) -> None:
    await recording.db.close()
    recording.recorder.record(recording.feed("Hello"))
    with pytest.raises(Unavailable):
        await recording.recorder.settle()


async def test_a_run_that_comes_to_rest_leaves_the_queue_with_its_last_event(
    recording: Recording,
) -> None:
    finishing = leases.finishing(recording.lease)
    assert await recording.recorder.commit(recording.feed("Bye"), finishing)
    assert await leases.claim(recording.db) is None
    assert not await recording.recorder.commit(recording.feed("more"))
