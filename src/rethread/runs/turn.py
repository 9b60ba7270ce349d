"""One model call: chunks in, events and finished objects out. Pure.

The stock SDKs build their snapshots from these events, and crash on some shapes: a message's
first part has index 0, an id or a name is sent once only, and a finished message has as many
parts as were streamed. Source: the SDKs' stream handlers, 1.x to 3.x.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import structs

from rethread.contract import new_id
from rethread.contract.chat import Chunk, ToolCallDelta
from rethread.contract.events import Event, EventName
from rethread.contract.messages import (
    IncompleteReason,
    Message,
    MessageChange,
    MessageDelta,
    Part,
    RefusalPart,
    RefusalPartDelta,
    TextDelta,
    TextPart,
    TextPartDelta,
    TextValue,
)
from rethread.contract.runs import (
    LastError,
    Run,
    RunStatus,
    Usage,
)
from rethread.contract.steps import (
    FunctionCall,
    FunctionCallDelta,
    FunctionDelta,
    FunctionResult,
    MessageCreation,
    MessageCreationDetails,
    Step,
    StepChange,
    StepDelta,
    StepStatus,
    ToolCallsDelta,
    ToolCallsDetails,
)
from rethread.errors import ModelError
from rethread.runs.lifecycle import (
    MESSAGE_REASON,
    STEP_STATUS,
    end_message,
    end_step,
    new_message,
    new_step,
)
from rethread.runs.usage import counted

TurnEnd = Literal["answered", "called_functions", "length", "content_filter"]

EMPTY_ARGUMENTS: Final = "{}"
LONGEST_JOINED: Final = 16 * 1024  # characters; a listener has to hold what comes as one
STEP_EVENTS: Final[Mapping[StepStatus, EventName]] = {
    "in_progress": "thread.run.step.in_progress",
    "completed": "thread.run.step.completed",
    "failed": "thread.run.step.failed",
    "cancelled": "thread.run.step.cancelled",
    "expired": "thread.run.step.expired",
}


class Ending(NamedTuple):
    """How a turn ended, and the events that say so; `calls` wait for the client."""

    kind: TurnEnd
    events: list[Event]
    step: Step | None
    calls: list[FunctionCall]


class _Call:
    """A function call while it is being streamed."""

    def __init__(self, id: str, index: int | None) -> None:
        self.id = id
        self.upstream_index = index
        self.name = ""
        self.arguments = ""
        self.is_announced = False


class Turn:
    """One answer of the model while it is being streamed."""

    def __init__(self, run: Run, *, offered: frozenset[str]) -> None:
        self._run = run
        self._offered = offered
        self._message: Message | None = None
        self._message_step: Step | None = None
        self._parts: dict[Literal["text", "refusal"], list[str]] = {}
        self._blanks = ""
        self._calls: list[_Call] = []
        self._calls_step: Step | None = None
        self._finish_reason: str | None = None
        self.usage: Usage | None = None
        self._written: list[str] = []

    @property
    def written(self) -> str:
        """Everything that the model wrote, for counting its tokens."""
        return "".join(self._written)

    def feed(self, chunk: Chunk, *, now: int) -> list[Event]:
        """The events of one chunk."""
        if chunk.usage is not None:
            self.usage = counted(chunk.usage)
        events: list[Event] = []
        for choice in chunk.choices[:1]:
            if choice.delta is not None:
                if text := self._past_blanks(choice.delta.content):
                    self._add_text("text", text, events, now)
                if choice.delta.refusal:
                    self._add_text("refusal", choice.delta.refusal, events, now)
                for piece in choice.delta.tool_calls or ():
                    self._add_call(piece, events, now)
            self._finish_reason = choice.finish_reason or self._finish_reason
        return events

    def end(self, *, usage: Usage, now: int) -> Ending:
        """The turn's last events, once the stream has ended well.

        ModelError for calls that cannot be handed on; the turn can still be abandoned then.
        """
        if self._finish_reason == "length":
            return self._cut("length", usage, now)
        if self._finish_reason == "content_filter":
            return self._cut("content_filter", usage, now)
        events: list[Event] = []
        if self._calls:
            return self._hand_on_calls(events, usage, now)
        if self._message is None:
            # An answer of nothing is an answer: an empty text, which was streamed as such.
            self._add_text("text", self._blanks, events, now)
        self._complete_message(events, usage, now)
        return Ending("answered", events, None, [])

    def abandon(self, status: RunStatus, error: LastError | None, *, now: int) -> list[Event]:
        """The events that close what is open, when the run ends in that status meanwhile."""
        events: list[Event] = []
        to = STEP_STATUS[status]
        if self._message is not None and self._message_step is not None:
            message = end_message(self._so_far(), now=now, cut_by=MESSAGE_REASON[status])
            events.append(Event("thread.message.incomplete", message))
            step = end_step(self._message_step, to, now=now, error=error)
            events.append(step_event(step))
        if self._calls_step is not None:
            step = end_step(self._calls_step, to, now=now, error=error, details=self._details())
            events.append(step_event(step))
        self._message = self._message_step = self._calls_step = None
        return events

    def _past_blanks(self, content: str | None) -> str | None:
        """The text to show: where functions are offered, blanks alone wait for what follows.

        Many models write blank lines around their calls, which are no message.
        """
        if not content or self._message is not None or not self._offered:
            return content
        text, self._blanks = self._blanks + content, ""
        if text.isspace():
            text, self._blanks = "", text
        return text

    def _add_text(
        self, kind: Literal["text", "refusal"], text: str, events: list[Event], now: int
    ) -> None:
        if self._message is None:
            self._begin_message(events, now)
        assert self._message is not None
        first = kind not in self._parts
        self._parts.setdefault(kind, []).append(text)
        self._written.append(text)
        index = list(self._parts).index(kind)
        part: TextPartDelta | RefusalPartDelta
        if kind == "refusal":
            part = RefusalPartDelta(index, text)
        else:
            part = TextPartDelta(index, TextDelta(text, []) if first else TextDelta(text))
        delta = MessageDelta(id=self._message.id, delta=MessageChange([part]))
        events.append(Event("thread.message.delta", delta))

    def _begin_message(self, events: list[Event], now: int) -> None:
        message = self._message = new_message(self._run, now=now)
        self._parts = {}
        details = MessageCreationDetails(MessageCreation(message.id))
        self._message_step = _begun(new_step(self._run, details, now=now), events)
        events.append(Event("thread.message.created", message))
        events.append(Event("thread.message.in_progress", message))

    def _complete_message(self, events: list[Event], usage: Usage | None, now: int) -> None:
        assert self._message_step is not None
        events.append(Event("thread.message.completed", end_message(self._so_far(), now=now)))
        step = end_step(self._message_step, "completed", now=now, usage=usage)
        events.append(step_event(step))
        self._message = self._message_step = None

    def _add_call(self, piece: ToolCallDelta, events: list[Event], now: int) -> None:
        if self._message is not None:
            self._complete_message(events, None, now)
        call = self._call_of(piece)
        if self._calls_step is None:
            self._calls_step = _begun(new_step(self._run, ToolCallsDetails(), now=now), events)
        name = (piece.function.name if piece.function else None) or ""
        arguments = (piece.function.arguments if piece.function else None) or ""
        # Some servers repeat the name in every piece; the first one counts.
        call.name = call.name or name
        call.arguments += arguments
        self._written.append(arguments if call.is_announced else name + arguments)
        for each in self._calls:  # in order: the SDKs put a call at its index into a list
            if not each.name:
                break
            self._announce(each, arguments if each is call else "", events)

    def _announce(self, call: _Call, arguments: str, events: list[Event]) -> None:
        """A call's delta; the first one has its id and name, and empty arguments."""
        if not call.is_announced:
            call.is_announced = True
            events.append(self._call_delta(call, FunctionDelta("", name=call.name, output=None)))
            arguments = call.arguments
        if arguments:
            events.append(self._call_delta(call, FunctionDelta(arguments)))

    def _call_delta(self, call: _Call, function: FunctionDelta) -> Event:
        assert self._calls_step is not None
        delta = FunctionCallDelta(index=self._calls.index(call), function=function)
        if function.name is not msgspec.UNSET:
            delta = structs.replace(delta, id=call.id)
        change = StepChange(ToolCallsDelta([delta]))
        return Event("thread.run.step.delta", StepDelta(id=self._calls_step.id, delta=change))

    def _call_of(self, piece: ToolCallDelta) -> _Call:
        """The call that a piece belongs to; a new one for a new index, or a new id at an old one.

        Servers differ: some leave the index out or always say 0, some repeat the id, some say
        another id in every piece. Only the first piece of a call has its name.
        """
        here = [
            call
            for call in reversed(self._calls)
            if piece.index is None or piece.index == call.upstream_index
        ]
        for call in here:
            if piece.id == call.id:
                return call
        if here and not (piece.id and piece.function and piece.function.name):
            return here[0]
        taken = {call.id for call in self._calls}
        id = piece.id if piece.id and piece.id not in taken else new_id("call")
        self._calls.append(_Call(id, piece.index))
        return self._calls[-1]

    def _hand_on_calls(self, events: list[Event], usage: Usage, now: int) -> Ending:
        for call in self._calls:  # before anything is closed: a turn that fails is abandoned
            self._check(call)
        if self._message is not None:
            self._complete_message(events, None, now)
        for call in self._calls:
            if not call.arguments.strip():
                call.arguments = ""
                events.append(self._call_delta(call, FunctionDelta(EMPTY_ARGUMENTS)))
                call.arguments = EMPTY_ARGUMENTS
        assert self._calls_step is not None
        details = ToolCallsDetails(self._function_calls())
        step = structs.replace(self._calls_step, step_details=details, usage=usage)
        return Ending("called_functions", events, step, self._function_calls())

    def _check(self, call: _Call) -> None:
        if call.name not in self._offered:
            raise ModelError(
                f"The model called the function '{call.name}', which this run does not offer.",
                reason="function not offered",
            )
        try:
            msgspec.json.decode(call.arguments.strip() or EMPTY_ARGUMENTS)
        except (msgspec.DecodeError, RecursionError) as problem:
            raise ModelError(
                f"The model called the function '{call.name}' with arguments that are not JSON: "
                f"{problem}.",
                reason="arguments not JSON",
            ) from problem

    def _cut(self, kind: Literal["length", "content_filter"], usage: Usage, now: int) -> Ending:
        """A message that was cut is incomplete, though its step is completed.

        A call that was cut cannot be made, so its step has failed.
        """
        events: list[Event] = []
        if not self._calls and self._message is None:
            self._add_text("text", self._blanks, events, now)
        if self._message is not None and self._message_step is not None:
            cut_by: IncompleteReason = "max_tokens" if kind == "length" else kind
            message = end_message(self._so_far(), now=now, cut_by=cut_by)
            events.append(Event("thread.message.incomplete", message))
            spent = None if self._calls else usage
            step = end_step(self._message_step, "completed", now=now, usage=spent)
            events.append(step_event(step))
        if self._calls_step is not None:
            error = LastError("server_error", "The model's answer was cut off in a function call.")
            details = self._details()
            step = end_step(
                self._calls_step, "failed", now=now, error=error, details=details, usage=usage
            )
            events.append(step_event(step))
        self._message = self._message_step = self._calls_step = None
        return Ending(kind, events, None, [])

    def _so_far(self) -> Message:
        """The message with what was streamed into it."""
        assert self._message is not None
        parts: list[Part] = []
        for kind, pieces in self._parts.items():
            text = "".join(pieces)
            parts.append(TextPart(TextValue(text)) if kind == "text" else RefusalPart(text))
        return structs.replace(self._message, content=parts)

    def _details(self) -> ToolCallsDetails | None:
        return ToolCallsDetails(self._function_calls()) if self._calls else None

    def _function_calls(self) -> list[FunctionCall]:
        return [
            FunctionCall(id=call.id, function=FunctionResult(call.name, call.arguments))
            for call in self._calls
        ]


