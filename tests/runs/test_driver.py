"""A run whose time is over in the middle of a search ends, whoever has not answered yet."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from rethread.contract.chat import ChatRequest, Chunk
from rethread.contract.runs import Run
from rethread.contract.steps import Step, calls_of
from rethread.contract.tools import FileSearchTool
from rethread.contract.vector_stores import CreateVectorStore
from rethread.runs import driver
from rethread.runs.commands import interrupt_topic
from rethread.runs.engine import Engine
from rethread.store import runs, steps
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog
from rethread.tools.file_search.stores import new_store
from tests.fakes import replies
from tests.fakes.replies import Call
from tests.heard import chunks_of
from tests.objects import NOW, PROJECT, claimed, stored_assistant, stored_run


class Searching:
    """A model that searches, and a search that never ends."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        """An answer that calls the tool."""
        for chunk in chunks_of(replies.tool_calls(Call("c", "file_search", '{"queries": ["x"]}'))):
            yield chunk

    async def search(self, *_: Any, **__: Any) -> Any:
        """Nothing, ever."""
        self.has_begun.set()
        await asyncio.get_running_loop().create_future()


async def test_a_run_expires_in_the_middle_of_a_search(db: Database) -> None:
    store = await new_store(db, PROJECT, CreateVectorStore(), embedder="", now=NOW)
    assert await db.write(*store.statements)
    # As an assistant is stored: with ids alone.
    resources: Any = {"file_search": {"vector_store_ids": [store.id]}}
    assistant = await stored_assistant(db, tools=[FileSearchTool()])
    assistant = msgspec.structs.replace(assistant, tool_resources=resources)
    body = msgspec.json.encode(assistant)
    await db.write(Statement("UPDATE assistants SET body = $2 WHERE id = $1", assistant.id, body))
    log, parts, now = EventLog(db), Searching(), [NOW]
    started = await stored_run(db, log, assistant=assistant)
    nothing: Any = None
    several: Any = parts
    engine = Engine(
        db=db,
        blobs=nothing,
        log=log,
        provider=several,
        resolve_model=str,
        context_window=lambda _: 10_000,
        count_tokens=len,
        clock=lambda: now[0],
        search=several,
    )
    driving = asyncio.create_task(driver.drive(engine, await claimed(db)))
    await parts.has_begun.wait()
    now[0] += 600
    db.notify(interrupt_topic(started.run.id))
    await driving
    thread_id, run_id = started.run.thread_id, started.run.id
    run = msgspec.json.decode(await runs.get(db, PROJECT, thread_id, run_id), type=Run)
    assert (run.status, run.usage is not None) == ("expired", True)
    [only] = await steps.of_run(db, thread_id, run_id)
    step = msgspec.json.decode(only, type=Step)
    assert (step.status, len(calls_of(step)), step.last_error) == ("expired", 1, None)
