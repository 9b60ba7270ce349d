"""A run's log: first what is on disk, then what comes; a slow listener costs bounded memory."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, LiteralString

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from rethread.contract.runs import Run, RunStatus
from rethread.errors import Forgotten, NotFound
from rethread.runs.lifecycle import move
from rethread.store import events, runs, threads
from rethread.store.database import Database, Statement
from rethread.store.events import RECORDS_IN_MEMORY, EventLog, Record, topic
from tests.objects import NOW, PROJECT, stored_run

PATIENCE_SECONDS = 20.0


def event(number: int, name: str = "thread.message.delta") -> bytes:
    return b'id: %d\nevent: %s\ndata: {"n":"\\n\\nid: 9"}\n\n' % (number, name.encode())


def record(first: int, last: int | None = None, name: str = "thread.message.delta") -> Record:
    """A record of the events from `first` to `last`, of which the last has that name."""
    last = first if last is None else last
    bodies = [event(number) for number in range(first, last)]
    return Record(first, last, b"".join([*bodies, event(last, name)]))


class Listener:
    """Follows a run's log; `heard` grows as records come."""

    def __init__(
        self,
        log: EventLog,
        place: tuple[str, str],
        *,
        after: int,
        silence_seconds: float = 60,
        past_rests: bool = False,
    ) -> None:
        self.heard: list[Record | None] = []
        self._more = asyncio.Event()
        following = log.follow(
            *place, after=after, silence_seconds=silence_seconds, past_rests=past_rests
        )
        self.task = asyncio.create_task(self._listen(following))

    async def _listen(self, following: AsyncGenerator[Record | None]) -> None:
        async with aclosing(following):
            async for item in following:
                self.heard.append(item)
                self._more.set()

    async def has(self, count: int) -> list[Record | None]:
        """What was heard, once it is that much."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.heard) < count:
                self._more.clear()
                await self._more.wait()
        return self.heard

    async def ended(self) -> list[Record | None]:
        """What was heard in all, once the log has ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.task
        return self.heard


@pytest.fixture
async def log(db: Database) -> EventLog:
    return EventLog(db)


@pytest.fixture
async def place(db: Database, log: EventLog) -> tuple[str, str]:
    """The thread and id of a run whose log holds the events 1 and 2."""
    started = await stored_run(db, log)
    return started.run.thread_id, started.run.id


@settings(derandomize=True, deadline=None, max_examples=100)
@given(first=st.integers(1, 10**6), count=st.integers(1, 6), past=st.integers(-3, 8))
def test_a_record_splits_at_the_event_asked_for(first: int, count: int, past: int) -> None:
    whole = record(first, first + count - 1)
    number = max(0, first + past)
    expected = b"".join(event(n) for n in range(first, first + count) if n > number)
    assert whole.after(number) == expected


@pytest.mark.parametrize(
    ("name", "rests"),
    [
        ("thread.run.completed", True),
        ("thread.run.requires_action", True),
        ("thread.run.step.completed", False),
        ("thread.run.cancelling", False),
        ("thread.message.completed", False),
    ],
)
def test_a_record_rests_when_its_last_event_does(name: str, rests: bool) -> None:
    assert record(1, 1, name).rests is rests
    assert record(1, 4, name).rests is rests


async def test_a_listener_gets_the_log_then_what_comes_to_the_runs_rest(
    log: EventLog, place: tuple[str, str]
) -> None:
    listener = Listener(log, place, after=0)
    await listener.has(1)
    await log.append(*place, record(3, 5))
    await listener.has(2)
    await log.append(*place, record(6, 7, "thread.run.completed"))
    heard = await listener.ended()
    assert [item and item[:2] for item in heard] == [(1, 2), (3, 5), (6, 7)]
    assert b"".join(item.body for item in heard[1:] if item) == (
        record(3, 5).body + record(6, 7, "thread.run.completed").body
    )


async def test_a_listener_that_begins_inside_a_record_gets_the_rest_of_it(
    log: EventLog, place: tuple[str, str]
) -> None:
    await log.append(*place, record(3, 6, "thread.run.failed"))
    heard = await Listener(log, place, after=4).ended()
    assert heard == [Record(3, 6, event(5) + event(6, "thread.run.failed"))]


async def test_an_event_is_on_disk_before_anyone_hears_it(
    db: Database, log: EventLog, place: tuple[str, str]
) -> None:
    listener = Listener(log, place, after=2)
    refused = Statement("DELETE FROM threads WHERE id = 'nowhere' RETURNING id")
    assert not await log.append(*place, record(3), refused)
    assert await log.append(*place, record(3, 3, "thread.run.completed"))
    heard = await listener.ended()
    assert heard == [record(3, 3, "thread.run.completed")]
    assert await events.last_number(db, *place) == 3


async def test_of_two_who_append_the_same_number_one_is_refused(
    db: Database, log: EventLog, place: tuple[str, str]
) -> None:
    results = await asyncio.gather(*(log.append(*place, record(3)) for _ in range(5)))
    assert sorted(results) == [False] * 4 + [True]
    assert [item[:2] for item in await events.read(db, *place, after=0)] == [(1, 2), (3, 3)]


