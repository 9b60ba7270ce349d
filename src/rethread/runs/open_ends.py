"""What an earlier driver of a run has left open, and the events that end it.

A server that went away leaves a message half written; the log is what listeners have seen, so
it says how far the message had got, and what code had put out. A run that is cancelled or expires
while it waits for outputs leaves a step open.
"""

import msgspec
from msgspec import structs

from rethread.contract.events import Event
from rethread.contract.messages import (
    ImageFileInput,
    ImageFilePart,
    ImageFilePartDelta,
    MessageDelta,
    Part,
    PartDelta,
    RefusalPart,
    RefusalPartDelta,
    TextPart,
    TextPartDelta,
    TextValue,
    as_shown,
    decode_message,
)
from rethread.contract.runs import LastError, Run, RunStatus
from rethread.contract.steps import (
    CallDelta,
    CodeInterpreter,
    CodeInterpreterCall,
    CodeInterpreterCallDelta,
    FileSearchCall,
    FileSearchCallDelta,
    FunctionCall,
    FunctionCallDelta,
    FunctionResult,
    MessageCreationDetails,
    Step,
    StepDelta,
    ToolCall,
    ToolCallsDetails,
    calls_of,
)
from rethread.runs.lifecycle import MESSAGE_REASON, STEP_STATUS, end_message, end_step
from rethread.runs.turn import step_event
from rethread.store import messages
from rethread.store.database import Database
from rethread.store.events import read_all
from rethread.tools.code_interpreter import tool as code_interpreter


async def closing(
    db: Database,
    run: Run,
    steps: list[Step],
    *,
    status: RunStatus,
    now: int,
    error: LastError | None = None,
) -> list[Event]:
    """The events that end the steps in progress, and their messages, as a run's end does."""
    events: list[Event] = []
    for step in steps:
        if step.status != "in_progress":
            continue
        details: ToolCallsDetails | None = None
        if isinstance(step.step_details, MessageCreationDetails):
            message_id = step.step_details.message_creation.message_id
            events += await _cut_message(db, run, message_id, status=status, now=now)
        elif not calls_of(step):  # they are stored once all have been made
            details = ToolCallsDetails(await _streamed_calls(db, run, step.id))
        to = STEP_STATUS[status]
        events.append(step_event(end_step(step, to, now=now, error=error, details=details)))
    return events


async def _cut_message(
    db: Database, run: Run, message_id: str, *, status: RunStatus, now: int
) -> list[Event]:
    stored = await messages.of_thread(db, run.thread_id, message_id)
    if stored is None:  # deleted by the client meanwhile
        return []
    message = decode_message(stored)
    message = structs.replace(message, content=await _streamed_content(db, run, message_id))
    cut = end_message(message, now=now, cut_by=MESSAGE_REASON[status])
    return [Event("thread.message.incomplete", cut)]


async def _streamed_content(db: Database, run: Run, message_id: str) -> list[Part]:
    """The message's parts, put together from the deltas in the log."""
    streamed: dict[int, list[PartDelta]] = {}
    async for record in read_all(db, run.thread_id, run.id):
        for line in _deltas(record.body, b"thread.message.delta", message_id):
            for part in msgspec.json.decode(line, type=MessageDelta).delta.content:
                streamed.setdefault(part.index, []).append(part)
    return [_part(pieces) for _, pieces in sorted(streamed.items())]


def _part(pieces: list[PartDelta]) -> Part:
    """What the deltas of one index make."""
    first = pieces[0]
    if isinstance(first, ImageFilePartDelta):
        return ImageFilePart(ImageFileInput(first.image_file.file_id, first.image_file.detail))
    if isinstance(first, RefusalPartDelta):
        return RefusalPart(
            "".join(each.refusal for each in pieces if isinstance(each, type(first)))
        )
    texts = [each.text for each in pieces if isinstance(each, TextPartDelta)]
    annotations = [as_shown(given) for text in texts for given in text.annotations or []]
    return TextPart(TextValue("".join(text.value for text in texts), annotations))


async def _streamed_calls(db: Database, run: Run, step_id: str) -> list[ToolCall]:
    """The step's calls, put together likewise."""
    streamed: dict[int, ToolCall] = {}
    async for record in read_all(db, run.thread_id, run.id):
        for line in _deltas(record.body, b"thread.run.step.delta", step_id):
            delta = msgspec.json.decode(line, type=StepDelta).delta
            for more in delta.step_details.tool_calls:
                streamed[more.index] = _grown(streamed.get(more.index), more)
    return [call for _, call in sorted(streamed.items())]


def _grown(call: ToolCall | None, more: CallDelta) -> ToolCall:
    """A call with what a delta adds to it; the first one has its id."""
    match more:
        case FileSearchCallDelta():
            return FileSearchCall(id=more.id, file_search=more.file_search)
        case FunctionCallDelta():
            return _function(call, more)
        case CodeInterpreterCallDelta():
            return _code(call, more)


def _function(call: ToolCall | None, more: FunctionCallDelta) -> FunctionCall:
    if not isinstance(call, FunctionCall):
        call = FunctionCall(id=more.id or "", function=FunctionResult(more.function.name or "", ""))
    arguments = call.function.arguments + more.function.arguments
    return structs.replace(call, function=structs.replace(call.function, arguments=arguments))


def _code(call: ToolCall | None, more: CodeInterpreterCallDelta) -> CodeInterpreterCall:
    if not isinstance(call, CodeInterpreterCall):
        code = CodeInterpreter(input="", outputs=[])
        call = CodeInterpreterCall(id=more.id or "", code_interpreter=code)
    written, outputs = call.code_interpreter.input, call.code_interpreter.outputs
    for output in more.code_interpreter.outputs or []:
        outputs = code_interpreter.grown(outputs, output)
    code = CodeInterpreter(input=written + (more.code_interpreter.input or ""), outputs=outputs)
    return structs.replace(call, code_interpreter=code)


def _deltas(body: bytes, kind: bytes, id: str) -> list[bytes]:
    """The deltas of one message or step among the events of a record."""
    start = b'data: {"id":"%s","object":"%s"' % (id.encode(), kind)
    return [line[len(b"data: ") :] for line in body.split(b"\n") if line.startswith(start)]
