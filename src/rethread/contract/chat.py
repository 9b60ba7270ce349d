"""The other side's contract: the chat-completions wire, as far as rethread speaks it.

Requests hold what a run may ask for; chunks hold what a run can use. Whatever else a model
server sends (logprobs, reasoning text, system fingerprints) is passed over when decoding.
"""

from typing import Any, Literal

from msgspec import Struct


class ChatMessage(Struct, omit_defaults=True, frozen=True):
    """One message of a prompt; `content` is a string or a list of content parts."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class ChatRequest(Struct, omit_defaults=True, frozen=True):
    """One model call; a field that is None is not sent."""

    model: str
    messages: list[ChatMessage]
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_completion_tokens: int | None = None


class FunctionDelta(Struct, frozen=True):
    """A piece of a function call."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct, frozen=True):
    """A piece of a tool call; servers differ in which of the fields they repeat."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(Struct, frozen=True):
    """What one chunk adds to the answer."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class Choice(Struct, frozen=True):
    """rethread asks for one choice; chunks with none carry the usage."""

    delta: Delta | None = None
    finish_reason: str | None = None


class PromptTokensDetails(Struct, frozen=True):
    """Part of the usage."""

    cached_tokens: int | None = None


class CompletionTokensDetails(Struct, frozen=True):
    """Part of the usage."""

    reasoning_tokens: int | None = None


class ChatUsage(Struct, frozen=True):
    """Tokens that the model server counted for one call."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class Chunk(Struct, frozen=True):
    """One `data:` record of a streamed answer."""

    choices: list[Choice] = []
    usage: ChatUsage | None = None
