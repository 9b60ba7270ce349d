"""A run that has code run: driven to its rest, with a stand-in for the sessions.

What a real session does with code is tested beside it, and the whole through the SDK.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import pytest
from msgspec import structs

from rethread.contract.chat import ChatRequest, Chunk
from rethread.contract.events import rendered_name
from rethread.contract.messages import Message
from rethread.contract.runs import Run, SubmitToolOutputs, ToolOutput
from rethread.contract.steps import (
    CodeInterpreterCall,
    ImageOutput,
    LogsOutput,
    MadeFile,
    OutputImage,
    Step,
    calls_of,
)
from rethread.contract.tools import CodeInterpreterTool
from rethread.errors import ModelError, Unavailable
from rethread.runs import commands, driver
from rethread.runs.commands import Asking
from rethread.runs.engine import Engine
from rethread.store import code_files, events, leases, messages, runs, steps
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog
from rethread.store.files import StoredFile
from rethread.store.pages import PageRequest
from rethread.tools.code_interpreter.sessions import Executed, ImageOut, LogsOut, Output
from rethread.tools.code_interpreter.tool import MOST_EARLIER_CHARACTERS, TOO_MANY_CALLS
from tests.fakes import replies
from tests.fakes.replies import Call, Reply
from tests.heard import PARIS, chunks_of
from tests.objects import (
    NOW,
    PROJECT,
    WEATHER,
    claimed,
    no_more,
    stored_assistant,
    stored_file,
    stored_message,
    stored_run,
    stored_thread,
)

CODE: Final = Call("call_c", "code_interpreter", '{"code": "1 + 1"}')
ASKING: Final = Asking(PROJECT, NOW)
Script = Callable[[Callable[[Output], None]], Awaitable[Executed]]


class Standin:
    """In the place of the sessions: what comes of each call is scripted."""

    def __init__(self, *scripts: Script, refusal: str | None = None) -> None:
        self.scripts = list(scripts)
        self.reason = refusal
        self.asked: list[tuple[str, list[str]]] = []
        self.in_runs: list[str] = []

    @contextmanager
    def in_run(self, thread_id: str) -> Iterator[None]:
        """Note that its run is under way."""
        self.in_runs.append(thread_id)
        yield
        self.in_runs.remove(thread_id)

    async def refusal(self) -> str | None:
        """Why no code can be run."""
        return self.reason

    async def offers(self) -> str:
        """What there is."""
        return "Python 3.99."

    async def run(
        self,
        project: str,
        thread_id: str,
        given: Sequence[StoredFile],
        code: str,
        *,
        on_output: Callable[[Output], None],
    ) -> Executed:
        """Play the next script."""
        assert project == PROJECT
        assert self.in_runs == [thread_id]
        self.asked.append((code, [file.filename for file in given]))
        return await self.scripts.pop(0)(on_output)


class Scripted:
    """A model that gives these answers, one after the other."""

    def __init__(self, *answers: Reply) -> None:
        self.answers = list(answers)
        self.asked: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        """The next one."""
        self.asked.append(request)
        for chunk in chunks_of(self.answers.pop(0)):
            yield chunk

    def told(self, place: int) -> list[Any]:
        """What it was told of its calls, when it was asked the so-manieth time."""
        return [each.content for each in self.asked[place].messages if each.role == "tool"]


def prints(*texts: str, images: Sequence[str] = (), made: Sequence[MadeFile] = ()) -> Script:
    """Code that prints, shows images, and writes files."""

    async def play(on_output: Callable[[Output], None]) -> Executed:
        for text in texts:
            on_output(LogsOut(0, text))
            await asyncio.sleep(0)
        start = int(bool(texts))
        for place, image in enumerate(images, start):
            on_output(ImageOut(place, image))
        logs: list[Any] = [LogsOutput("".join(texts))] if texts else []
        shown = [ImageOutput(OutputImage(image)) for image in images]
        return Executed([*logs, *shown], list(made), "")

    return play


class Endless:
    """Code that prints a word and never ends; `ended` is set once it is interrupted."""

    def __init__(self) -> None:
        self.printed, self.ended = asyncio.Event(), asyncio.Event()
        self.print: Callable[[Output], None] = lambda _: None

    async def __call__(self, on_output: Callable[[Output], None]) -> Executed:
        self.print = on_output
        on_output(LogsOut(0, "begun"))
        self.printed.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.set()
        raise AssertionError


class Scene:
    """A run on a thread, and those who drive it."""

    def __init__(self, db: Database, model: Scripted, sessions: Standin, **fields: Any) -> None:
        self.db, self.log, self.model, self.sessions = db, EventLog(db), model, sessions
        nothing: Any = None
        parts: Any = model, sessions
        self.engine = Engine(
            db=db,
            blobs=nothing,
            log=self.log,
            provider=parts[0],
            resolve_model=str,
            context_window=lambda _: 100_000,
            count_tokens=len,
            clock=lambda: NOW,
            search=nothing,
            code=parts[1],
            **fields,
        )

    async def begin(self, *, file_ids: Sequence[str] = (), **fields: Any) -> Run:
        """A queued run; `file_ids` are for its code."""
        assistant = await stored_assistant(self.db, tools=[CodeInterpreterTool(), WEATHER])
        resources = {"code_interpreter": {"file_ids": list(file_ids)}}
        assistant = structs.replace(assistant, tool_resources=resources)
        await self.db.write(
            Statement(
                "UPDATE assistants SET body = $2 WHERE id = $1",
                assistant.id,
                msgspec.json.encode(assistant),
            )
        )
        self.run = (await stored_run(self.db, self.log, assistant=assistant, **fields)).run
        return self.run

    async def drive(self) -> Run:
        """The run at its next rest."""
        await driver.drive(self.engine, await claimed(self.db))
        return await self.stored()

    async def stored(self) -> Run:
        body = await runs.get(self.db, PROJECT, self.run.thread_id, self.run.id)
        return msgspec.json.decode(body, type=Run)

    async def steps(self) -> list[Step]:
        bodies = await steps.of_run(self.db, self.run.thread_id, self.run.id)
        return [msgspec.json.decode(body, type=Step) for body in bodies]

    async def answers(self) -> list[Any]:
        """The content of the run's messages, as JSON."""
        place = self.run.thread_id, PageRequest(order="asc")
        found = await messages.page(self.db, PROJECT, *place)
        stored = [msgspec.json.decode(body, type=Message) for _, body in found.rows]
        own = [message for message in stored if message.run_id == self.run.id]
        return [msgspec.json.decode(msgspec.json.encode(message.content)) for message in own]

    async def logged(self) -> list[str]:
        """The names of the run's events."""
        records = events.read_all(self.db, self.run.thread_id, self.run.id)
        bodies = [record.body async for record in records]
        named = [rendered_name(each) for body in bodies for each in body.split(b"\n\n")[:-1]]
        return [name.removeprefix("thread.") for name in named]


