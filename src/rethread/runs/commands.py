"""What a client may ask of a run: create, cancel, submit_tool_outputs.

Each is one write, whole or not at all, which leaves the run where a driver takes it up.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import msgspec
from msgspec import structs

from rethread.contract.assistants import Assistant
from rethread.contract.events import Event, render
from rethread.contract.messages import CreateMessage, Message
from rethread.contract.runs import CreateRun, CreateThreadAndRun, Run, RunOptions, SubmitToolOutputs
from rethread.contract.steps import FunctionCall, Step, ToolCall, ToolCallsDetails, calls_of
from rethread.contract.threads import CreateThread, decode_thread
from rethread.errors import Conflict, Invalid, Raced
from rethread.runs import prompt, searching
from rethread.runs.lifecycle import NEXT, end_step, move, new_run
from rethread.store import assistants, code_sessions, leases, messages, runs, steps, threads
from rethread.store.code_sessions import NO_SERVER
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog, Record, appending, last_number, read_all
from rethread.store.leases import Lease
from rethread.store.runs import StoredRun
from rethread.tools.file_search import resources
from rethread.tools.file_search.resources import Owner


class Asking(NamedTuple):
    """Who asks, when, and what is to be written along with the answer."""

    project: str
    now: int
    fingerprint: bytes | None = None
    is_retry: bool = False  # the same was asked before, and the answer may have been lost
    embedder: str = ""  # what makes the vectors of stores that are made along

    def owner(self, db: Database) -> Owner:
        """Whose vector stores they are."""
        return Owner(db, self.project, self.embedder, self.now)


class Started(NamedTuple):
    """A run that was set going: its body, and the event after which its stream begins."""

    run: Run
    body: bytes
    after: int


# What is to be written along with what was started, once it is known.
Also = Callable[[Started], Sequence[Statement]]


class Driver(NamedTuple):
    """A driver of this process that is held for a run; `drive` is called once that is written."""

    server: str
    drive: Callable[[Lease, StoredRun | None], None]


# Holds a driver for a run that is about to be queued; None where the run has to wait its turn, or
# is left to the server that is named, which has the session of its thread.
Dispatch = Callable[[str], AbstractContextManager[Driver | None]]


def no_driver(_: str) -> AbstractContextManager[None]:
    """Has every run wait its turn."""
    return nullcontext()


def interrupt_topic(run_id: str) -> str:
    """What is notified when whoever drives the run should look at it again."""
    return f"interrupt:{run_id}"


def rest_topic(run_id: str) -> str:
    """What is notified when the run has changed its status."""
    return f"status:{run_id}"


async def create(
    db: Database,
    log: EventLog,
    asking: Asking,
    thread_id: str,
    asked: CreateRun,
    *,
    expires_at: int,
    also: Also,
    dispatch: Dispatch = no_driver,
) -> Started:
    """A queued run on a thread: NotFound, or ThreadLocked while another holds it."""
    assistant = await _assistant(db, asking.project, asked.assistant_id)
    thread = decode_thread(await threads.get(db, asking.project, thread_id))
    run = new_run(assistant, asked, thread_id=thread_id, now=asking.now, expires_at=expires_at)
    added = asked.additional_messages or []
    if added:
        await messages.check_room(db, thread_id, added=len(added))
    await _check_has_prompt(db, run, added, asked.additional_instructions)
    if prompt.searches(run):
        where = run.tool_resources, thread.tool_resources
        await searching.check_stores(db, asking.project, *where, now=asking.now)
    attaching = await resources.attaching(asking.owner(db), thread_id, added)
    statements = [
        runs.taking_thread(asking.project, thread_id, run.id),
        *attaching,
        *_appending(added, run, asking.now),
    ]
    opening = [Event("thread.run.created", run), Event("thread.run.queued", run)]
    holder = await _holder(db, run)
    with dispatch(holder) as driver:
        queued = _queuing(run, driver, holder)
        prepared = _prepared(asking, run, asked, opening, statements, queued)
        await runs.create(db, asking.project, run, [*prepared.statements, *also(prepared.shown)])
        resources.announce(db, attaching)
        _announce(db, log, prepared.shown, prepared.record, driver, prepared.stored)
    return prepared.shown


async def create_thread_and_run(
    db: Database,
    log: EventLog,
    asking: Asking,
    asked: CreateThreadAndRun,
    *,
    expires_at: int,
    also: Also,
    dispatch: Dispatch = no_driver,
) -> Started:
    """A new thread with a queued run on it; NotFound without the assistant."""
    assistant = await _assistant(db, asking.project, asked.assistant_id)
    wanted = asked.thread or CreateThread()
    thread, bringing = await resources.new_thread(asking.owner(db), wanted, asked.tool_resources)
    run = new_run(assistant, asked, thread_id=thread.id, now=asking.now, expires_at=expires_at)
    added = wanted.messages or []
    await _check_has_prompt(db, run, added, None)
    if prompt.searches(run):
        where = run.tool_resources, thread.tool_resources
        await searching.check_stores(db, asking.project, *where, now=asking.now)
    statements = [
        threads.adding(
            asking.project,
            thread.id,
            msgspec.json.encode(thread),
            now=asking.now,
            active_run_id=run.id,
        ),
        *threads.labelling(thread.id, thread.metadata),
        *bringing,
        *_appending(added, run, asking.now),
    ]
    opening = [
        Event("thread.created", thread),
        Event("thread.run.created", run),
        Event("thread.run.queued", run),
    ]
    with dispatch(NO_SERVER) as driver:
        queued = _queuing(run, driver, NO_SERVER)
        prepared = _prepared(asking, run, asked, opening, statements, queued)
        if not await db.write(*prepared.statements, *also(prepared.shown)):
            raise Raced(f"Thread '{thread.id}' was not written.")
        resources.announce(db, bringing)
        _announce(db, log, prepared.shown, prepared.record, driver, prepared.stored)
    return prepared.shown


async def cancel(db: Database, asking: Asking, thread_id: str, run_id: str, *, also: Also) -> bytes:
    """The run's body with status `cancelling`; Conflict where there is nothing to cancel."""
    old = await runs.get(db, asking.project, thread_id, run_id)
    run = msgspec.json.decode(old, type=Run)
    if "cancelling" not in NEXT[run.status]:
        raise Conflict(f"Cannot cancel run with status '{run.status}'.")
    run = move(run, "cancelling", now=asking.now)
    body = msgspec.json.encode(run)
    # Whether it waits or is being driven, a driver looks at it at once and ends it.
    enqueuing = leases.enqueuing(thread_id, run_id, urgent=True)
    if not await db.write(
        runs.replacing(run, old=old, new=body), enqueuing, *also(Started(run, body, 0))
    ):
        raise Raced(f"Run '{run_id}' has moved at the same time.")
    db.notify(interrupt_topic(run_id))
    db.notify(leases.TOPIC)
    db.notify(rest_topic(run_id))
    return body


