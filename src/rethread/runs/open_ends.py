"""What an earlier driver of a run has left open, and the events that end it.

A server that went away leaves a message half written; the log is what listeners have seen, so
it says how far the message had got. A run that is cancelled or expires while it waits for
outputs leaves a step open.
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
from rethread.contract.steps import MessageCreationDetails, Step
from rethread.runs.lifecycle import MESSAGE_REASON, STEP_STATUS, end_message, end_step
from rethread.runs.turn import step_event
from rethread.store import messages
from rethread.store.database import Database
from rethread.store.events import read_all


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
        if isinstance(step.step_details, MessageCreationDetails):
            message_id = step.step_details.message_creation.message_id
            events += await _cut_message(db, run, message_id, status=status, now=now)
        events.append(step_event(end_step(step, STEP_STATUS[status], now=now, error=error)))
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
        for delta in _deltas(record.body, message_id):
            for part in delta.delta.content:
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


def _deltas(body: bytes, message_id: str) -> list[MessageDelta]:
    """The deltas of one message among the events of a record."""
    start = b'data: {"id":"%s","object":"thread.message.delta"' % message_id.encode()
    return [
        msgspec.json.decode(line[len(b"data: ") :], type=MessageDelta)
        for line in body.split(b"\n")
        if line.startswith(start)
    ]
