"""What a client may ask of a run: each is one write, whole or not at all."""

import asyncio
from typing import Any

import msgspec
import pytest

from rethread.contract.events import rendered_name
from rethread.contract.messages import CreateMessage, Message
from rethread.contract.resources import CodeInterpreterResources, ToolResources
from rethread.contract.runs import (
    CalledFunction,
    CreateThreadAndRun,
    RequiredAction,
    RequiredToolCall,
    RequiredToolCalls,
    Run,
    SubmitToolOutputs,
    ToolOutput,
)
from rethread.contract.steps import FunctionCall, Step, calls_of
from rethread.contract.threads import CreateThread, Thread
from rethread.contract.tools import CodeInterpreterTool
from rethread.contract.vector_stores import StoreBody
from rethread.errors import Conflict, Invalid, NoSuchFile, NotFound, Raced, ThreadLocked
from rethread.runs import commands
from rethread.runs.calls import Offer
from rethread.runs.commands import Asking, Started, interrupt_topic, rest_topic
from rethread.runs.lifecycle import move
from rethread.runs.recorder import Recorder
from rethread.runs.turn import Turn
from rethread.store import (
    events,
    leases,
    messages,
    runs,
    servers,
    steps,
    threads,
    vector_stores,
)
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog
from rethread.store.pages import PageRequest
from rethread.store.servers import Server
from tests.fakes import replies
from tests.fakes.replies import Reply
from tests.heard import PARIS, ROME, USAGE, feed
from tests.objects import (
    NOW,
    PROJECT,
    WEATHER,
    claimed,
    no_more,
    some_id,
    stored_assistant,
    stored_file,
    stored_message,
    stored_run,
    stored_thread,
    waiting,
)

ASKING = Asking(PROJECT, NOW + 5)
REFUSING = Statement("DELETE FROM threads WHERE id = 'nowhere' RETURNING id")


async def logged(db: Database, run: Run) -> list[str]:
    """The names of the events in the run's log."""
    found = []
    async for record in events.read_all(db, run.thread_id, run.id):
        found += [rendered_name(event) for event in record.body.split(b"\n\n")[:-1]]
    return [name.removeprefix("thread.") for name in found]


async def stored(db: Database, run: Run) -> Run:
    return msgspec.json.decode(await runs.get(db, PROJECT, run.thread_id, run.id), type=Run)


async def nothing_is_stored(db: Database, *tables: str) -> bool:
    return all([not await db.read(f"SELECT 1 FROM {table} LIMIT 1") for table in tables])


async def create_both(db: Database, asked: CreateThreadAndRun, also: Any = no_more) -> Started:
    return await commands.create_thread_and_run(
        db, EventLog(db), ASKING, asked, expires_at=NOW + 600, also=also
    )


async def test_a_created_run_is_queued_and_holds_its_thread(db: Database) -> None:
    with db.listen(leases.TOPIC) as wakeup:
        started = await stored_run(db)
        assert await wakeup.wait(timeout_seconds=0)
    assert started.after == 0
    assert (
        msgspec.json.decode(started.body, type=Run) == started.run == await stored(db, started.run)
    )
    assert await logged(db, started.run) == ["run.created", "run.queued"]
    with pytest.raises(ThreadLocked):
        await stored_message(db, started.run.thread_id)
    assert (await claimed(db)).run_id == started.run.id


async def test_additional_messages_stand_behind_the_threads_in_their_order(db: Database) -> None:
    thread_id = await stored_thread(db)
    await stored_message(db, thread_id, "a")
    added = [CreateMessage(role=role, content=role) for role in ("user", "assistant")]
    await stored_run(db, thread_id=thread_id, additional_messages=added)
    found = await messages.page(db, PROJECT, thread_id, PageRequest(order="asc"))
    listed = [msgspec.json.decode(body, type=Message) for _, body in found.rows]
    assert [(m.role, m.content[0].text.value) for m in listed] == [  # type: ignore[union-attr]
        ("user", "a"),
        ("user", "user"),
        ("assistant", "assistant"),
    ]


