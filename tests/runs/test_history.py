"""What a prompt costs to read is bounded by the window, however long the thread is."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from rethread.contract.chat import ChatMessage
from rethread.contract.messages import Message
from rethread.contract.steps import FunctionCall, FunctionResult, ToolCallsDetails
from rethread.runs import history
from rethread.runs.history import FIRST_PAGE
from rethread.runs.lifecycle import end_step, new_step
from rethread.runs.window import MESSAGE_OVERHEAD_TOKENS, Window
from rethread.store import messages, steps
from rethread.store.database import Database, Row, Statement
from tests.objects import NOW, a_message, a_run, stored_message, stored_thread

EACH_TOKENS = 2 + MESSAGE_OVERHEAD_TOKENS


def a_window(messages_that_fit: int, *, last_messages: int | None = None) -> Window:
    """A window with room for so many messages of two words."""
    return Window(
        budget_tokens=messages_that_fit * EACH_TOKENS,
        last_messages=last_messages,
        count=lambda text: len(text.split()),
        fixed=(),
    )


async def a_long_thread(db: Database, count: int) -> str:
    """A thread with that many messages, `message 1` and so on."""
    thread_id = await stored_thread(db)
    template = msgspec.json.encode(a_message(thread_id, "message NUMBER", id="msg_NUMBER"))
    await db.write(
        Statement(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2) "
            "INSERT INTO messages (thread_id, number, id, created_at, body) "
            "SELECT $1, i, 'msg_' || i, 0, "
            "CAST(REPLACE($3, 'NUMBER', CAST(i AS TEXT)) AS {bytes}) FROM n",
            *(thread_id, count, template.decode()),
        )
    )
    return thread_id


@contextmanager
def counted_rows(db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows each read gives, while the database goes on as it is."""
    rows: list[int] = []
    read = db.read

    async def counting(sql: str, *arguments: object) -> list[Row]:
        found = await read(sql, *arguments)
        rows.append(len(found))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(db, "read", counting)
        yield rows


def texts(window: Window) -> list[str]:
    return [str(message.content) for message in window.messages()]


async def test_a_thread_of_100_000_messages_is_read_as_far_as_the_window_reaches(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[tuple[int, int], int] = {}
    for length in (1_000, 100_000):
        thread_id = await a_long_thread(db, length)
        for room in (4, 40, 200):
            window = a_window(room)
            with counted_rows(db, monkeypatch) as rows:
                await history.fill(db, thread_id, window)
            newest = [f"message {n}" for n in range(length - room + 2, length + 1)]
            assert texts(window) == ["message 1", *newest]
            read[length, room] = sum(rows)
    for room in (4, 40, 200):
        assert read[1_000, room] == read[100_000, room]
        assert read[100_000, room] <= 2 * room + FIRST_PAGE + 1


async def test_last_messages_reads_one_page(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id = await a_long_thread(db, 1_000)
    window = a_window(500, last_messages=3)
    with counted_rows(db, monkeypatch) as rows:
        await history.fill(db, thread_id, window)
    assert texts(window) == ["message 998", "message 999", "message 1000"]
    assert sum(rows) <= FIRST_PAGE + 1


@pytest.mark.parametrize("length", [0, 1, FIRST_PAGE - 1, FIRST_PAGE, FIRST_PAGE + 1, 200])
async def test_a_thread_that_fits_is_shown_whole(db: Database, length: int) -> None:
    thread_id = await a_long_thread(db, length) if length else await stored_thread(db)
    window = a_window(10_000)
    await history.fill(db, thread_id, window)
    assert texts(window) == [f"message {n}" for n in range(1, length + 1)]


async def test_calls_stand_where_they_were_made(db: Database) -> None:
    thread_id = await a_long_thread(db, FIRST_PAGE - 1)
    expected = [f"message {n}" for n in range(1, FIRST_PAGE)]
    for place in range(3):  # over the border between two pages
        run = a_run(thread_id)
        for turn in range(2):
            output = f"output {place}.{turn}"
            call = FunctionCall(id="call_a", function=FunctionResult("weather", "{}", output))
            step = new_step(run, ToolCallsDetails([call]), now=NOW)
            step = end_step(step, "completed", now=NOW)
            await db.write(steps.adding(step, msgspec.json.encode(step)))
            expected += ["None", output]
        answer = a_message(thread_id, f"answer {place}", role="assistant", run_id=run.id)
        await db.write(*messages.appending(answer, msgspec.json.encode(answer)))
        await stored_message(db, thread_id, f"question {place}")
        expected += [f"answer {place}", f"question {place}"]
    window = a_window(10_000)
    await history.fill(db, thread_id, window)
    assert texts(window) == expected


async def test_calls_stay_in_front_of_what_was_said_after_messages_were_deleted(
    db: Database,
) -> None:
    thread_id = await stored_thread(db)
    asked = await stored_message(db, thread_id, "old question")
    run = a_run(thread_id)
    call = FunctionCall(id="call_a", function=FunctionResult("weather", "{}", "sunny"))
    step = end_step(new_step(run, ToolCallsDetails([call]), now=NOW), "completed", now=NOW)
    await db.write(steps.adding(step, msgspec.json.encode(step)))
    await messages.delete(db, "default", thread_id, asked.id, now=NOW)
    await stored_message(db, thread_id, "new question")
    window = a_window(100)
    await history.fill(db, thread_id, window)
    assert [message.role for message in window.messages()] == ["assistant", "tool", "user"]


async def test_a_first_message_that_was_shown_anyway_is_shown_once(db: Database) -> None:
    thread_id = await a_long_thread(db, FIRST_PAGE)
    window = a_window(FIRST_PAGE)
    await history.fill(db, thread_id, window)
    assert texts(window) == [f"message {n}" for n in range(1, FIRST_PAGE + 1)]
    assert all(isinstance(message, ChatMessage) for message in window.messages())
    assert await messages.oldest(db, thread_id) == msgspec.json.encode(
        msgspec.json.decode(await messages.oldest(db, thread_id), type=Message)
    )
