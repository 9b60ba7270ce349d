"""Messages: a thread that a run holds takes none, and one thread's messages have one order."""

import asyncio

import msgspec
import pytest

from rethread.contract.messages import CreateMessage, Message
from rethread.contract.threads import MESSAGES_LIMIT
from rethread.errors import Conflict, NotFound, Raced, ThreadLocked
from rethread.store import messages
from rethread.store.database import Database, Statement
from rethread.store.pages import NOWHERE_ABOVE, PageRequest
from tests.objects import (
    NOW,
    PROJECT,
    a_message,
    a_run,
    some_id,
    stored_message,
    stored_run,
    stored_thread,
)


async def numbers(db: Database, thread_id: str) -> list[int]:
    rows = await db.read(
        "SELECT number FROM messages WHERE thread_id = $1 ORDER BY number", thread_id
    )
    return [row[0] for row in rows]


async def test_a_message_is_shown_as_it_was_stored(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = await stored_message(db, thread_id, "Grüße\0 and all")
    body = await messages.get(db, PROJECT, thread_id, message.id)
    assert body == msgspec.json.encode(message)
    assert await messages.of_thread(db, thread_id, message.id) == body


async def test_a_message_is_refused_while_a_run_holds_the_thread(db: Database) -> None:
    started = await stored_run(db)
    thread_id = started.run.thread_id
    with pytest.raises(ThreadLocked) as refused:
        await stored_message(db, thread_id)
    assert str(refused.value) == (
        f"Can't add messages to {thread_id} while a run {started.run.id} is active."
    )
    assert refused.value.run_id == started.run.id
    assert await numbers(db, thread_id) == [1]


async def test_a_message_needs_a_thread_of_its_project(db: Database) -> None:
    thread_id = await stored_thread(db, project="other")
    for unknown in (thread_id, some_id()):
        with pytest.raises(NotFound, match=f"No thread found with id '{unknown}'"):
            await stored_message(db, unknown)


async def test_messages_added_at_once_are_numbered_one_after_the_other(db: Database) -> None:
    thread_id = await stored_thread(db)
    await asyncio.gather(*(stored_message(db, thread_id) for _ in range(100)))
    assert await numbers(db, thread_id) == list(range(1, 101))


async def test_of_a_run_and_a_message_at_once_one_is_refused_or_both_are_in_order(
    db: Database,
) -> None:
    thread_id = await stored_thread(db)
    await stored_message(db, thread_id)
    results = await asyncio.gather(
        stored_run(db, thread_id=thread_id),
        stored_message(db, thread_id),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, Exception)]
    assert all(isinstance(problem, ThreadLocked) for problem in refused)
    assert len(await numbers(db, thread_id)) == (1 if refused else 2)


async def test_what_is_written_along_is_written_with_it_or_refuses_it(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = a_message(thread_id)
    refusing = Statement("DELETE FROM threads WHERE id = 'nowhere' RETURNING id")
    with pytest.raises(Raced):
        await messages.add(db, PROJECT, message, msgspec.json.encode(message), also=[refusing])
    assert await numbers(db, thread_id) == []


async def test_a_thread_holds_so_many_messages_and_no_more(db: Database) -> None:
    thread_id = await stored_thread(db)
    await db.write(
        Statement(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2) "
            "INSERT INTO messages (thread_id, number, id, created_at, body) "
            "SELECT $1, i, 'msg_' || i, 0, CAST('{}' AS {bytes}) FROM n",
            *(thread_id, MESSAGES_LIMIT),
        )
    )
    with pytest.raises(Conflict, match=f"already has {MESSAGES_LIMIT} messages"):
        await stored_run(
            db, thread_id=thread_id, additional_messages=[CreateMessage(role="user", content="x")]
        )
    with pytest.raises(Conflict, match=f"already has {MESSAGES_LIMIT} messages"):
        await stored_message(db, thread_id)
    await messages.delete(db, PROJECT, thread_id, "msg_7", now=NOW)
    added = await stored_message(db, thread_id)
    assert (await messages.older(db, thread_id, before=NOWHERE_ABOVE, limit=1))[0][0] == (
        MESSAGES_LIMIT + 1
    )
    assert await messages.get(db, PROJECT, thread_id, added.id)


async def test_the_number_of_a_deleted_message_is_not_given_again(db: Database) -> None:
    thread_id = await stored_thread(db)
    first, second = [await stored_message(db, thread_id) for _ in range(2)]
    await messages.delete(db, PROJECT, thread_id, second.id, now=NOW)
    await messages.delete(db, PROJECT, thread_id, first.id, now=NOW)
    await stored_message(db, thread_id)
    assert await numbers(db, thread_id) == [3]
    run = a_run(thread_id)
    written = a_message(thread_id, run_id=run.id)
    await db.write(*messages.appending(written, msgspec.json.encode(written)))
    assert await numbers(db, thread_id) == [3, 4]


async def test_of_two_who_modify_at_once_one_is_told(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = await stored_message(db, thread_id)
    old = msgspec.json.encode(message)
    results = await asyncio.gather(
        *(
            messages.replace(db, thread_id, message.id, old=old, new=new)
            for new in (b'{"a":1}', b'{"b":2}')
        ),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result] == [Raced]
    assert await messages.get(db, PROJECT, thread_id, message.id) == b'{"a":1}'


async def test_a_deleted_message_is_gone_at_once_and_only_once(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = await stored_message(db, thread_id)
    results = await asyncio.gather(
        *(messages.delete(db, PROJECT, thread_id, message.id, now=NOW) for _ in range(3)),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result] == [NotFound] * 2
    with pytest.raises(NotFound, match=f"No message found with id '{message.id}'"):
        await messages.get(db, PROJECT, thread_id, message.id)
    assert (await messages.page(db, PROJECT, thread_id, PageRequest())).rows == []


async def test_a_foreign_project_sees_no_message(db: Database) -> None:
    thread_id = await stored_thread(db)
    message = await stored_message(db, thread_id)
    with pytest.raises(NotFound, match="No thread found"):
        await messages.get(db, "other", thread_id, message.id)
    with pytest.raises(NotFound, match="No thread found"):
        await messages.page(db, "other", thread_id, PageRequest())
    with pytest.raises(NotFound):
        await messages.delete(db, "other", thread_id, message.id, now=NOW)


async def test_a_list_can_be_that_of_one_run(db: Database) -> None:
    thread_id = await stored_thread(db)
    asked = await stored_message(db, thread_id)
    run = a_run(thread_id)
    written = a_message(thread_id, run_id=run.id)
    await db.write(*messages.appending(written, msgspec.json.encode(written)))
    found = await messages.page(db, PROJECT, thread_id, PageRequest(), run_id=run.id)
    assert [id for id, _ in found.rows] == [written.id]
    with pytest.raises(NotFound):
        await messages.page(db, PROJECT, thread_id, PageRequest(after=asked.id), run_id=run.id)


async def test_the_newest_come_first_and_the_oldest_is_known(db: Database) -> None:
    thread_id = await stored_thread(db)
    assert not await messages.any_in(db, thread_id)
    ids = [(await stored_message(db, thread_id)).id for _ in range(5)]
    newest = await messages.older(db, thread_id, before=5, limit=2)
    decoded = [(number, msgspec.json.decode(body, type=Message).id) for number, body in newest]
    assert decoded == [(4, ids[3]), (3, ids[2])]
    oldest = msgspec.json.decode(await messages.oldest(db, thread_id), type=Message)
    assert oldest.id == ids[0]
    assert await messages.any_in(db, thread_id)
