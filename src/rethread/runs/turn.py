"""One model call: chunks in, events and finished objects out. Pure.

What is called is `calls.py`'s to know, and how a message is shown `writing.py`'s.

The stock SDKs build their snapshots from these events, and crash on some shapes: an id or a name
is sent once only, and a call's index is its place. Source: the SDKs' stream handlers, 1.x to 3.x.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import structs

from rethread.contract.chat import Chunk, ToolCallDelta
from rethread.contract.events import Event, EventName
from rethread.contract.messages import IncompleteReason
from rethread.contract.runs import (
    LastError,
    Run,
    RunStatus,
    Usage,
)
from rethread.contract.steps import (
    CallDelta,
    CodeInterpreterCall,
    CodeInterpreterCallDelta,
    CodeInterpreterDelta,
    CodeOutputDelta,
    FileSearchCall,
    FunctionCall,
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
    new_step,
)
from rethread.runs.usage import counted
from rethread.runs.writing import NOTHING_KNOWN, Known, Writing
from rethread.tools.code_interpreter.tool import grown

TurnEnd = Literal["answered", "called_tools", "length", "content_filter"]

NOTHING_OFFERED: Final = Offer()
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
    def ours(self) -> list[FileSearchCall | CodeInterpreterCall]:
        """The calls that the server makes itself, in their order."""
        return [call for call in self._calls if not isinstance(call, FunctionCall)]

    @property
    def _calls(self) -> list[ToolCall]:
        return calls_of(self.step) if self.step else []


class Turn:
    """One answer of the model while it is being streamed.

    `known` is what it may refer to; `images` are shown at the beginning of its first message.
    """

    def __init__(
        self,
        run: Run,
        *,
        offer: Offer = NOTHING_OFFERED,
        known: Known = NOTHING_KNOWN,
        images: Sequence[str] = (),
    ) -> None:
        self._run = run
        self._offer = offer
        self._known = known
        self.images = images  # that no message has shown yet
        self._message: Writing | None = None
        self._blanks = ""
        self._calls = Calls(offer)
        self._calls_step: Step | None = None
        self._last_index = 0  # of the call that the newest delta was of
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
            self._add_nothing(events, now)
        self._complete_message(events, usage, now)
        return Ending("answered", events)

    def abandon(self, status: RunStatus, error: LastError | None, *, now: int) -> list[Event]:
        """The events that close what is open, when the run ends in that status meanwhile."""
        events: list[Event] = []
        to = STEP_STATUS[status]
        if self._message is not None:
            events += self._message.let_go()
            message = end_message(self._message.so_far(), now=now, cut_by=MESSAGE_REASON[status])
            events.append(Event("thread.message.incomplete", message))
            step = end_step(self._message.step, to, now=now, error=error)
            events.append(step_event(step))
        if self._calls_step is not None:
            details = None if calls_of(self._calls_step) else self._details()
            step = end_step(self._calls_step, to, now=now, error=error, details=details)
            events.append(step_event(step))
        self._message = self._calls_step = None
        return events

    @property
    def step(self) -> Step | None:
        """The step that is open for the answer's calls."""
        return self._calls_step

    def keep(self, call: FileSearchCall | CodeInterpreterCall) -> None:
        """What a call has given, for the step; it is there even if the turn is abandoned yet."""
        assert self._calls_step is not None
        calls = [call if each.id == call.id else each for each in calls_of(self._calls_step)]
        self._calls_step = structs.replace(self._calls_step, step_details=ToolCallsDetails(calls))

    def called(self, call_id: str) -> ToolCall:
        """A call, with what it has given so far."""
        assert self._calls_step is not None
        return next(call for call in calls_of(self._calls_step) if call.id == call_id)

    def put_out(self, call_id: str, output: CodeOutputDelta) -> list[Event]:
        """More of what comes out of code while it runs: kept for the step, and shown."""
        assert self._calls_step is not None
        call = self.called(call_id)
        assert isinstance(call, CodeInterpreterCall)
        ran = call.code_interpreter
        ran = structs.replace(ran, outputs=grown(ran.outputs, output))
        self.keep(structs.replace(call, code_interpreter=ran))
        index = [each.id for each in calls_of(self._calls_step)].index(call_id)
        deltas = [CodeInterpreterDelta(outputs=[output])]
        if index != self._last_index:
            # The SDKs take a call's first delta after another's for a new call, and pass over it.
            deltas.insert(0, CodeInterpreterDelta(input=""))
        shown = [CodeInterpreterCallDelta(index=index, code_interpreter=each) for each in deltas]
        events: list[Event] = []
        self._show_calls(shown, events)
        return events

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
        self._written.append(text)
        events += self._begun(events, now).write(text)

    def _add_nothing(self, events: list[Event], now: int) -> None:
        """The message of an answer that says nothing: blanks, where there are no images to show."""
        self._add_text("" if self.images else self._blanks, events, now)

    def _add_refusal(self, refusal: str, events: list[Event], now: int) -> None:
        self._written.append(refusal)
        events += self._begun(events, now).refuse(refusal)

    def _begun(self, events: list[Event], now: int) -> Writing:
        """The message that is being written; a new one begins with the images."""
        if self._message is None:
            self._message = Writing(self._run, self._known, self.images, now=now)
            self.images = ()
            events += self._message.begun()
        return self._message

    def _complete_message(self, events: list[Event], usage: Usage | None, now: int) -> None:
        assert self._message is not None
        events += self._message.let_go()
        message = end_message(self._message.so_far(), now=now)
        events.append(Event("thread.message.completed", message))
        step = end_step(self._message.step, "completed", now=now, usage=usage)
        events.append(step_event(step))
        self._message = None

    def _add_call(self, piece: ToolCallDelta, events: list[Event], now: int) -> None:
        if self._message is not None:
            self._complete_message(events, None, now)
        deltas = self._calls.add(piece)
        if self._calls_step is None:
            step = self._calls_step = new_step(self._run, ToolCallsDetails(), now=now)
            events.append(Event("thread.run.step.created", step))
            events.append(Event("thread.run.step.in_progress", step))
        self._show_calls(deltas, events)

    def _show_calls(self, deltas: Sequence[CallDelta], events: list[Event]) -> None:
        assert self._calls_step is not None
        for each in deltas:
            self._last_index = each.index
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
            self._add_nothing(events, now)
        if self._message is not None:
            events += self._message.let_go()
            cut_by: IncompleteReason = "max_tokens" if kind == "length" else kind
            message = end_message(self._message.so_far(), now=now, cut_by=cut_by)
            events.append(Event("thread.message.incomplete", message))
            spent = None if self._calls else usage
            step = end_step(self._message.step, "completed", now=now, usage=spent)
            events.append(step_event(step))
        if self._calls_step is not None:
            error = LastError("server_error", "The model's answer was cut off in a function call.")
            details = self._details()
            step = end_step(
                self._calls_step, "failed", now=now, error=error, details=details, usage=usage
            )
            events.append(step_event(step))
        self._message = self._calls_step = None
        return Ending(kind, events)

    def _details(self) -> ToolCallsDetails | None:
        return ToolCallsDetails(self._calls.made()) if self._calls else None


def step_event(step: Step) -> Event:
    """The event that says how a step ended."""
    return Event(STEP_EVENTS[step.status], step)