async def test_code_is_run_and_its_image_and_its_file_are_in_the_answer(db: Database) -> None:
    given, made = await stored_file(db, "data.csv", 12), await stored_file(db, "out.csv", 3)
    said = "[a](sandbox:/mnt/data/out.csv) [b](sandbox:/mnt/data/data.csv) sandbox:/mnt/data/no"
    model = Scripted(replies.tool_calls(CODE), replies.text(said))
    sessions = Standin(prints("1\n", "2\n", images=["file-i"], made=[MadeFile("out.csv", made)]))
    scene = Scene(db, model, sessions)
    run = await scene.begin(file_ids=[given, "file-deleted"])
    await db.write(*code_files.keeping(run.thread_id, "out.csv", made))
    finished = await scene.drive()
    assert (finished.status, sessions.asked) == ("completed", [("1 + 1", ["data.csv"])])
    [offered] = [tool for tool in model.asked[0].tools or [] if "code" in str(tool)]
    description = offered["function"]["description"]
    assert "Python 3.99." in description
    assert "data.csv (12 bytes); out.csv (3 bytes)" in description
    assert model.told(1) == [
        "1\n2\n(An image; the user sees it.)\n\nFiles written: [out.csv](sandbox:/mnt/data/out.csv)"
    ]
    [[image, text]] = await scene.answers()
    assert image["image_file"] == {"file_id": "file-i", "detail": "auto"}
    assert [
        (each["text"], each["file_path"]["file_id"]) for each in text["text"]["annotations"]
    ] == [("sandbox:/mnt/data/out.csv", made), ("sandbox:/mnt/data/data.csv", given)]
    [step, _] = await scene.steps()
    [call] = calls_of(step)
    assert isinstance(call, CodeInterpreterCall)
    outputs = [LogsOutput("1\n2\n"), ImageOutput(OutputImage("file-i"))]
    assert call.code_interpreter.outputs == outputs
    assert (await scene.logged()).count("run.step.completed") == 2
    assert finished.usage
    assert finished.usage.total_tokens == 24
    assert sessions.in_runs == []


