"""Neighbouring deltas of one text become one: what waits goes out as one. Pure."""

from typing import Final

from msgspec import UNSET, structs

from rethread.contract.events import Event
from rethread.contract.messages import MessageChange, MessageDelta, TextPartDelta
from rethread.contract.steps import (
    CodeInterpreterCallDelta,
    CodeInterpreterDelta,
    LogsOutputDelta,
    StepChange,
    StepDelta,
    ToolCallsDelta,
)

LONGEST_JOINED: Final = 16 * 1024  # characters; a listener has to hold what comes as one


def merged(events: list[Event]) -> list[Event]:
    """The same events with neighbouring deltas joined: of a message's text, of code, of logs."""
    joined: list[Event] = []
    for event in events:
        if joined and (both := _joined(joined[-1], event)):
            joined[-1] = both
        else:
            joined.append(event)
    return joined


def _joined(earlier: Event, later: Event) -> Event | None:
    """One delta for two of the same text; None where they must stay apart."""
    first, second = earlier.payload, later.payload
    if isinstance(first, MessageDelta) and isinstance(second, MessageDelta):
        part = _joined_texts(first, second)
        if part is None:
            return None
        message = MessageDelta(id=first.id, delta=MessageChange([part]))
        return Event("thread.message.delta", message)
    if isinstance(first, StepDelta) and isinstance(second, StepDelta):
        call = _joined_code(first, second)
        if call is None:
            return None
        step = StepDelta(id=first.id, delta=StepChange(ToolCallsDelta([call])))
        return Event("thread.run.step.delta", step)
    return None


def _joined_texts(first: MessageDelta, second: MessageDelta) -> TextPartDelta | None:
    part, more = first.delta.content[0], second.delta.content[0]
    if not isinstance(part, TextPartDelta) or not isinstance(more, TextPartDelta):
        return None
    if first.id != second.id or part.index != more.index:
        return None
    if part.text.annotations or more.text.annotations:  # an annotation is a delta of its own
        return None
    if len(part.text.value) + len(more.text.value) > LONGEST_JOINED:
        return None
    text = structs.replace(part.text, value=part.text.value + more.text.value)
    return TextPartDelta(part.index, text)


def _joined_code(first: StepDelta, second: StepDelta) -> CodeInterpreterCallDelta | None:
    (call,) = first.delta.step_details.tool_calls
    (more,) = second.delta.step_details.tool_calls
    if not isinstance(call, CodeInterpreterCallDelta):
        return None
    if not isinstance(more, CodeInterpreterCallDelta) or call.id is not UNSET:
        return None
    if first.id != second.id or call.index != more.index:
        return None
    code = _joined_written(call.code_interpreter, more.code_interpreter)
    if code is None:
        return None
    return CodeInterpreterCallDelta(index=call.index, code_interpreter=code)


def _joined_written(
    code: CodeInterpreterDelta, more: CodeInterpreterDelta
) -> CodeInterpreterDelta | None:
    """More of the input, or more of the same logs."""
    if isinstance(code.input, str) and isinstance(more.input, str):
        if len(code.input) + len(more.input) > LONGEST_JOINED:
            return None
        return CodeInterpreterDelta(input=code.input + more.input)
    if not isinstance(code.outputs, list) or not isinstance(more.outputs, list):
        return None
    (output,), (further,) = code.outputs, more.outputs
    if not isinstance(output, LogsOutputDelta) or not isinstance(further, LogsOutputDelta):
        return None
    if output.index != further.index:
        return None
    if len(output.logs) + len(further.logs) > LONGEST_JOINED:
        return None
    return CodeInterpreterDelta(outputs=[LogsOutputDelta(output.index, output.logs + further.logs)])
