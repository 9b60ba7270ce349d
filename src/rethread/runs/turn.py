"""One model call: chunks in, events and finished objects out. Pure.

What is called is `calls.py`'s to know, and which marks are citations `citations.py`'s.

The stock SDKs build their snapshots from these events, and crash on some shapes: a message's
first part has index 0, an id or a name is sent once only, and a finished message has as many
parts as were streamed. Source: the SDKs' stream handlers, 1.x to 3.x.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from msgspec import UNSET, UnsetType, structs

from rethread.contract.chat import Chunk, ToolCallDelta
from rethread.contract.events import Event, EventName
from rethread.contract.messages import (
    Annotation,
    AnnotationDelta,
    CitationDelta,
    IncompleteReason,
    Message,
    MessageChange,
    MessageDelta,
    Part,
    QuotedCitation,
    RefusalPart,
    RefusalPartDelta,
    TextDelta,
    TextPart,
    TextPartDelta,
    TextValue,
    as_shown,
)
from rethread.contract.runs import (
    LastError,
    Run,
    RunStatus,
    Usage,
)
from rethread.contract.steps import (
    CallDelta,
    FileSearchCall,
    FunctionCall,
    MessageCreation,
    MessageCreationDetails,
    Step,
    StepChange,
    StepDelta,
    StepStatus,
    ToolCall,
    ToolCallsDelta,
    ToolCallsDetails,
    calls_of,
)
from rethread.runs.calls import Calls, Offer
from rethread.runs.lifecycle import (
    MESSAGE_REASON,
    STEP_STATUS,
    end_message,
    end_step,
    new_message,
    new_step,
)
from rethread.runs.usage import counted
from rethread.tools.file_search.citations import Citations, Piece

TurnEnd = Literal["answered", "called_tools", "length", "content_filter"]

NOTHING_OFFERED: Final = Offer()
LONGEST_JOINED: Final = 16 * 1024  # characters; a listener has to hold what comes as one
STEP_EVENTS: Final[Mapping[StepStatus, EventName]] = {
    "in_progress": "thread.run.step.in_progress",
    "completed": "thread.run.step.completed",
    "failed": "thread.run.step.failed",
    "cancelled": "thread.run.step.cancelled",
    "expired": "thread.run.step.expired",
}


class Ending(NamedTuple):
    """How a turn ended, and the events that say so; `step` has the calls that are to be made."""

    kind: TurnEnd
    events: list[Event]
    step: Step | None = None

    @property
    def functions(self) -> list[FunctionCall]:
        """The calls that wait for the client."""
        return [call for call in self._calls if isinstance(call, FunctionCall)]

    @property
    def searches(self) -> list[FileSearchCall]:
        """The calls that the server makes itself."""
        return [call for call in self._calls if isinstance(call, FileSearchCall)]

    @property
    def _calls(self) -> list[ToolCall]:
        return calls_of(self.step) if self.step else []


class Turn:
    """One answer of the model while it is being streamed.

    `cited` are the marks that it may cite, and the files that they stand for.
    """

    def __init__(
        self,
        run: Run,
        *,
        offer: Offer = NOTHING_OFFERED,
        cited: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._run = run
        self._offer = offer
        self._message: Message | None = None
        self._message_step: Step | None = None
        self._parts: dict[Literal["text", "refusal"], list[str]] = {}
        self._citations = Citations(cited)
        self._annotations: list[Annotation] = []
        self._length = 0  # of the text so far
        self._blanks = ""
        self._calls = Calls(offer)
        self._calls_step: Step | None = None
        self._finish_reason: str | None = None
        self.usage: Usage | None = None
        self._written: list[str] = []

    @property
    def written(self) -> str:
        """Everything that the model wrote, for counting its tokens."""
        return "".join(self._written) + self._calls.written

    def feed(self, chunk: Chunk, *, now: int) -> list[Event]:
        """The events of one chunk."""
        if chunk.usage is not None:
            self.usage = counted(chunk.usage)
        events: list[Event] = []
        for choice in chunk.choices[:1]:
            if choice.delta is not None:
                if text := self._past_blanks(choice.delta.content):
                    self._add_text(text, events, now)
                if choice.delta.refusal:
                    self._add_refusal(choice.delta.refusal, events, now)
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
            self._add_text(self._blanks, events, now)
        self._complete_message(events, usage, now)
        return Ending("answered", events)

    def abandon(self, status: RunStatus, error: LastError | None, *, now: int) -> list[Event]:
        """The events that close what is open, when the run ends in that status meanwhile."""
        events: list[Event] = []
        to = STEP_STATUS[status]
        if self._message is not None and self._message_step is not None:
            self._let_go(events)
            message = end_message(self._so_far(), now=now, cut_by=MESSAGE_REASON[status])
            events.append(Event("thread.message.incomplete", message))
            step = end_step(self._message_step, to, now=now, error=error)
            events.append(step_event(step))
        if self._calls_step is not None:
            details = None if calls_of(self._calls_step) else self._details()
            step = end_step(self._calls_step, to, now=now, error=error, details=details)
            events.append(step_event(step))
        self._message = self._message_step = self._calls_step = None
        return events

    @property
    def step(self) -> Step | None:
        """The step that is open for the answer's calls."""
        return self._calls_step

    def keep(self, call: FileSearchCall) -> None:
        """What a search has found, for the step; it is there even if the turn is abandoned yet."""
        assert self._calls_step is not None
        calls = [call if each.id == call.id else each for each in calls_of(self._calls_step)]
        self._calls_step = structs.replace(self._calls_step, step_details=ToolCallsDetails(calls))

    def _past_blanks(self, content: str | None) -> str | None:
        """The text to show: where functions are offered, blanks alone wait for what follows.

        Many models write blank lines around their calls, which are no message.
        """
        if not content or self._message is not None or not self._offer:
            return content
        text, self._blanks = self._blanks + content, ""
        if text.isspace():
            text, self._blanks = "", text
        return text

    def _add_text(self, text: str, events: list[Event], now: int) -> None:
        self._begin_message(events, now)
        self._written.append(text)
        if not text and "text" not in self._parts:
            self._show("text", "", events)
        self._cite(self._citations.feed(text), events)

    def _add_refusal(self, refusal: str, events: list[Event], now: int) -> None:
        self._begin_message(events, now)
        self._written.append(refusal)
        self._show("refusal", refusal, events)

    def _let_go(self, events: list[Event]) -> None:
        """Show what was held back, as it might have been the beginning of a mark."""
        self._cite(self._citations.end(), events)

    def _cite(self, pieces: list[Piece], events: list[Event]) -> None:
        for text, file_id in pieces:
            start, self._length = self._length, self._length + len(text)
            if file_id is None:
                self._show("text", text, events)
                continue
            cited = CitationDelta(
                index=len(self._annotations),
                text=text,
                start_index=start,
                end_index=self._length,
                file_citation=QuotedCitation(file_id),
            )
            self._annotations.append(as_shown(cited))
            self._show("text", text, events, [cited])

    def _show(
        self,
        kind: Literal["text", "refusal"],
        text: str,
        events: list[Event],
        annotations: list[AnnotationDelta] | UnsetType = UNSET,
    ) -> None:
        """More of a part, as a delta; a text's first one has annotations, if only an empty list."""
        assert self._message is not None
        if kind not in self._parts:
            self._parts[kind] = []
            annotations = annotations or []
        self._parts[kind].append(text)
        index = list(self._parts).index(kind)
        part: TextPartDelta | RefusalPartDelta
        if kind == "refusal":
            part = RefusalPartDelta(index, text)
        else:
            part = TextPartDelta(index, TextDelta(text, annotations))
        delta = MessageDelta(id=self._message.id, delta=MessageChange([part]))
        events.append(Event("thread.message.delta", delta))

    def _begin_message(self, events: list[Event], now: int) -> None:
        if self._message is not None:
            return
        message = self._message = new_message(self._run, now=now)
        self._parts, self._annotations, self._length = {}, [], 0
        details = MessageCreationDetails(MessageCreation(message.id))
        self._message_step = _begun(new_step(self._run, details, now=now), events)
        events.append(Event("thread.message.created", message))
        events.append(Event("thread.message.in_progress", message))

    def _complete_message(self, events: list[Event], usage: Usage | None, now: int) -> None:
        assert self._message_step is not None
        self._let_go(events)
        events.append(Event("thread.message.completed", end_message(self._so_far(), now=now)))
        step = end_step(self._message_step, "completed", now=now, usage=usage)
        events.append(step_event(step))
        self._message = self._message_step = None

    def _add_call(self, piece: ToolCallDelta, events: list[Event], now: int) -> None:
        if self._message is not None:
            self._complete_message(events, None, now)
        deltas = self._calls.add(piece)
        if self._calls_step is None:
            self._calls_step = _begun(new_step(self._run, ToolCallsDetails(), now=now), events)
        self._show_calls(deltas, events)

    def _show_calls(self, deltas: list[CallDelta], events: list[Event]) -> None:
        assert self._calls_step is not None
        for each in deltas:
            delta = StepDelta(id=self._calls_step.id, delta=StepChange(ToolCallsDelta([each])))
            events.append(Event("thread.run.step.delta", delta))

    def _hand_on_calls(self, events: list[Event], usage: Usage, now: int) -> Ending:
        self._calls.check()  # before anything is closed: a turn that fails is abandoned
        if self._message is not None:
            self._complete_message(events, None, now)
        self._show_calls(self._calls.end(), events)
        assert self._calls_step is not None
        details = ToolCallsDetails(self._calls.made())
        self._calls_step = structs.replace(self._calls_step, step_details=details, usage=usage)
        return Ending("called_tools", events, self._calls_step)

    def _cut(self, kind: Literal["length", "content_filter"], usage: Usage, now: int) -> Ending:
        """A message that was cut is incomplete, though its step is completed.

        A call that was cut cannot be made, so its step has failed.
        """
        events: list[Event] = []
        if not self._calls and self._message is None:
            self._add_text(self._blanks, events, now)
        if self._message is not None and self._message_step is not None:
            self._let_go(events)
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
        return Ending(kind, events)

    def _so_far(self) -> Message:
        """The message with what was streamed into it."""
        assert self._message is not None
        parts: list[Part] = []
        for kind, pieces in self._parts.items():
            text = "".join(pieces)
            annotated = TextValue(text, list(self._annotations))
            parts.append(TextPart(annotated) if kind == "text" else RefusalPart(text))
        return structs.replace(self._message, content=parts)

    def _details(self) -> ToolCallsDetails | None:
        return ToolCallsDetails(self._calls.made()) if self._calls else None


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
    if first.id != second.id or part.index != more.index:
        return None
    if part.text.annotations or more.text.annotations:  # a citation is a delta of its own
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