async def test_a_link_leads_to_the_newer_of_two_files_of_a_name(sqlite: Database) -> None:
    said = "sandbox:/mnt/data/a.csv sandbox:/mnt/data/b.csv"
    scene = Scene(sqlite, Scripted(replies.text(said)), Standin())
    ages = {"old a": 0, "new a": 1, "old b": 0, "new b": 1}
    found = {
        name: await stored_file(sqlite, f"{name[-1]}.csv", 3 + place, now=NOW + age)
        for place, (name, age) in enumerate(ages.items())
    }
    run = await scene.begin(file_ids=[found["new a"], found["old b"]])
    await sqlite.write(*code_files.keeping(run.thread_id, "a.csv", found["old a"]))
    await sqlite.write(*code_files.keeping(run.thread_id, "b.csv", found["new b"]))
    await scene.drive()
    [[text]] = await scene.answers()
    linked = [each["file_path"]["file_id"] for each in text["text"]["annotations"]]
    assert linked == [found["new a"], found["new b"]]


async def test_code_beside_functions_is_run_before_the_client_is_asked(db: Database) -> None:
    again = Call("call_d", "code_interpreter", "2 + 2")
    model = Scripted(replies.tool_calls(PARIS, CODE, again), replies.text("Done."))
    sessions = Standin(prints("A", images=["file-i"]), prints("B"))
    scene = Scene(db, model, sessions)
    await scene.begin()
    waiting = await scene.drive()
    assert waiting.required_action
    [asked] = waiting.required_action.submit_tool_outputs.tool_calls
    assert (waiting.status, asked.id) == ("requires_action", PARIS.id)
    assert [code for code, _ in sessions.asked] == ["1 + 1", "2 + 2"]
    given = SubmitToolOutputs(tool_outputs=[ToolOutput(PARIS.id, "sunny")])
    place = scene.run.thread_id, scene.run.id
    await commands.submit_tool_outputs(db, scene.log, ASKING, *place, given, also=no_more)
    assert (await scene.drive()).status == "completed"
    assert model.told(1) == ["sunny", "A\n(An image; the user sees it.)", "B"]
    [[image, text]] = await scene.answers()
    assert (image["image_file"]["file_id"], text["text"]["value"]) == ("file-i", "Done.")


