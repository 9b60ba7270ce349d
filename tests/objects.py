"""Objects that tests of the inner layers start from, made and stored as the program does it."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import structs

from rethread.contract import new_id
from rethread.contract.assistants import Assistant, CreateAssistant
from rethread.contract.files import File
from rethread.contract.messages import CreateMessage, Message
from rethread.contract.runs import CreateRun, Run
from rethread.contract.threads import CreateThread, Thread
from rethread.contract.tools import FunctionDefinition, FunctionTool
from rethread.runs import commands
from rethread.runs.commands import Asking, Started
from rethread.runs.lifecycle import new_run
from rethread.store import assistants, blobs, files, leases, messages, threads
from rethread.store.database import Database
from rethread.store.events import EventLog
from rethread.store.leases import Lease

NOW: Final = 1_700_000_000
PROJECT: Final = "default"
WEATHER: Final = FunctionTool(
    function=FunctionDefinition(name="weather", parameters={"type": "object", "properties": {}})
)


def an_assistant(**fields: Any) -> Assistant:
    """An assistant that has a model and the function `weather`."""
    asked = CreateAssistant(model="m", **{"tools": [WEATHER], **fields})
    return Assistant.new(asked, now=NOW)


def a_run(thread_id: str = "thread_a", assistant: Assistant | None = None, **fields: Any) -> Run:
    """A queued run; `fields` are those of the request, or of the run itself."""
    assistant = assistant or an_assistant()
    own = {name: fields.pop(name) for name in list(fields) if name in {"status", "expires_at"}}
    asked = CreateRun(assistant_id=assistant.id, **fields)
    run = new_run(assistant, asked, thread_id=thread_id, now=NOW, expires_at=NOW + 600)
    return structs.replace(run, **own)


def a_message(thread_id: str, content: Any = "Hello", **fields: Any) -> Message:
    """A user's message; `fields` are those of the message."""
    asked = CreateMessage(role="user", content=content)
    return structs.replace(Message.new(asked, thread_id=thread_id, now=NOW), **fields)


async def stored_thread(db: Database, *, project: str = PROJECT) -> str:
    """The id of a new empty thread."""
    thread = Thread.new(CreateThread(), now=NOW)
    body = msgspec.json.encode(thread)
    assert await db.write(threads.adding(project, thread.id, body, now=NOW))
    return thread.id


async def stored_message(
    db: Database, thread_id: str, content: Any = "Hello", **fields: Any
) -> Message:
    """A message that was added to the thread."""
    message = a_message(thread_id, content, **fields)
    await messages.add(db, PROJECT, message, msgspec.json.encode(message))
    return message


async def stored_assistant(db: Database, **fields: Any) -> Assistant:
    """An assistant that was created."""
    assistant = an_assistant(**fields)
    body = msgspec.json.encode(assistant)
    await assistants.add(db, PROJECT, assistant.id, body, now=NOW)
    return assistant


async def stored_run(
    db: Database,
    log: EventLog | None = None,
    thread_id: str | None = None,
    *,
    assistant: Assistant | None = None,
    now: int = NOW,
    **fields: Any,
) -> Started:
    """A run that was created; its thread has a message."""
    assistant = assistant or await stored_assistant(db)
    if thread_id is None:
        thread_id = await stored_thread(db)
        await stored_message(db, thread_id)
    return await commands.create(
        db,
        log or EventLog(db),
        Asking(PROJECT, now),
        thread_id,
        CreateRun(assistant_id=assistant.id, **fields),
        expires_at=now + 600,
        also=no_more,
    )


async def stored_file(db: Database, filename: str, size: int = 1, *, now: int = NOW) -> str:
    """The id of a file that is there by name."""
    content = hashlib.sha256(filename.encode()).digest()
    file = File.new(filename=filename, size=size, purpose="assistants", expires_after=None, now=now)
    body = msgspec.json.encode(file)
    name = await blobs.reserve(db)
    assert await db.write(*files.adding(PROJECT, file, body, name=name, content=content))
    return file.id


async def claimed(db: Database) -> Lease:
    """The lease of the run whose turn it is."""
    lease = await leases.claim(db)
    assert lease is not None
    return lease


async def waiting(db: Database) -> int:
    """How many runs wait for a driver."""
    return int((await db.read("SELECT COUNT(*) FROM work WHERE claimed = 0"))[0][0])


def no_more(_: Started) -> Sequence[Any]:
    """Nothing to be written along."""
    return ()


def some_id(prefix: Any = "thread") -> str:
    """An id that nothing has."""
    return new_id(prefix)