async def test_a_run_needs_something_to_answer(db: Database) -> None:
    bare, told = await stored_assistant(db), await stored_assistant(db, instructions="Be brief.")
    hello = CreateMessage(role="user", content="Hello")
    with pytest.raises(Invalid, match="requires a Thread with a user message") as refused:
        await stored_run(db, thread_id=await stored_thread(db), assistant=bare)
    assert refused.value.code == "invalid_thread"
    with pytest.raises(Invalid):
        await create_both(db, CreateThreadAndRun(assistant_id=bare.id))
    assert await nothing_is_stored(db, "runs", "work", "events")
    for enough in ({"instructions": "x"}, {"additional_messages": [hello]}):
        await stored_run(db, thread_id=await stored_thread(db), assistant=bare, **enough)
    await stored_run(db, thread_id=await stored_thread(db), assistant=told)


async def test_a_run_needs_its_assistant_and_its_thread(db: Database) -> None:
    assistant = await stored_assistant(db)
    unknown = some_id()
    with pytest.raises(NotFound, match=f"No thread found with id '{unknown}'"):
        await stored_run(db, thread_id=unknown, assistant=assistant)
    with pytest.raises(NotFound, match="No assistant found with id"):
        await create_both(db, CreateThreadAndRun(assistant_id=some_id("asst")))


async def test_a_run_that_is_refused_leaves_nothing_behind(db: Database) -> None:
    started = await stored_run(db)
    hello = CreateMessage(role="user", content="Hello")
    with pytest.raises(ThreadLocked):
        await stored_run(db, thread_id=started.run.thread_id, additional_messages=[hello])
    for table, count in (("runs", 1), ("work", 1), ("events", 1), ("messages", 1)):
        assert await db.read(f"SELECT COUNT(*) FROM {table}") == [(count,)]


async def test_a_thread_and_its_run_are_made_together_or_not_at_all(db: Database) -> None:
    assistant = await stored_assistant(db)
    hello = CreateMessage(role="user", content="Hello")
    file_id = await stored_file(db, "a.csv")
    resources = ToolResources(code_interpreter=CodeInterpreterResources(file_ids=[file_id]))
    asked = CreateThreadAndRun(
        assistant_id=assistant.id,
        thread=CreateThread(messages=[hello], metadata={"a": "b"}),
        tool_resources=resources,
    )
    with pytest.raises(Raced):
        await create_both(db, asked, lambda _: [REFUSING])
    assert await nothing_is_stored(db, "threads", "messages", "runs", "work", "events")
    run = (await create_both(db, asked)).run
    assert await logged(db, run) == ["created", "run.created", "run.queued"]
    body = await threads.get(db, PROJECT, run.thread_id)
    thread = msgspec.json.decode(body, type=Thread)
    assert (thread.metadata, thread.tool_resources) == (
        {"a": "b"},
        {"code_interpreter": {"file_ids": [file_id]}},
    )
    with pytest.raises(ThreadLocked):
        await stored_message(db, run.thread_id)


async def test_a_file_that_is_not_there_is_not_given_to_code(db: Database) -> None:
    resources = ToolResources(code_interpreter=CodeInterpreterResources(file_ids=["file-gone"]))
    asked = CreateThreadAndRun(
        assistant_id=(await stored_assistant(db)).id, tool_resources=resources
    )
    with pytest.raises(NoSuchFile):
        await create_both(db, asked)


async def test_a_runs_tool_resources_are_laid_over_its_new_threads(db: Database) -> None:
    assistant = await stored_assistant(db)
    store = vector_stores.new(PROJECT, "vs_a", StoreBody(), days=None, embedder="", now=NOW)
    assert await db.write(vector_stores.adding(store))
    of_thread = {
        "code_interpreter": {"file_ids": [await stored_file(db, "a.csv")]},
        "file_search": {"vector_store_ids": ["vs_a"]},
    }
    of_run = {"code_interpreter": {"file_ids": [await stored_file(db, "b.csv")]}}
    asked = msgspec.convert(
        {
            "assistant_id": assistant.id,
            "thread": {"messages": [{"role": "user", "content": "x"}], "tool_resources": of_thread},
            "tool_resources": of_run,
        },
        CreateThreadAndRun,
    )
    run = (await create_both(db, asked)).run
    thread = msgspec.json.decode(await threads.get(db, PROJECT, run.thread_id), type=Thread)
    assert thread.tool_resources == of_thread | of_run


