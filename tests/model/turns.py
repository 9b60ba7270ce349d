"""The answers that a model is told to give in a run, and what shall come of each. A table."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from tests.fakes.replies import (
    DROP,
    Call,
    Gate,
    Reply,
    chunk,
    failure,
    openai_error,
    text,
    tool_calls,
)

FUNCTION: Final = "look_up"
TOOL: Final[Any] = {"type": "function", "function": {"name": FUNCTION}}
SHOWN_TOOL: Final[Any] = {"type": "function", "function": {"name": FUNCTION, "strict": False}}

Calling = Literal["calls", "calls twice", "speaks and calls"]
Ending = Literal["answers", "says nothing", "runs out", "breaks off", "refuses"]
# Where the model falls silent until it is told to go on.
Pause = Literal["before", "within"]


class Written(NamedTuple):
    """The message of a turn, and the status of the step that writes it."""

    status: Literal["in_progress", "incomplete", "completed"]
    text: str
    step_status: str
    cut_by: str | None = None


class Outcome(NamedTuple):
    """What a turn leaves: the run's status and what was written; calls stand in the script."""

    status: str
    written: Written | None = None
    calls: int = 0


OUTCOMES: Final[Mapping[Calling | Ending, Outcome]] = {
    "calls": Outcome("requires_action", None, 1),
    "calls twice": Outcome("requires_action", None, 2),
    "speaks and calls": Outcome(
        "requires_action", Written("completed", "Let me see.", "completed"), 1
    ),
    "answers": Outcome("completed", Written("completed", "Hello.", "completed")),
    "says nothing": Outcome("completed", Written("completed", "", "completed")),
    "runs out": Outcome(
        "incomplete", Written("incomplete", "Hello.", "completed", cut_by="max_tokens")
    ),
    "breaks off": Outcome("failed", Written("incomplete", "Hel", "failed", cut_by="run_failed")),
    "refuses": Outcome("failed"),
}
PAUSED: Final[Mapping[Pause, Outcome]] = {
    "before": Outcome("in_progress"),
    "within": Outcome("in_progress", Written("in_progress", "", "in_progress")),
}
CANCELLED: Final[Mapping[Pause | None, Outcome]] = {
    None: Outcome("cancelled"),  # while it waits for outputs
    "before": Outcome("cancelled"),
    "within": Outcome(
        "cancelled", Written("incomplete", "Hel", "cancelled", cut_by="run_cancelled")
    ),
}


class Turn(NamedTuple):
    """One answer of the model; `gate` is where it pauses."""

    kind: Calling | Ending
    pause: Pause | None = None
    gate: Gate | None = None

    def reply(self, calls: list[Call]) -> Reply:
        """What the model's server sends."""
        reply = _reply(self.kind, calls)
        if self.gate is None:
            return reply
        return reply.first(self.gate) if self.pause == "before" else reply.then(self.gate, after=1)


def script(calling: list[Calling], ending: Ending, pause: Pause | None) -> list[Turn]:
    """The turns of a run; the last may pause, within it only if there is something to hear."""
    if pause == "within" and ending in ("says nothing", "refuses"):
        pause = "before"
    last = Turn(ending, pause, Gate() if pause else None)
    return [*(Turn(kind) for kind in calling), last]


def _reply(kind: Calling | Ending, calls: list[Call]) -> Reply:
    match kind:
        case "calls" | "calls twice":
            return tool_calls(*calls)
        case "speaks and calls":
            return Reply(steps=(chunk({"content": "Let me see."}), *tool_calls(*calls).steps))
        case "answers":
            return text("Hel", "lo.")
        case "says nothing":
            return text()
        case "runs out":
            return text("Hel", "lo.", finish_reason="length")
        case "breaks off":
            return text("Hel", "lo.").then(DROP, after=1)
        case "refuses":
            return failure(400, openai_error("No."))