async def test_silence_is_told_and_ends_nothing(log: EventLog, place: tuple[str, str]) -> None:
    listener = Listener(log, place, after=2, silence_seconds=0.01)
    assert await listener.has(3) == [None] * 3
    await log.append(*place, record(3, 3, "thread.run.completed"))
    assert (await listener.ended())[-1] == record(3, 3, "thread.run.completed")


async def test_a_slow_listener_costs_bounded_memory_and_misses_nothing(
    log: EventLog, place: tuple[str, str]
) -> None:
    quick = Listener(log, place, after=2)
    slow = log.follow(*place, after=2, silence_seconds=60)
    count = 3 * RECORDS_IN_MEMORY
    await log.append(*place, record(3))
    heard = [await anext(slow)]
    for number in range(4, 3 + count):
        await log.append(*place, record(number))
    await quick.has(count)
    assert len(log._recent[place[1]]) == RECORDS_IN_MEMORY
    await log.append(*place, record(3 + count, 3 + count, "thread.run.completed"))
    heard += [item async for item in slow]
    assert heard == await quick.ended()
    assert [item and item.first for item in heard] == list(range(3, 4 + count))
    assert log._recent == log._listeners == {}


async def test_a_record_whose_announcement_was_lost_is_heard_all_the_same(
    db: Database, log: EventLog, place: tuple[str, str]
) -> None:
    """Its writer was cancelled while the disk took it."""
    listener = Listener(log, place, after=2)
    await log.append(*place, record(3))
    await listener.has(1)
    await db.write(events.appending(*place, record(4), fence=None))
    await log.append(*place, record(5, 5, "thread.run.completed"))
    assert [item and item.first for item in await listener.ended()] == [3, 4, 5]


async def test_wake_ups_for_no_reason_do_no_harm(
    db: Database, log: EventLog, place: tuple[str, str]
) -> None:
    listener = Listener(log, place, after=2)
    for _ in range(3):
        db.notify(topic(place[1]))
        await db.read("SELECT 1")
    await log.append(*place, record(3, 3, "thread.run.completed"))
    assert len(await listener.ended()) == 1


async def test_a_stream_ends_when_its_thread_is_deleted(
    db: Database, log: EventLog, place: tuple[str, str]
) -> None:
    listener = Listener(log, place, after=2)
    await log.append(*place, record(3))
    await listener.has(1)
    assert await threads.delete(db, PROJECT, place[0]) == place[1]
    db.notify(topic(place[1]))
    assert await listener.ended() == [record(3)]


async def test_a_replay_whose_thread_was_deleted_ends_without_a_silence(
    db: Database, log: EventLog, place: tuple[str, str]
) -> None:
    await log.append(*place, record(3))
    await threads.delete(db, PROJECT, place[0])
    heard = [each async for each in log.follow(*place, after=0, silence_seconds=0)]
    assert None not in heard
    assert heard[-1] == record(3)


async def test_behind_the_end_of_a_run_there_is_nothing_to_wait_for(
    db: Database, log: EventLog
) -> None:
    started = await stored_run(db, log)
    run = started.run
    failed = move(run, "failed", now=NOW)
    await log.append(
        *(run.thread_id, run.id, record(3, 3, "thread.run.failed")),
        runs.replacing(failed, old=started.body, new=b"{}", rested_at=NOW),
    )
    assert await Listener(log, (run.thread_id, run.id), after=3).ended() == []
    while await events.forget(db, rested_before=NOW + 1):
        pass
    assert await Listener(log, (run.thread_id, run.id), after=1).ended() == []
    await threads.delete(db, PROJECT, run.thread_id)
    assert await Listener(log, (run.thread_id, run.id), after=0).ended() == []


async def moved(
    db: Database, log: EventLog, run: Run, to: RunStatus, record: Record, *, old: bytes
) -> tuple[Run, bytes]:
    """The run in its next state, in one write with the record that tells of it."""
    run = structs.replace(run, status=to)
    body = msgspec.json.encode(run)
    assert await log.append(
        *(run.thread_id, run.id, record), runs.replacing(run, old=old, new=body)
    )
    return run, body


async def test_rests_that_the_run_has_left_are_passed_and_the_one_where_it_rests_ends_it(
    db: Database, log: EventLog
) -> None:
    started = await stored_run(db, log)
    place = (started.run.thread_id, started.run.id)
    waits = record(3, 4, "thread.run.requires_action")
    run, body = await moved(db, log, started.run, "requires_action", waits, old=started.body)
    assert (await Listener(log, place, after=0, past_rests=True).ended())[-1] == waits
    assert await Listener(log, place, after=4, past_rests=True).ended() == []
    goes_on = record(5, 6, "thread.run.queued")
    run, body = await moved(db, log, run, "queued", goes_on, old=body)
    assert (await Listener(log, place, after=0).ended())[-1] == waits
    listener = Listener(log, place, after=0, past_rests=True)
    assert (await listener.has(3))[1:] == [waits, goes_on]
    again = record(7, 7, "thread.run.requires_action")
    await moved(db, log, run, "requires_action", again, old=body)
    assert (await listener.ended())[3:] == [again]


