"""Run steps: what a run did, one after the other: write a message, or call tools.

A step is stored with more than clients see: what a search was asked, the texts that it found, the
files that code has made. Whatever leaves the store goes through `shown` or `shown_body`.
"""

from typing import Annotated, Final, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, structs
from msgspec.json import Decoder, encode

from rethread.contract.runs import Usage
from rethread.contract.tools import Ranker

T = TypeVar("T")
Hidden = Annotated[T, Meta(extra_json_schema={"x-hidden": True})]  # stored, and not shown

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


class SearchRanking(Struct, frozen=True):
    """How a search ranked what it found."""

    ranker: Ranker = "default_2024_08_21"
    score_threshold: float = 0.0


class ResultText(Struct, frozen=True, tag_field="type", tag="text"):
    """What was found."""

    text: str


class FileSearchResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A passage that a search found; `content` is shown to those who ask for it."""

    file_id: str
    file_name: str
    score: float
    content: list[ResultText] | UnsetType = UNSET
    page: Hidden[int | None] = None


class FileSearch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A search: how it ranked, and what it has found."""

    ranking_options: SearchRanking
    results: list[FileSearchResult]
    queries: Hidden[list[str]] = []
    turn: Hidden[int] = 0  # how many searches the run has made before
    has_files: Hidden[bool] = True  # whether there was anything to search


class FileSearchCall(Struct, frozen=True, kw_only=True, tag_field="type", tag="file_search"):
    """A search of a step; the server makes it itself."""

    id: str
    file_search: FileSearch


class LogsOutput(Struct, frozen=True, tag_field="type", tag="logs"):
    """What code has printed, and the tracebacks of its errors."""

    logs: str


class OutputImage(Struct, frozen=True):
    """The file of an image."""

    file_id: str


class ImageOutput(Struct, frozen=True, tag_field="type", tag="image"):
    """An image that code has shown."""

    image: OutputImage


CodeOutput = LogsOutput | ImageOutput


class MadeFile(Struct, frozen=True):
    """A file that code has written: its path under /mnt/data, and the file that has its bytes."""

    path: str
    file_id: str


class CodeInterpreter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Code that was run, and what came out."""

    input: str
    outputs: list[CodeOutput]
    made: Hidden[list[MadeFile]] = []
    note: Hidden[str] = ""  # what the model is told beside the outputs
    told_characters: Hidden[int | None] = None  # so much of the logs it is told; None: all


class CodeInterpreterCall(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="code_interpreter"
):
    """Code of a step; the server runs it itself."""

    id: str
    code_interpreter: CodeInterpreter


ToolCall = FunctionCall | FileSearchCall | CodeInterpreterCall


class ToolCallsDetails(Struct, frozen=True, tag_field="type", tag="tool_calls"):
    """A step that calls tools: all the calls of one answer of the model."""

    tool_calls: list[ToolCall] = []


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


class FileSearchCallDelta(Struct, frozen=True, kw_only=True, tag_field="type", tag="file_search"):
    """The search at `index`: one delta, when it is about to be made; the rest has the step."""

    index: int
    id: str
    file_search: FileSearch


class LogsOutputDelta(Struct, frozen=True, tag_field="type", tag="logs"):
    """More of the logs at `index` among the outputs."""

    index: int
    logs: str


class ImageOutputDelta(Struct, frozen=True, tag_field="type", tag="image"):
    """The image at `index` among the outputs: one delta."""

    index: int
    image: OutputImage


CodeOutputDelta = LogsOutputDelta | ImageOutputDelta


class CodeInterpreterDelta(Struct, frozen=True):
    """More of the code, or of what came out: one output a delta, as the SDKs merge them."""

    input: str | UnsetType = UNSET
    outputs: list[CodeOutputDelta] | UnsetType = UNSET


class CodeInterpreterCallDelta(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="code_interpreter"
):
    """More of the call at `index`; only the first delta has its id, and empty outputs."""

    index: int
    id: str | UnsetType = UNSET
    code_interpreter: CodeInterpreterDelta


CallDelta = FunctionCallDelta | FileSearchCallDelta | CodeInterpreterCallDelta


class ToolCallsDelta(Struct, frozen=True, tag_field="type", tag="tool_calls"):
    """The calls that a delta adds to."""

    tool_calls: list[CallDelta]


class StepChange(Struct, frozen=True):
    """What a delta adds to a step."""

    step_details: ToolCallsDelta


class StepDelta(Struct, frozen=True, kw_only=True):
    """What a `thread.run.step.delta` event carries."""

    id: str
    object: Literal["thread.run.step.delta"] = "thread.run.step.delta"
    delta: StepChange


# Built while there is one thread: msgspec crashes where two make what it knows of a type at once.
decode_step: Final = Decoder(Step).decode
IS_SEARCH: Final = b'"type":"file_search"'
IS_CODE: Final = b'"type":"code_interpreter"'


def calls_of(step: Step) -> list[ToolCall]:
    """The tools that a step calls."""
    details = step.step_details
    return details.tool_calls if isinstance(details, ToolCallsDetails) else []


def shown(step: Step, *, with_content: bool = False) -> Step:
    """The step as clients see it."""
    calls = calls_of(step)
    if not any(isinstance(call, FileSearchCall | CodeInterpreterCall) for call in calls):
        return step
    seen = [_shown_call(call, with_content=with_content) for call in calls]
    return structs.replace(step, step_details=ToolCallsDetails(seen))


def shown_body(body: bytes, *, with_content: bool = False) -> bytes:
    """The same of a step as it is stored."""
    if IS_SEARCH not in body and IS_CODE not in body:
        return body
    return encode(shown(decode_step(body), with_content=with_content))


def _shown_call(call: ToolCall, *, with_content: bool) -> ToolCall:
    if isinstance(call, CodeInterpreterCall):
        ran = call.code_interpreter
        code = CodeInterpreter(input=ran.input, outputs=ran.outputs)
        return CodeInterpreterCall(id=call.id, code_interpreter=code)
    if not isinstance(call, FileSearchCall):
        return call
    results = [
        structs.replace(result, page=None, content=result.content if with_content else UNSET)
        for result in call.file_search.results
    ]
    search = FileSearch(ranking_options=call.file_search.ranking_options, results=results)
    return FileSearchCall(id=call.id, file_search=search)
