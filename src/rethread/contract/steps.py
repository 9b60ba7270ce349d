"""Run steps: what a run did, one after the other: write a message, or call tools."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from rethread.contract.runs import Usage

StepStatus = Literal["in_progress", "cancelled", "failed", "completed", "expired"]
Include = Literal["step_details.tool_calls[*].file_search.results[*].content"]


class MessageCreation(Struct, frozen=True):
    """The message that a step writes."""

    message_id: str


class MessageCreationDetails(Struct, frozen=True, tag_field="type", tag="message_creation"):
    """A step that writes a message."""

    message_creation: MessageCreation


class FunctionResult(Struct, frozen=True):
    """A function call and, once it is known, its output."""

    name: str
    arguments: str
    output: str | None = None


class FunctionCall(Struct, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A function call of a step."""

    id: str
    function: FunctionResult


class ToolCallsDetails(Struct, frozen=True, tag_field="type", tag="tool_calls"):
    """A step that calls tools: all the calls of one answer of the model."""

    tool_calls: list[FunctionCall] = []


StepDetails = MessageCreationDetails | ToolCallsDetails


class StepError(Struct, frozen=True):
    """Why a step failed."""

    code: Literal["server_error", "rate_limit_exceeded"]
    message: str


class Step(Struct, frozen=True, kw_only=True):
    """A run step, as it is stored and shown."""

    id: str
    object: Literal["thread.run.step"] = "thread.run.step"
    created_at: int
    run_id: str
    assistant_id: str
    thread_id: str
    type: Literal["message_creation", "tool_calls"]
    status: StepStatus = "in_progress"
    cancelled_at: int | None = None
    completed_at: int | None = None
    expires_at: int | None = None
    expired_at: int | None = None
    failed_at: int | None = None
    last_error: StepError | None = None
    step_details: StepDetails
    usage: Usage | None = None
    metadata: dict[str, str] = {}


class FunctionDelta(Struct, frozen=True):
    """More of a call; only the first delta has `name` and `output`."""

    arguments: str
    name: str | UnsetType = UNSET
    output: str | None | UnsetType = UNSET


class FunctionCallDelta(Struct, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """More of the call at `index`; only the first delta has its id."""

    index: int
    id: str | UnsetType = UNSET
    function: FunctionDelta


class ToolCallsDelta(Struct, frozen=True, tag_field="type", tag="tool_calls"):
    """The calls that a delta adds to."""

    tool_calls: list[FunctionCallDelta]


class StepChange(Struct, frozen=True):
    """What a delta adds to a step."""

    step_details: ToolCallsDelta


class StepDelta(Struct, frozen=True, kw_only=True):
    """What a `thread.run.step.delta` event carries."""

    id: str
    object: Literal["thread.run.step.delta"] = "thread.run.step.delta"
    delta: StepChange