@pytest.mark.parametrize("end", ["cancelled", "expired"])
async def test_an_interruption_ends_the_code_and_keeps_what_it_has_printed(
    sqlite: Database, end: str
) -> None:
    endless, now = Endless(), [NOW]
    scene = Scene(sqlite, Scripted(replies.tool_calls(CODE)), Standin(endless))
    scene.engine = scene.engine._replace(clock=lambda: now[0])
    run = await scene.begin()
    driving = asyncio.create_task(scene.drive())
    await endless.printed.wait()
    if end == "cancelled":
        await commands.cancel(sqlite, ASKING, run.thread_id, run.id, also=no_more)
    else:
        now[0] += 600
        sqlite.notify(commands.interrupt_topic(run.id))
    assert (await driving).status == end
    assert endless.ended.is_set()
    [step] = await scene.steps()
    [call] = calls_of(step)
    assert isinstance(call, CodeInterpreterCall)
    assert (step.status, call.code_interpreter.outputs) == (end, [LogsOutput("begun")])


async def test_code_of_a_run_that_is_another_drivers_now_is_ended(sqlite: Database) -> None:
    endless = Endless()
    scene = Scene(sqlite, Scripted(replies.tool_calls(CODE)), Standin(endless))
    await scene.begin()
    driving = asyncio.create_task(scene.drive())
    await endless.printed.wait()
    await sqlite.write(leases.enqueuing(scene.run.thread_id, scene.run.id))
    await sqlite.write(Statement("UPDATE work SET claimed = 0, fence = fence + 1"))
    while not endless.ended.is_set():  # an append that is refused is noticed by the next
        endless.print(LogsOut(0, "more"))
        await asyncio.sleep(0.01)
    assert (await driving).status == "in_progress"


async def test_a_database_that_goes_away_ends_the_code_and_not_its_session(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> bool:
        raise Unavailable("The database is away.")

    endless = Endless()
    scene = Scene(sqlite, Scripted(replies.tool_calls(CODE)), Standin(endless))
    await scene.begin()
    driving = asyncio.create_task(scene.drive())
    await endless.printed.wait()
    monkeypatch.setattr(scene.log, "append", away)
    while not endless.ended.is_set():  # nothing of it is the session's to hear
        endless.print(LogsOut(0, "more"))
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await driving


async def test_a_run_that_is_taken_over_shows_the_images_of_its_finished_code(
    sqlite: Database,
) -> None:
    endless = Endless()
    again = Call("call_d", "code_interpreter", '{"code": "2 + 2"}')
    model = Scripted(replies.tool_calls(CODE), replies.tool_calls(again), replies.text("Done."))
    sessions = Standin(prints("A", images=["file-1", "file-2"]), endless)
    scene = Scene(sqlite, model, sessions)
    await scene.begin()
    driving = asyncio.create_task(scene.drive())
    await endless.printed.wait()
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)
    await sqlite.write(Statement("UPDATE work SET claimed = 0"))
    assert (await scene.drive()).status == "completed"
    found = [
        (step.status, step.last_error and step.last_error.message) for step in await scene.steps()
    ]
    assert found == [("completed", None), ("failed", driver.STOPPED), ("completed", None)]
    [left] = calls_of((await scene.steps())[1])
    assert isinstance(left, CodeInterpreterCall)
    code = left.code_interpreter
    assert (code.input, code.outputs) == ("2 + 2", [LogsOutput("begun")])
    assert model.told(2) == ["A\n(An image; the user sees it.)\n(An image; the user sees it.)"]
    [parts] = await scene.answers()
    assert [part["type"] for part in parts] == ["image_file", "image_file", "text"]


async def test_what_is_said_before_code_and_what_behind_it_show_their_own_images(
    sqlite: Database,
) -> None:
    def both(word: str, id: str) -> Reply:
        call = Call(id, "code_interpreter", '{"code": "1"}')
        calls, text = replies.tool_calls(call), replies.text(word, finish_reason="tool_calls")
        return replies.raw(*text.steps[:2], *calls.steps)

    model = Scripted(both("One", "call_1"), both("Two", "call_2"), replies.text("Three"))
    sessions = Standin(prints(images=["file-1"]), prints(images=["file-2"]))
    scene = Scene(sqlite, model, sessions)
    await scene.begin()
    assert (await scene.drive()).status == "completed"
    shown = [
        [part.get("image_file", {}).get("file_id") or part["text"]["value"] for part in parts]
        for parts in await scene.answers()
    ]
    assert shown == [["One"], ["file-1", "Two"], ["file-2", "Three"]]


