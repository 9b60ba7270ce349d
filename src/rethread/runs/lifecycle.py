"""Which status a run, a step or a message may take next. Pure: no clock, no database, no model.

Every change of a status goes through `move`, `end_step` or `end_message`; nothing else may
set one. The times that go with a status are set here too.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import structs

from rethread.contract import new_id
from rethread.contract.assistants import Assistant
from rethread.contract.messages import IncompleteDetails, IncompleteReason, Message
from rethread.contract.runs import (
    CreateRun,
    LastError,
    RequiredAction,
    Run,
    RunIncompleteDetails,
    RunOptions,
    RunStatus,
    ShownTruncation,
    Usage,
)
from rethread.contract.steps import Step, StepDetails, StepError, StepStatus, ToolCallsDetails
from rethread.contract.tools import declared
from rethread.errors import Conflict

NEXT: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    "queued": frozenset({"in_progress", "cancelling", "failed", "expired"}),
    "in_progress": frozenset(
        {"requires_action", "cancelling", "completed", "incomplete", "failed", "expired"}
    ),
    "requires_action": frozenset({"queued", "cancelling", "expired"}),
    # A cancellation may come too late: then the run ends as it would have.
    "cancelling": frozenset({"cancelled", "completed", "incomplete", "failed", "expired"}),
    "cancelled": frozenset(),
    "completed": frozenset(),
    "incomplete": frozenset(),
    "failed": frozenset(),
    "expired": frozenset(),
}

TERMINAL: Final = frozenset(status for status, following in NEXT.items() if not following)
# Nothing more happens until the client does something; the SDKs' poll helpers stop here.
AT_REST: Final = TERMINAL | {"requires_action"}

# What the run's end does to a step that is open then.
STEP_STATUS: Final[Mapping[RunStatus, StepStatus]] = {
    "cancelled": "cancelled",
    "expired": "expired",
    "failed": "failed",
}
MESSAGE_REASON: Final[Mapping[RunStatus, IncompleteReason]] = {
    "cancelled": "run_cancelled",
    "expired": "run_expired",
    "failed": "run_failed",
}


def new_run(
    assistant: Assistant, asked: RunOptions, *, thread_id: str, now: int, expires_at: int
) -> Run:
    """A queued run: what the request says over what the assistant has at this moment."""
    reasoning_effort = asked.reasoning_effort if isinstance(asked, CreateRun) else None
    truncation = asked.truncation_strategy
    return Run(
        id=new_id("run"),
        created_at=now,
        assistant_id=assistant.id,
        thread_id=thread_id,
        expires_at=expires_at,
        model=asked.model or assistant.model,
        instructions=_first(asked.instructions, assistant.instructions) or "",
        tools=assistant.tools if asked.tools is None else declared(asked.tools),
        tool_resources=assistant.tool_resources,
        metadata=asked.metadata or {},
        temperature=_first(asked.temperature, assistant.temperature),
        top_p=_first(asked.top_p, assistant.top_p),
        reasoning_effort=reasoning_effort or assistant.reasoning_effort,
        max_completion_tokens=asked.max_completion_tokens,
        max_prompt_tokens=asked.max_prompt_tokens,
        # With `auto` a number of messages has no meaning: OpenAI shows null.
        truncation_strategy=ShownTruncation(truncation.type, truncation.last_messages)
        if truncation and truncation.type == "last_messages"
        else ShownTruncation(),
        response_format=_first(asked.response_format, assistant.response_format),
        tool_choice=asked.tool_choice or "auto",
        parallel_tool_calls=asked.parallel_tool_calls is not False,
    )


def move(
    run: Run,
    to: RunStatus,
    *,
    now: int,
    required_action: RequiredAction | None = None,
    last_error: LastError | None = None,
    incomplete_details: RunIncompleteDetails | None = None,
    usage: Usage | None = None,
) -> Run:
    """The run in its new status; a move that the table does not have is a Conflict."""
    if to not in NEXT[run.status]:
        raise Conflict(f"Cannot move a run from '{run.status}' to '{to}'.")
    changes: dict[str, Any] = {"status": to, "required_action": required_action}
    if to == "in_progress":
        changes["started_at"] = now
    if to in TERMINAL:
        changes.update(usage=usage, last_error=last_error, incomplete_details=incomplete_details)
    if to in TERMINAL - {"expired"}:  # an expired run goes on showing when that was
        changes["expires_at"] = None
    match to:
        case "completed" | "incomplete":
            changes["completed_at"] = now
        case "failed":
            changes["failed_at"] = now
        case "cancelled":
            changes["cancelled_at"] = now
        case _:
            pass
    return structs.replace(run, **changes)


def new_step(run: Run, details: StepDetails, *, now: int) -> Step:
    """A step in progress."""
    return Step(
        id=new_id("step"),
        created_at=now,
        run_id=run.id,
        assistant_id=run.assistant_id,
        thread_id=run.thread_id,
        type="tool_calls" if isinstance(details, ToolCallsDetails) else "message_creation",
        expires_at=run.expires_at,
        step_details=details,
    )


def end_step(
    step: Step,
    to: StepStatus,
    *,
    now: int,
    details: StepDetails | None = None,
    usage: Usage | None = None,
    error: LastError | None = None,
) -> Step:
    """The step at its end; only one in progress can end."""
    if step.status != "in_progress" or to == "in_progress":
        raise Conflict(f"Cannot move a run step from '{step.status}' to '{to}'.")
    changes: dict[str, Any] = {"status": to, f"{to}_at": now}
    if error is not None:
        # A step's errors have no `invalid_prompt`.
        code = "server_error" if error.code == "invalid_prompt" else error.code
        changes["last_error"] = StepError(code, error.message)
    return structs.replace(
        step, step_details=details or step.step_details, usage=usage or step.usage, **changes
    )


def new_message(run: Run, *, now: int) -> Message:
    """The empty message that a run is about to write."""
    return Message(
        id=new_id("msg"),
        created_at=now,
        thread_id=run.thread_id,
        status="in_progress",
        role="assistant",
        content=[],
        assistant_id=run.assistant_id,
        run_id=run.id,
    )


def end_message(message: Message, *, now: int, cut_by: IncompleteReason | None = None) -> Message:
    """The message completed, or incomplete for the reason that cut it."""
    if message.status != "in_progress":
        raise Conflict(f"Cannot end a message with status '{message.status}'.")
    if cut_by is None:
        return structs.replace(message, status="completed", completed_at=now)
    return structs.replace(
        message,
        status="incomplete",
        incomplete_at=now,
        incomplete_details=IncompleteDetails(cut_by),
    )


def _first(asked: Any, otherwise: Any) -> Any:
    return otherwise if asked is None else asked
