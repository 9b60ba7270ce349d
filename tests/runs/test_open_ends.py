"""What a driver that went away has left open is ended with what listeners had seen of it."""

from collections.abc import Sequence

import msgspec
import pytest

from rethread.contract.messages import (
    FileCitation,
    FileCitationAnnotation,
    FilePath,
    FilePathAnnotation,
    ImageFileInput,
    ImageFilePart,
    Message,
    RefusalPart,
    TextPart,
    TextValue,
)
from rethread.contract.runs import LastError, Run
from rethread.contract.steps import FunctionCall, FunctionResult, Step, ToolCallsDetails
from rethread.runs import open_ends
from rethread.runs.calls import Offer
from rethread.runs.lifecycle import move
from rethread.runs.recorder import Recorder
from rethread.runs.turn import Turn
from rethread.runs.writing import NOTHING_KNOWN, Known
from rethread.store import messages, steps
from rethread.store.database import Database
from rethread.store.events import EventLog
from tests.fakes import replies
from tests.fakes.replies import Reply
from tests.heard import PARIS, Heard, feed, names
from tests.objects import NOW, PROJECT, claimed, stored_run


async def left_open(
    db: Database,
    *answers: Reply,
    known: Known = NOTHING_KNOWN,
    images: Sequence[str] = (),
) -> tuple[Run, list[Step]]:
    """A run whose driver went away after it had recorded these answers, and its steps."""
    log = EventLog(db)
    started = await stored_run(db, log)
    run = move(started.run, "in_progress", now=NOW)
    recorder = Recorder(log, await claimed(db), last_number=2)
    turn = Turn(run, offer=Offer(frozenset({"weather"})), known=known, images=images)
    for answer in answers:
        recorder.record(feed(turn, answer))
        await recorder.settle()
    bodies = await steps.of_run(db, run.thread_id, run.id)
    return run, [msgspec.json.decode(body, type=Step) for body in bodies]


async def test_a_message_in_progress_ends_with_what_was_streamed_into_it(db: Database) -> None:
    half = replies.text("Hel", "lo, ")
    run, open_steps = await left_open(
        db, replies.text("first"), replies.tool_calls(PARIS), half, replies.refusal("no"),
        replies.text("wörld"),
    )  # fmt: skip
    error = LastError("server_error", "gone")
    events = await open_ends.closing(db, run, open_steps, status="failed", now=NOW, error=error)
    assert names(events) == ["run.step.failed", "message.incomplete", "run.step.failed"]
    message = events[1].payload
    assert isinstance(message, Message)
    assert message.content == [TextPart(TextValue("Hello, wörld")), RefusalPart("no")]
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "run_failed"
    Heard(events)


async def test_a_message_in_progress_keeps_what_it_has_cited(db: Database) -> None:
    mark = "【0:0†a.md】"
    said = replies.text("As it says", mark[:4], mark[4:] + "!", mark[:4])
    run, open_steps = await left_open(db, said, known=Known({mark: "file-a"}))
    message = (await open_ends.closing(db, run, open_steps, status="failed", now=NOW))[0].payload
    assert isinstance(message, Message)
    cited = FileCitationAnnotation(mark, 10, 10 + len(mark), FileCitation("file-a"))
    assert message.content == [TextPart(TextValue(f"As it says{mark}!", [cited]))]


@pytest.mark.parametrize("status", ["cancelled", "expired"])
async def test_a_call_that_waits_for_its_output_ends_as_the_run_does(
    db: Database, status: str
) -> None:
    run, open_steps = await left_open(db, replies.tool_calls(PARIS))
    events = await open_ends.closing(db, run, open_steps, status=status, now=NOW)  # type: ignore[arg-type]
    assert names(events) == [f"run.step.{status}"]
    step = events[0].payload
    assert isinstance(step, Step)
    assert step.step_details == ToolCallsDetails(
        [FunctionCall(id=PARIS.id, function=FunctionResult(PARIS.name, PARIS.arguments))]
    )
    assert step.last_error is None


async def test_what_has_ended_stays_as_it_is(db: Database) -> None:
    run, open_steps = await left_open(db, replies.text("done"), replies.tool_calls(PARIS))
    assert [step.status for step in open_steps] == ["completed", "in_progress"]
    events = await open_ends.closing(db, run, open_steps, status="cancelled", now=NOW)
    assert names(events) == ["run.step.cancelled"]


async def test_a_message_in_progress_keeps_its_images_and_its_links(sqlite: Database) -> None:
    link = "sandbox:/mnt/data/x.csv"
    known = Known(paths={"x.csv": "file-x"})
    half = replies.text(f"({link})", " and")
    run, open_steps = await left_open(sqlite, half, known=known, images=["file-i"])
    [cut, _] = await open_ends.closing(sqlite, run, open_steps, status="failed", now=NOW)
    assert isinstance(cut.payload, Message)
    linked = FilePathAnnotation(link, 1, 1 + len(link), FilePath("file-x"))
    assert cut.payload.content == [
        ImageFilePart(ImageFileInput("file-i", "auto")),
        TextPart(TextValue(f"({link}) and", [linked])),
    ]


async def test_a_message_that_was_deleted_meanwhile_is_not_spoken_of(db: Database) -> None:
    run, open_steps = await left_open(db, replies.text("half"))
    rows = await db.read("SELECT id FROM messages WHERE run_id = $1", run.id)
    await messages.delete(db, PROJECT, run.thread_id, rows[0][0], now=NOW)
    events = await open_ends.closing(db, run, open_steps, status="cancelled", now=NOW)
    assert names(events) == ["run.step.cancelled"]


async def test_a_run_that_left_nothing_open_needs_no_closing(db: Database) -> None:
    run, open_steps = await left_open(db)
    assert await open_ends.closing(db, run, open_steps, status="failed", now=NOW) == []