async def submit_tool_outputs(
    db: Database,
    log: EventLog,
    asking: Asking,
    thread_id: str,
    run_id: str,
    asked: SubmitToolOutputs,
    *,
    also: Also,
    dispatch: Dispatch = no_driver,
) -> Started:
    """The run queued again with its calls' outputs; Conflict in another state, or Invalid."""
    old = await runs.get(db, asking.project, thread_id, run_id)
    run = msgspec.json.decode(old, type=Run)
    if asking.is_retry and (started := await _taken_before(db, run, old, asked)):
        return started
    if run.status != "requires_action" or run.required_action is None:
        raise Conflict(f'Runs in status "{run.status}" do not accept tool outputs.')
    if run.expires_at is not None and run.expires_at <= asking.now:
        raise Conflict('Runs in status "expired" do not accept tool outputs.')
    step = _with_outputs(await _open_step(db, thread_id, run_id), run, asked, asking.now)
    run = move(run, "queued", now=asking.now)
    body = msgspec.json.encode(run)
    last = await last_number(db, thread_id, run_id)
    events = [Event("thread.run.step.completed", step), Event("thread.run.queued", run)]
    record = _record(events, after=last)
    started = Started(run, body, last)
    holder = await _holder(db, run)
    with dispatch(holder) as driver:
        if not await db.write(
            appending(thread_id, run_id, record, fence=None),
            runs.replacing(run, old=old, new=body),
            steps.replacing(step, msgspec.json.encode(step)),
            _queuing(run, driver, holder),
            *also(started),
        ):
            raise Raced(f"Run '{run_id}' has moved at the same time.")
        db.notify(rest_topic(run_id))
        _announce(db, log, started, record, driver, None)
    return started


class _Prepared(NamedTuple):
    """A run that is about to be written."""

    shown: Started
    stored: StoredRun
    record: Record
    statements: list[Statement]


def _prepared(
    asking: Asking,
    run: Run,
    asked: RunOptions,
    opening: list[Event],
    statements: Sequence[Statement],
    queued: Statement,
) -> _Prepared:
    body = msgspec.json.encode(run)
    record = _record(opening, after=0)
    additional = asked.additional_instructions if isinstance(asked, CreateRun) else None
    adding = runs.adding(
        asking.project,
        run,
        body,
        expires_at=run.expires_at or asking.now,
        additional_instructions=additional,
        fingerprint=asking.fingerprint,
    )
    opened = appending(run.thread_id, run.id, record, fence=None)
    stored = StoredRun(body, additional, record.last)
    return _Prepared(Started(run, body, 0), stored, record, [*statements, adding, opened, queued])