async def test_cancelling_is_urgent_and_wakes_whoever_waits(db: Database) -> None:
    started = await stored_run(db)
    run = started.run
    with db.listen(interrupt_topic(run.id)) as driver, db.listen(rest_topic(run.id)) as poll:
        body = await commands.cancel(db, ASKING, run.thread_id, run.id, also=no_more)
        assert await driver.wait(timeout_seconds=0)
        assert await poll.wait(timeout_seconds=0)
    shown = msgspec.json.decode(body, type=Run)
    assert (shown.status, shown.cancelled_at) == ("cancelling", None)
    assert shown == await stored(db, run)
    assert await leases.claim(db, urgent_only=True)
    with pytest.raises(Conflict, match="Cannot cancel run with status 'cancelling'"):
        await commands.cancel(db, ASKING, run.thread_id, run.id, also=no_more)


async def test_a_cancellation_that_is_refused_changes_nothing(db: Database) -> None:
    run = (await stored_run(db)).run
    with pytest.raises(Raced):
        await commands.cancel(db, ASKING, run.thread_id, run.id, also=lambda _: [REFUSING])
    assert (await stored(db, run)).status == "queued"
    assert await leases.claim(db, urgent_only=True) is None
    with pytest.raises(NotFound):
        await commands.cancel(db, Asking("other", NOW), run.thread_id, run.id, also=no_more)


async def waiting_for_outputs(db: Database, *answers: Reply, **fields: Any) -> Run:
    """A run in requires_action, after these answers of the model."""
    log = EventLog(db)
    started = await stored_run(db, log, **fields)
    lease = await claimed(db)
    turn = Turn(started.run, offer=Offer(frozenset({"weather"})))
    fed = feed(turn, *answers)
    ending = turn.end(usage=USAGE, now=NOW)
    calls = [
        RequiredToolCall(
            id=call.id, function=CalledFunction(call.function.name, call.function.arguments)
        )
        for call in ending.functions
    ]
    action = RequiredAction(submit_tool_outputs=RequiredToolCalls(calls))
    run = move(started.run, "in_progress", now=NOW)
    run = move(run, "requires_action", now=NOW, required_action=action)
    assert ending.step is not None
    assert await Recorder(log, lease, last_number=2).commit(
        [*fed, *ending.events],
        runs.replacing(run, old=started.body, new=msgspec.json.encode(run)),
        steps.replacing(ending.step, msgspec.json.encode(ending.step)),
        leases.finishing(lease),
    )
    return run


async def submit(
    db: Database,
    run: Run,
    outputs: dict[str, str],
    *,
    now: int = NOW + 5,
    also: Any = no_more,
    is_retry: bool = False,
) -> Started:
    given = [ToolOutput(tool_call_id=id, output=output) for id, output in outputs.items()]
    asked = SubmitToolOutputs(tool_outputs=given)
    asking = Asking(PROJECT, now, is_retry=is_retry)
    return await commands.submit_tool_outputs(
        db, EventLog(db), asking, run.thread_id, run.id, asked, also=also
    )


OUTPUTS = {"call_2": "rainy", "call_1": "sunny"}


@pytest.mark.parametrize(
    "answers",
    [
        [replies.tool_calls(PARIS, ROME)],
        [replies.text("Let me look."), replies.tool_calls(PARIS, ROME)],
        [replies.tool_calls(PARIS, ROME), replies.text("\n")],
    ],
    ids=["calls", "words before", "words behind"],
)
async def test_submitting_outputs_completes_the_step_and_queues_the_run(
    db: Database, answers: list[Reply]
) -> None:
    run = await waiting_for_outputs(db, *answers)
    before = await logged(db, run)
    started = await submit(db, run, OUTPUTS)
    assert started.after == len(before)
    assert (await logged(db, run))[started.after :] == ["run.step.completed", "run.queued"]
    queued = await stored(db, run)
    assert (queued.status, queued.required_action) == ("queued", None)
    assert (queued.started_at, queued.expires_at) == (run.started_at, run.expires_at)
    decoded = [
        msgspec.json.decode(body, type=Step)
        for body in await steps.of_run(db, run.thread_id, run.id)
    ]
    step = next(step for step in decoded if calls_of(step))
    calls = [call for call in calls_of(step) if isinstance(call, FunctionCall)]
    given = {call.id: call.function.output for call in calls}
    assert (step.status, step.usage, given) == ("completed", USAGE, OUTPUTS)
    assert (await claimed(db)).run_id == run.id