async def test_a_run_that_goes_on_while_its_rest_is_looked_at_is_followed(
    db: Database, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outputs come between the question whether it rests and the last look at its log."""
    started = await stored_run(db, log)
    place = (started.run.thread_id, started.run.id)
    waits = record(3, 3, "thread.run.requires_action")
    run, body = await moved(db, log, started.run, "requires_action", waits, old=started.body)
    real_read = db.read
    moves: list[tuple[RunStatus, Record]] = [
        ("queued", record(4)),
        ("failed", record(5, 5, "thread.run.failed")),
    ]

    async def read(sql: LiteralString, *arguments: Any) -> Any:
        nonlocal run, body
        rows = await real_read(sql, *arguments)
        if sql == events.GOES_ON and moves:
            status, next_record = moves.pop(0)
            run, body = await moved(db, log, run, status, next_record, old=body)
        return rows

    monkeypatch.setattr(db, "read", read)
    following = log.follow(*place, after=2, silence_seconds=60, past_rests=True)
    heard = [each and each.first async for each in following]
    assert heard == [3, 4, 5]
    assert moves == []


async def test_all_records_are_read_past_the_size_of_one_look(
    db: Database, log: EventLog, place: tuple[str, str]
) -> None:
    for number in range(3, 253):
        await log.append(*place, record(number))
    read = [item async for item in events.read_all(db, *place)]
    assert [item.last for item in read] == list(range(2, 253))


async def ended(
    db: Database, log: EventLog, *, rested_at: int | None, records: int = 0
) -> tuple[str, str]:
    """A failed run whose log has so many records more; it rests since then, or waits."""
    started = await stored_run(db, log)
    run = started.run
    for number in range(3, 3 + records):
        await log.append(run.thread_id, run.id, record(number))
    status: RunStatus = "requires_action" if rested_at is None else "failed"
    run = structs.replace(run, status=status)
    await db.write(runs.replacing(run, old=started.body, new=b"{}", rested_at=rested_at))
    return run.thread_id, run.id


async def logged(db: Database, place: tuple[str, str]) -> list[int]:
    """The first numbers of the records in a run's log."""
    return [item.first async for item in events.read_all(db, *place)]


async def test_only_logs_of_runs_that_ended_long_ago_are_forgotten(
    db: Database, log: EventLog
) -> None:
    active = await stored_run(db, log)
    kept = {
        "under way": (active.run.thread_id, active.run.id),
        "waits for outputs": await ended(db, log, rested_at=None, records=2),
        "ended just now": await ended(db, log, rested_at=NOW + 10, records=2),
    }
    before = {name: await logged(db, place) for name, place in kept.items()}
    old = await ended(db, log, rested_at=NOW, records=600)
    await events.check_kept(db, *old)
    rounds = 0
    while await events.forget(db, rested_before=NOW + 10):
        rounds += 1
    assert rounds == 3  # 500 records, the rest, and the run off the list of those to look at
    assert await logged(db, old) == []
    with pytest.raises(Forgotten, match=f"events of run '{old[1]}' are not kept"):
        await events.check_kept(db, *old)
    assert {name: await logged(db, place) for name, place in kept.items()} == before
    for place in kept.values():
        await events.check_kept(db, *place)
    assert await runs.get(db, PROJECT, *old) == b"{}"
    with pytest.raises(NotFound):
        await runs.get(db, PROJECT, old[0], active.run.id)


async def test_a_log_of_which_a_part_is_forgotten_has_lost_its_beginning(
    db: Database, log: EventLog
) -> None:
    """So a listener sees at once that it is no whole one, whatever is left of it."""
    places = [await ended(db, log, rested_at=NOW + n, records=200) for n in range(12)]
    while await events.forget(db, rested_before=NOW + 60):
        for place in places:
            numbers = await logged(db, place)
            assert len(numbers) in (0, 201) or numbers[0] > 1
            if len(numbers) != 201:
                with pytest.raises(Forgotten):
                    await events.check_kept(db, *place)
    assert [await logged(db, place) for place in places] == [[]] * len(places)


async def test_cleaning_is_done_in_small_writes(
    db: Database, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await ended(db, log, rested_at=NOW, records=400)
    real_write = db.write
    sizes = []

    async def write(*statements: Statement) -> Any:
        sizes.append(len(rows := await real_write(*statements)))
        return rows

    monkeypatch.setattr(db, "write", write)
    while await events.forget(db, rested_before=NOW + 1):
        pass
    assert sum(sizes) >= 3 * 401
    assert max(sizes) <= 500


async def test_the_log_of_a_deleted_thread_is_not_called_forgotten(
    db: Database, log: EventLog
) -> None:
    """Its streams end as they always did; for a new one the thread is not found."""
    place = await ended(db, log, rested_at=NOW)
    await threads.delete(db, PROJECT, place[0])
    await db.write(Statement("DELETE FROM events WHERE run_id = $1", place[1]))
    await events.check_kept(db, *place)
