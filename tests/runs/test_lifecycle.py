"""The state machine: every pair of statuses, and the times that go with each move."""

from typing import Any, get_args

import pytest

from rethread.contract.messages import IncompleteReason
from rethread.contract.runs import (
    CalledFunction,
    LastError,
    RequiredAction,
    RequiredToolCall,
    RequiredToolCalls,
    Run,
    RunIncompleteDetails,
    RunStatus,
    TruncationStrategy,
    Usage,
)
from rethread.contract.steps import StepStatus, ToolCallsDetails
from rethread.contract.tools import FileSearchTool, FunctionChoice, NamedFunction
from rethread.errors import Conflict
from rethread.runs.lifecycle import (
    AT_REST,
    MESSAGE_REASON,
    NEXT,
    STEP_STATUS,
    TERMINAL,
    end_message,
    end_step,
    move,
    new_message,
    new_run,
    new_step,
)
from tests.objects import NOW, WEATHER, a_run, an_assistant

STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
# Section 4.1 of the contract, written down once more, as pairs.
ALLOWED = {
    ("queued", "in_progress"),
    ("queued", "cancelling"),
    ("queued", "failed"),
    ("queued", "expired"),
    ("in_progress", "requires_action"),
    ("in_progress", "cancelling"),
    ("in_progress", "completed"),
    ("in_progress", "incomplete"),
    ("in_progress", "failed"),
    ("in_progress", "expired"),
    ("requires_action", "queued"),
    ("requires_action", "cancelling"),
    ("requires_action", "expired"),
    ("cancelling", "cancelled"),
    ("cancelling", "completed"),
    ("cancelling", "incomplete"),
    ("cancelling", "failed"),
    ("cancelling", "expired"),
}
LATER = NOW + 60
CALL = RequiredToolCall(id="call_a", function=CalledFunction("weather", "{}"))
ACTION = RequiredAction(submit_tool_outputs=RequiredToolCalls([CALL]))
USAGE = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
TIMES = ("started_at", "completed_at", "failed_at", "cancelled_at")


def times(run: Run) -> dict[str, int]:
    """The times that the run shows, expiry aside."""
    return {name: at for name in TIMES if (at := getattr(run, name)) is not None}


@pytest.mark.parametrize("to", STATUSES)
@pytest.mark.parametrize("status", STATUSES)
def test_a_run_moves_as_the_contract_says_and_no_other_way(
    status: RunStatus, to: RunStatus
) -> None:
    run = a_run(status=status)
    if (status, to) in ALLOWED:
        assert move(run, to, now=LATER).status == to
    else:
        with pytest.raises(Conflict, match=f"Cannot move a run from '{status}' to '{to}'"):
            move(run, to, now=LATER)


def test_the_table_knows_every_status_and_every_run_can_end() -> None:
    assert set(NEXT) == set(STATUSES)
    assert {"completed", "failed", "incomplete", "cancelled", "expired"} == TERMINAL
    assert {*TERMINAL, "requires_action"} == AT_REST
    reaches_end = set(TERMINAL)
    for _ in STATUSES:
        reaches_end |= {status for status, following in NEXT.items() if following & reaches_end}
    assert reaches_end == set(STATUSES)


@pytest.mark.parametrize(
    ("status", "to", "shown", "expires_at"),
    [
        ("queued", "in_progress", {"started_at": LATER}, NOW + 600),
        ("in_progress", "requires_action", {}, NOW + 600),
        ("requires_action", "queued", {}, NOW + 600),
        ("in_progress", "completed", {"completed_at": LATER}, None),
        ("in_progress", "incomplete", {"completed_at": LATER}, None),
        ("in_progress", "failed", {"failed_at": LATER}, None),
        ("in_progress", "cancelling", {}, NOW + 600),
        ("cancelling", "cancelled", {"cancelled_at": LATER}, None),
        ("in_progress", "expired", {}, NOW + 600),
    ],
)
def test_each_move_sets_its_time(
    status: RunStatus, to: RunStatus, shown: dict[str, int], expires_at: int | None
) -> None:
    run = move(a_run(status=status), to, now=LATER)
    assert times(run) == shown
    assert run.expires_at == expires_at
    assert run.created_at == NOW


def test_a_run_that_goes_on_after_tool_outputs_says_when_it_started_again() -> None:
    run = move(a_run(), "in_progress", now=NOW + 1)
    run = move(run, "requires_action", now=NOW + 2, required_action=ACTION)
    assert (run.started_at, run.required_action, run.usage) == (NOW + 1, ACTION, None)
    run = move(run, "queued", now=NOW + 3)
    assert (run.started_at, run.required_action) == (NOW + 1, None)
    run = move(run, "in_progress", now=NOW + 4)
    assert (run.started_at, run.expires_at) == (NOW + 4, NOW + 600)


@pytest.mark.parametrize("to", sorted(TERMINAL))
def test_usage_and_reasons_are_shown_at_the_end_only(to: RunStatus) -> None:
    reasons: dict[str, Any] = {
        "usage": USAGE,
        "last_error": LastError("server_error", "why"),
        "incomplete_details": RunIncompleteDetails("max_prompt_tokens"),
    }
    ended = move(a_run(status="cancelling"), to, now=LATER, **reasons)
    assert {name: getattr(ended, name) for name in reasons} == reasons
    going_on = move(a_run(), "in_progress", now=LATER, **reasons)
    assert [getattr(going_on, name) for name in reasons] == [None] * 3