@pytest.mark.parametrize(
    ("outputs", "got"),
    [
        ({"call_1": "x"}, "['call_1']"),
        ({}, "[]"),
        ({"call_1": "x", "call_9": "y"}, "['call_1', 'call_9']"),
        ({**OUTPUTS, "call_9": "y"}, "['call_2', 'call_1', 'call_9']"),
    ],
)
async def test_outputs_are_given_all_at_once_and_for_these_calls(
    db: Database, outputs: dict[str, str], got: str
) -> None:
    run = await waiting_for_outputs(db, replies.tool_calls(PARIS, ROME))
    with pytest.raises(Invalid) as refused:
        await submit(db, run, outputs)
    assert str(refused.value) == (
        f"Expected tool outputs for call_ids ['call_1', 'call_2'], got {got}"
    )
    assert (await stored(db, run)).status == "requires_action"


async def has_session(db: Database, server: Server, thread_id: str) -> None:
    """Have the server live, and hold the thread's session."""
    await servers.join(db, server)
    sql = "INSERT INTO code_sessions (thread_id, id, server, used_at) VALUES ($1, 's', $2, 0)"
    await db.write(Statement(sql, thread_id, server.id))


async def test_a_run_that_may_run_code_is_left_to_the_server_that_has_its_session(
    db: Database,
) -> None:
    server = Server("server_a", "home_a")
    tools = [CodeInterpreterTool(), WEATHER]
    waiting = await waiting_for_outputs(db, replies.tool_calls(PARIS, ROME), tools=tools)
    await has_session(db, server, waiting.thread_id)
    await submit(db, waiting, OUTPUTS)
    thread_ids = [await stored_thread(db) for _ in range(2)]
    for thread_id, may_run_code in zip(thread_ids, (True, False), strict=True):
        await has_session(db, server, thread_id)
        await stored_message(db, thread_id)
        await stored_run(db, thread_id=thread_id, tools=tools if may_run_code else [])
    queued = "SELECT thread_id, server, kept_until > {now} FROM work ORDER BY number"
    assert [(row[0], row[1], bool(row[2])) for row in await db.read(queued)] == [
        (waiting.thread_id, server.id, True),
        (thread_ids[0], server.id, True),
        (thread_ids[1], "", False),
    ]


async def test_of_two_who_submit_at_once_one_does(db: Database) -> None:
    run = await waiting_for_outputs(db, replies.tool_calls(PARIS, ROME))
    before = len(await logged(db, run))
    results = await asyncio.gather(
        *(submit(db, run, OUTPUTS) for _ in range(5)), return_exceptions=True
    )
    refused = [type(result) for result in results if isinstance(result, Exception)]
    assert len(refused) == 4
    assert set(refused) <= {Raced, Conflict}
    assert len(await logged(db, run)) == before + 2


async def test_outputs_are_not_taken_in_another_state_nor_after_the_runs_time(
    db: Database,
) -> None:
    queued = (await stored_run(db)).run
    with pytest.raises(Conflict, match='Runs in status "queued" do not accept tool outputs'):
        await submit(db, queued, {"call_1": "x"})
    await claimed(db)
    run = await waiting_for_outputs(db, replies.tool_calls(PARIS, ROME))
    with pytest.raises(Conflict, match='"expired" do not accept'):
        await submit(db, run, OUTPUTS, now=NOW + 600)
    with pytest.raises(Raced):
        await submit(db, run, OUTPUTS, also=lambda _: [REFUSING])
    assert (await stored(db, run)).status == "requires_action"
    assert await waiting(db) == 0


async def test_outputs_that_come_again_after_a_lost_answer_lead_to_what_they_have_set_going(
    db: Database,
) -> None:
    run = await waiting_for_outputs(db, replies.tool_calls(PARIS, ROME))
    first = await submit(db, run, OUTPUTS)
    before = await logged(db, run)
    again = await submit(db, run, OUTPUTS, is_retry=True)
    assert again == first
    assert await logged(db, run) == before
    with pytest.raises(Conflict, match='"queued" do not accept'):
        await submit(db, run, OUTPUTS)
    with pytest.raises(Conflict, match='"queued" do not accept'):
        await submit(db, run, {**OUTPUTS, "call_1": "cloudy"}, is_retry=True)


async def test_outputs_that_a_run_waits_for_are_taken_however_often_they_were_sent(
    db: Database,
) -> None:
    run = await waiting_for_outputs(db, replies.tool_calls(PARIS, ROME))
    started = await submit(db, run, OUTPUTS, is_retry=True)
    assert (await logged(db, run))[started.after :] == ["run.step.completed", "run.queued"]
    assert (await stored(db, run)).status == "queued"
