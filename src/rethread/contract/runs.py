"""Runs: an assistant's answer to a thread, from request to rest.

Which status may follow which is `runs/lifecycle.py`'s to say.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from rethread.contract import AssistantId, Metadata, Request, Text, check_id
from rethread.contract.assistants import ModelName
from rethread.contract.messages import CreateMessage
from rethread.contract.resources import Resources, ToolResources
from rethread.contract.threads import CreateThread
from rethread.contract.tools import (
    ReasoningEffort,
    ResponseFormat,
    RunTools,
    Strict,
    Temperature,
    Tool,
    ToolChoice,
    TopP,
)
from rethread.errors import Invalid, ModelErrorCode

RunStatus = Literal[
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "cancelled",
    "failed",
    "completed",
    "incomplete",
    "expired",
]
TokenBudget = Annotated[int, Meta(ge=256)]


class TruncationStrategy(Strict, frozen=True):
    """Which of the thread's messages the model is shown."""

    type: Literal["auto", "last_messages"]
    last_messages: Annotated[int, Meta(ge=1)] | None = None


class RunOptions(Request, frozen=True):
    """What both ways of creating a run take."""

    assistant_id: AssistantId
    model: ModelName | None = None
    instructions: Text | None = None
    tools: RunTools | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stream: bool | None = None
    max_prompt_tokens: TokenBudget | None = None
    max_completion_tokens: TokenBudget | None = None
    truncation_strategy: TruncationStrategy | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    def check(self, at: str = "") -> None:
        """The assistant's id, and that `last_messages` has its number."""
        check_id(self.assistant_id, "asst", param=f"{at}assistant_id")
        truncation = self.truncation_strategy
        if truncation and truncation.type == "last_messages" and truncation.last_messages is None:
            param = f"{at}truncation_strategy.last_messages"
            raise Invalid(
                f"Missing required parameter: '{param}'.",
                param=param,
                code="missing_required_parameter",
            )


class CreateRun(RunOptions, frozen=True):
    """POST /threads/{thread_id}/runs"""

    additional_instructions: Text | None = None
    additional_messages: list[CreateMessage] | None = None
    reasoning_effort: ReasoningEffort | None = None

    def check(self, at: str = "") -> None:
        """The additional messages too."""
        super().check(at)
        for index, message in enumerate(self.additional_messages or []):
            message.check(f"{at}additional_messages[{index}].")


class CreateThreadAndRun(RunOptions, frozen=True):
    """POST /threads/runs"""

    thread: CreateThread | None = None
    tool_resources: ToolResources | None = None

    def check(self, at: str = "") -> None:
        """The thread too."""
        super().check(at)
        if self.thread:
            self.thread.check(f"{at}thread.")
        if self.tool_resources:
            self.tool_resources.check(f"{at}tool_resources.")


class ModifyRun(Request, frozen=True):
    """POST /threads/{thread_id}/runs/{run_id}"""

    metadata: Metadata | None = None


class CancelRun(Request, frozen=True):
    """POST /threads/{thread_id}/runs/{run_id}/cancel: there is nothing to say."""


class ToolOutput(Strict, frozen=True):
    """What a function gave."""

    tool_call_id: str
    output: str


class SubmitToolOutputs(Request, frozen=True):
    """POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs"""

    tool_outputs: list[ToolOutput]
    stream: bool | None = None


class CalledFunction(Struct, frozen=True):
    """A function call; `arguments` is JSON in a string."""

    name: str
    arguments: str


class RequiredToolCall(Struct, frozen=True, kw_only=True):
    """A function call that waits for its output."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class RequiredToolCalls(Struct, frozen=True):
    """The calls that wait; their outputs come in one request."""

    tool_calls: list[RequiredToolCall]


class RequiredAction(Struct, frozen=True, kw_only=True):
    """What the client has to do before the run can go on."""

    type: Literal["submit_tool_outputs"] = "submit_tool_outputs"
    submit_tool_outputs: RequiredToolCalls


class LastError(Struct, frozen=True):
    """Why a run failed."""

    code: ModelErrorCode
    message: str


class RunIncompleteDetails(Struct, frozen=True):
    """Which budget was spent."""

    reason: Literal["max_completion_tokens", "max_prompt_tokens"]


class CachedTokens(Struct, frozen=True):
    """Part of the usage."""

    cached_tokens: int = 0


class ReasoningTokens(Struct, frozen=True):
    """Part of the usage."""

    reasoning_tokens: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens spent; a run's is the sum over its steps."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_token_details: CachedTokens = CachedTokens()
    completion_tokens_details: ReasoningTokens = ReasoningTokens()


class ShownTruncation(Struct, frozen=True):
    """The truncation strategy, as a run shows it."""

    type: Literal["auto", "last_messages"] = "auto"
    last_messages: int | None = None


class Run(Struct, frozen=True, kw_only=True):
    """A run, as it is stored and shown."""

    id: str
    object: Literal["thread.run"] = "thread.run"
    created_at: int
    assistant_id: str
    thread_id: str
    status: RunStatus = "queued"
    started_at: int | None = None
    expires_at: int | None = None
    cancelled_at: int | None = None
    failed_at: int | None = None
    completed_at: int | None = None
    required_action: RequiredAction | None = None
    last_error: LastError | None = None
    model: str
    instructions: str = ""  # never null: the stock SDKs' own type does not allow it
    tools: list[Tool] = []
    tool_resources: Resources = {}
    metadata: dict[str, str] = {}
    temperature: float | None = 1.0
    top_p: float | None = 1.0
    reasoning_effort: ReasoningEffort | None = None
    max_completion_tokens: int | None = None
    max_prompt_tokens: int | None = None
    truncation_strategy: ShownTruncation = ShownTruncation()
    incomplete_details: RunIncompleteDetails | None = None
    usage: Usage | None = None
    response_format: ResponseFormat | None = "auto"
    tool_choice: ToolChoice | None = "auto"
    parallel_tool_calls: bool = True