def test_the_end_of_a_run_takes_its_required_action_away() -> None:
    run = move(a_run(status="in_progress"), "requires_action", now=NOW, required_action=ACTION)
    assert move(run, "cancelling", now=NOW).required_action is None
    assert move(run, "expired", now=NOW).required_action is None


STEP_STATUSES: tuple[StepStatus, ...] = get_args(StepStatus)


@pytest.mark.parametrize("to", STEP_STATUSES)
@pytest.mark.parametrize("status", STEP_STATUSES)
def test_a_step_ends_once(status: StepStatus, to: StepStatus) -> None:
    step = new_step(a_run(), ToolCallsDetails(), now=NOW)
    if status != "in_progress":
        step = end_step(step, status, now=NOW)
    if status == "in_progress" and to != "in_progress":
        ended = end_step(step, to, now=LATER, usage=USAGE)
        assert (ended.status, getattr(ended, f"{to}_at"), ended.usage) == (to, LATER, USAGE)
        assert ended.expires_at == NOW + 600
    else:
        with pytest.raises(Conflict):
            end_step(step, to, now=LATER)


def test_a_failed_step_says_why_in_a_steps_words() -> None:
    step = new_step(a_run(), ToolCallsDetails(), now=NOW)
    failed = end_step(step, "failed", now=NOW, error=LastError("invalid_prompt", "too long"))
    assert failed.last_error is not None
    assert (failed.last_error.code, failed.last_error.message) == ("server_error", "too long")


@pytest.mark.parametrize("reason", [None, *get_args(IncompleteReason)])
def test_a_message_ends_once_whole_or_with_the_reason_that_cut_it(
    reason: IncompleteReason | None,
) -> None:
    message = end_message(new_message(a_run(), now=NOW), now=LATER, cut_by=reason)
    if reason is None:
        assert (message.status, message.completed_at, message.incomplete_at) == (
            *("completed", LATER, None),
        )
        assert message.incomplete_details is None
    else:
        assert (message.status, message.completed_at, message.incomplete_at) == (
            *("incomplete", None, LATER),
        )
        assert message.incomplete_details is not None
        assert message.incomplete_details.reason == reason
    with pytest.raises(Conflict):
        end_message(message, now=LATER)


def test_whatever_breaks_a_run_off_has_a_word_for_steps_and_for_messages() -> None:
    broken_off = TERMINAL - {"completed", "incomplete"}
    assert set(STEP_STATUS) == set(MESSAGE_REASON) == broken_off


def test_a_new_run_is_as_the_wire_shows_it() -> None:
    assistant = an_assistant(instructions="Be brief.", temperature=0.5, top_p=0.0)
    run = a_run("thread_a", assistant)
    assert (run.status, run.created_at, run.expires_at) == ("queued", NOW, NOW + 600)
    assert times(run) == {}
    assert (run.model, run.instructions, run.temperature, run.top_p) == ("m", "Be brief.", 0.5, 0.0)
    assert run.tools[0] == assistant.tools[0]
    assert (run.truncation_strategy.type, run.tool_choice) == ("auto", "auto")
    assert run.parallel_tool_calls is True
    assert (run.usage, run.required_action, run.last_error, run.incomplete_details) == (None,) * 4


def test_what_the_request_says_stands_over_what_the_assistant_has() -> None:
    assistant = an_assistant(
        instructions="Be brief.", temperature=0.5, reasoning_effort="low", tools=[WEATHER]
    )
    choice = FunctionChoice(function=NamedFunction(name="weather"))
    run = a_run(
        "thread_a",
        assistant,
        model="other",
        instructions="",
        temperature=0.0,
        reasoning_effort="high",
        tools=[],
        tool_choice=choice,
        parallel_tool_calls=False,
        truncation_strategy=TruncationStrategy(type="last_messages", last_messages=3),
        metadata={"a": "b"},
    )
    assert (run.model, run.instructions, run.temperature) == ("other", "", 0.0)
    assert (run.reasoning_effort, run.tools, run.tool_choice) == ("high", [], choice)
    assert run.parallel_tool_calls is False
    assert (run.truncation_strategy.last_messages, run.metadata) == (3, {"a": "b"})


def test_automatic_truncation_counts_no_messages() -> None:
    run = a_run(truncation_strategy=TruncationStrategy(type="auto", last_messages=3))
    assert (run.truncation_strategy.type, run.truncation_strategy.last_messages) == ("auto", None)


def test_a_runs_tools_are_shown_with_their_defaults() -> None:
    run = a_run(tools=[FileSearchTool(), WEATHER])
    search, function = run.tools
    assert isinstance(search, FileSearchTool)
    assert search.file_search is not None
    assert search.file_search.ranking_options is not None
    assert getattr(function, "function").strict is False  # noqa: B009 - narrows a union


def test_creating_a_thread_along_makes_the_same_run() -> None:
    assistant = an_assistant()
    from rethread.contract.runs import CreateThreadAndRun

    asked = CreateThreadAndRun(assistant_id=assistant.id, temperature=0.1)
    run = new_run(assistant, asked, thread_id="thread_a", now=NOW, expires_at=NOW + 5)
    assert (run.temperature, run.expires_at, run.reasoning_effort) == (0.1, NOW + 5, None)
