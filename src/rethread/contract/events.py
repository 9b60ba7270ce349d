"""Stream events: every name, what each carries, and their bytes on the wire.

`render` gives what is stored in a run's log and sent to listeners alike, so a stream that
is read again gives the same bytes. Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from typing import Final, Literal, NamedTuple

import msgspec

from rethread.contract.messages import Message, MessageDelta
from rethread.contract.runs import Run
from rethread.contract.steps import Step, StepDelta, shown
from rethread.contract.threads import Thread

EventName = Literal[
    "thread.created",
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.requires_action",
    "thread.run.completed",
    "thread.run.incomplete",
    "thread.run.failed",
    "thread.run.cancelling",
    "thread.run.cancelled",
    "thread.run.expired",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.run.step.delta",
    "thread.run.step.completed",
    "thread.run.step.failed",
    "thread.run.step.cancelled",
    "thread.run.step.expired",
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.message.incomplete",
]

Payload = Thread | Run | Step | StepDelta | Message | MessageDelta

# One newline: with an empty line behind it, a stock SDK that has seen an `id:` would take the
# comment for an empty record and fail to parse it.
KEEP_ALIVE: Final = b": ping\n"

# After these a run's stream ends: nothing more comes until the client does something.
RESTING: Final[frozenset[str]] = frozenset(
    {
        "thread.run.requires_action",
        "thread.run.completed",
        "thread.run.incomplete",
        "thread.run.failed",
        "thread.run.cancelled",
        "thread.run.expired",
    }
)

_encoder: Final = msgspec.json.Encoder()


class Event(NamedTuple):
    """One event of a run."""

    name: EventName
    payload: Payload


def render(event: Event, number: int) -> bytes:
    """The event as one SSE record whose id is its number in the run's log."""
    seen = shown(event.payload) if isinstance(event.payload, Step) else event.payload
    payload = _encoder.encode(seen)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, event.name.encode(), payload)


def render_done(number: int) -> bytes:
    """The record that ends a stream; it repeats the last event's number, as it is not stored."""
    return b"id: %d\nevent: done\ndata: [DONE]\n\n" % number


def rendered_number(record: bytes) -> int:
    """The number of a record that `render` made."""
    return int(record[4 : record.index(b"\n")])


def rendered_name(record: bytes) -> str:
    """The event name of a record that `render` made; blank lines in front are passed over."""
    start = record.index(b"event: ") + len(b"event: ")
    return record[start : record.index(b"\n", start)].decode()