async def test_where_no_code_can_be_run_the_run_fails_at_its_start(sqlite: Database) -> None:
    scene = Scene(sqlite, Scripted(), Standin(refusal="Install bubblewrap."))
    await scene.begin()
    failed = await scene.drive()
    assert failed.last_error
    assert (failed.status, failed.last_error.message) == ("failed", "Install bubblewrap.")
    assert (await scene.steps(), scene.model.asked) == ([], [])
    scene.model.answers.append(replies.text("Without code."))
    await scene.begin(tool_choice="none")
    assert (await scene.drive()).status == "completed"
    assert "code" not in str(scene.model.asked[0].tools)


@pytest.mark.parametrize("kind", [ModelError, Unavailable])
async def test_without_a_session_the_step_and_the_run_fail(
    sqlite: Database, kind: type[ModelError | Unavailable]
) -> None:
    async def fails(_: Any) -> Executed:
        raise kind("No session.", reason="code_interpreter")

    scene = Scene(sqlite, Scripted(replies.tool_calls(CODE)), Standin(fails))
    await scene.begin()
    failed = await scene.drive()
    assert failed.last_error
    assert (failed.status, failed.last_error.code) == ("failed", "server_error")
    [step] = await scene.steps()
    assert step.last_error
    assert (step.status, step.last_error.message) == ("failed", "No session.")


async def test_code_is_run_so_often_and_then_no_longer_offered(sqlite: Database) -> None:
    both = replies.tool_calls(CODE, Call("call_d", "code_interpreter", "3"))
    model = Scripted(replies.tool_calls(CODE), both, replies.text("Done."))
    sessions = Standin(prints("A"), prints("B"))
    scene = Scene(sqlite, model, sessions, code_calls_per_run=2)
    await scene.begin()
    assert (await scene.drive()).status == "completed"
    assert model.told(2) == ["A", "B", TOO_MANY_CALLS]
    names = [[tool["function"]["name"] for tool in asked.tools or []] for asked in model.asked]
    assert names == [["weather", "code_interpreter"]] * 2 + [["weather"]]


async def test_the_model_is_told_as_much_as_has_room(sqlite: Database) -> None:
    model = Scripted(replies.tool_calls(CODE), replies.text("Done."))
    scene = Scene(sqlite, model, Standin(prints("begin " + "x" * 90_000 + " end")))
    await scene.begin()
    assert (await scene.drive()).status == "completed"
    [told] = model.told(1)
    assert 10_000 < len(told) <= 16_000
    assert told.startswith("begin x")
    assert told.endswith("x end")
    assert "characters left out" in told


async def test_a_later_run_sees_what_was_run_before_it_if_it_runs_code_too(
    sqlite: Database,
) -> None:
    long = Call("call_l", "code_interpreter", '{"code": "%s"}' % ("y" * 5000))
    model = Scripted(replies.tool_calls(long), replies.text("One."))
    scene = Scene(sqlite, model, Standin(prints("z" * 5000)))
    thread_id = await stored_thread(sqlite)
    await stored_message(sqlite, thread_id)
    await scene.begin(thread_id=thread_id)
    await scene.drive()
    for tools, seen in (([CodeInterpreterTool()], 1), ([WEATHER], 0)):
        model.answers.append(replies.text("Two."))
        await scene.begin(thread_id=thread_id, tools=tools)
        assert (await scene.drive()).status == "completed"
        told = model.told(-1)
        assert len(told) == seen
    asked = model.asked[-2].messages[1]
    assert asked.tool_calls
    [call] = asked.tool_calls
    for text in (call["function"]["arguments"], model.told(-2)[0]):
        assert MOST_EARLIER_CHARACTERS < len(text) < MOST_EARLIER_CHARACTERS + 100