def merged(events: list[Event]) -> list[Event]:
    """The same events with neighbouring deltas of one text joined: what waits goes out as one."""
    joined: list[Event] = []
    for event in events:
        if joined and (both := _joined(joined[-1], event)):
            joined[-1] = both
        else:
            joined.append(event)
    return joined


def _joined(earlier: Event, later: Event) -> Event | None:
    """One delta for two of the same message's text; None where they must stay apart."""
    first, second = earlier.payload, later.payload
    if not isinstance(first, MessageDelta) or not isinstance(second, MessageDelta):
        return None
    part, more = first.delta.content[0], second.delta.content[0]
    if not isinstance(part, TextPartDelta) or not isinstance(more, TextPartDelta):
        return None
    if first.id != second.id or part.index != more.index or more.text.annotations:
        return None
    if len(part.text.value) + len(more.text.value) > LONGEST_JOINED:
        return None
    text = structs.replace(part.text, value=part.text.value + more.text.value)
    delta = MessageDelta(id=first.id, delta=MessageChange([TextPartDelta(part.index, text)]))
    return Event("thread.message.delta", delta)


def step_event(step: Step) -> Event:
    """The event that says how a step ended."""
    return Event(STEP_EVENTS[step.status], step)


def _begun(step: Step, events: list[Event]) -> Step:
    events.append(Event("thread.run.step.created", step))
    events.append(Event("thread.run.step.in_progress", step))
    return step