async def _holder(db: Database, run: Run) -> str:
    """The server that has the session in which the run may run code, if one has."""
    return await code_sessions.holder(db, run.thread_id) if prompt.runs_code(run) else NO_SERVER


def _queuing(run: Run, driver: Driver | None, holder: str) -> Statement:
    if driver is not None:
        return leases.enqueuing_claimed(run.thread_id, run.id, server=driver.server)
    if holder != NO_SERVER:
        return leases.enqueuing_kept(run.thread_id, run.id, server=holder)
    return leases.enqueuing(run.thread_id, run.id)


def _announce(
    db: Database,
    log: EventLog,
    started: Started,
    record: Record,
    driver: Driver | None,
    stored: StoredRun | None,
) -> None:
    """Let listeners hear it, and its driver, or whoever is the next to be free."""
    run = started.run
    log.announce(run.id, record)
    if driver is not None:
        driver.drive(Lease(run.thread_id, run.id, fence=1), stored)
    else:
        db.notify(leases.TOPIC)


def _record(events: Sequence[Event], *, after: int) -> Record:
    body = b"".join(render(event, number) for number, event in enumerate(events, after + 1))
    return Record(after + 1, after + len(events), body)


def _appending(added: Sequence[CreateMessage], run: Run, now: int) -> list[Statement]:
    written = [Message.new(message, thread_id=run.thread_id, now=now) for message in added]
    return [
        statement
        for message in written
        for statement in messages.appending(message, msgspec.json.encode(message))
    ]


async def _assistant(db: Database, project: str, assistant_id: str) -> Assistant:
    return msgspec.json.decode(await assistants.get(db, project, assistant_id), type=Assistant)


async def _check_has_prompt(
    db: Database, run: Run, added: Sequence[CreateMessage], additional_instructions: str | None
) -> None:
    if added or run.instructions or additional_instructions:
        return
    if not await messages.any_in(db, run.thread_id):
        raise Invalid(
            "Run creation requires a Thread with a user message or an assistant with instructions.",
            code="invalid_thread",
        )


async def _open_step(db: Database, thread_id: str, run_id: str) -> Step:
    """The step that waits for outputs: a run in requires_action always has one.

    It need not be the last: some models go on writing after their calls.
    """
    bodies = await steps.of_run(db, thread_id, run_id)
    found = (msgspec.json.decode(body, type=Step) for body in reversed(bodies))
    waiting = next((step for step in found if step.status == "in_progress"), None)
    if waiting is None:  # others' outputs came between the run's read and its steps'
        raise Raced(f"Run '{run_id}' has moved at the same time.")
    return waiting


async def _taken_before(
    db: Database, run: Run, body: bytes, asked: SubmitToolOutputs
) -> Started | None:
    """What these very outputs have set going already, if the run does not wait for them now.

    Any server can tell, and after any crash: the step and the log say what was taken.
    """
    given = {output.tool_call_id: output.output for output in asked.tool_outputs}
    if set(given) == set(_waiting_calls(run)):
        return None
    bodies = await steps.of_run(db, run.thread_id, run.id)
    found = [msgspec.json.decode(stored, type=Step) for stored in bodies]
    answered = [step for step in found if step.status == "completed" and _outputs(step)]
    if not answered or _outputs(answered[-1]) != given:
        return None
    begins = b'event: thread.run.step.completed\ndata: {"id":"%s"' % answered[-1].id.encode()
    async for record in read_all(db, run.thread_id, run.id):
        if record.body.partition(b"\n")[2].startswith(begins):
            return Started(run, body, record.first - 1)
    return None


def _waiting_calls(run: Run) -> list[str]:
    action = run.required_action
    return [call.id for call in action.submit_tool_outputs.tool_calls] if action else []


def _outputs(step: Step) -> dict[str, str | None]:
    return {
        call.id: call.function.output for call in calls_of(step) if isinstance(call, FunctionCall)
    }


def _with_outputs(step: Step, run: Run, asked: SubmitToolOutputs, now: int) -> Step:
    expected = _waiting_calls(run)
    given = [output.tool_call_id for output in asked.tool_outputs]
    if sorted(expected) != sorted(given):
        raise Invalid(f"Expected tool outputs for call_ids {expected}, got {given}")
    outputs = {output.tool_call_id: output.output for output in asked.tool_outputs}
    calls = [_with_output(call, outputs) for call in calls_of(step)]
    return end_step(step, "completed", now=now, details=ToolCallsDetails(calls))


def _with_output(call: ToolCall, outputs: Mapping[str, str]) -> ToolCall:
    """The call with what the client has given; what the server has found itself is there."""
    if not isinstance(call, FunctionCall):
        return call
    function = structs.replace(call.function, output=outputs[call.id])
    return structs.replace(call, function=function)
