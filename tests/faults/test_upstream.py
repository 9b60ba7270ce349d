"""Whatever the model server does wrong, the run has a defined end and its thread is free.

Each fault is heard through the SDK's own event handler: the stream tells it to the end.
"""

import json
from collections.abc import Callable

import pytest

from tests.conftest import StartServer
from tests.fakes.replies import (
    DROP,
    Call,
    CallShape,
    Gate,
    Reply,
    chunk,
    dropped,
    failure,
    openai_error,
    raw,
    refusal,
    text,
    tool_calls,
)
from tests.faults.scene import WEATHER, Ended, Scene, parsed, post, stock_client, text_of
from tests.ports import kept_port

ARGUMENTS = ("--upstream-max-attempts", "2", "--stall-timeout-seconds", "1")
AT_ONCE = {"retry-after-ms": "1"}
BUSY = openai_error("Slow down, please.", code="rate_limit_exceeded")
PARIS = Call("call_paris", "get_weather", '{"city": "Paris"}')
ROME = Call("call_rome", "get_weather", '{"city": "Rome"}')


def names(ended: Ended) -> list[str]:
    return [h.name.removeprefix("thread.") for h in ended.events]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(scene: Scene, status: int) -> None:
    scene.model.replies.extend([failure(status, BUSY, headers=AT_ONCE), text("Here", " I am.")])
    ended = scene.streamed(scene.thread())
    assert ended.run.status == "completed"
    assert ended.handler.text == text_of(ended.messages[0]) == "Here I am."
    assert ended.run.last_error is None


def test_a_connection_that_is_dropped_before_the_answer_is_made_again(scene: Scene) -> None:
    scene.model.replies.extend([dropped(), text("Here I am.")])
    assert scene.streamed(scene.thread()).run.status == "completed"


@pytest.mark.parametrize(
    ("replies", "code", "words"),
    [
        ([failure(429, BUSY, headers=AT_ONCE)] * 2, "rate_limit_exceeded", "Slow down, please."),
        ([failure(503, "Loading…", headers=AT_ONCE)] * 2, "server_error", "status 503: Loading…"),
        ([failure(500, headers=AT_ONCE)] * 2, "server_error", "status 500"),
        (
            [failure(400, openai_error("Far too long.", code="context_length_exceeded"))],
            "invalid_prompt",
            "Far too long.",
        ),
        ([failure(404, {"error": "no such model"})], "server_error", "no such model"),
        ([dropped(), dropped()], "server_error", "without an answer"),
    ],
    ids=["429", "503", "500", "prompt", "404", "dropped"],
)
def test_a_call_that_is_given_up_fails_the_run_in_the_servers_words(
    scene: Scene, replies: list[Reply], code: str, words: str
) -> None:
    scene.model.replies.extend(replies)
    thread_id = scene.thread()
    ended = scene.streamed(thread_id)
    assert ended.run.status == "failed"
    assert ended.run.last_error is not None
    assert ended.run.last_error.code == code
    assert words in ended.run.last_error.message
    assert ended.run.failed_at is not None
    assert (ended.messages, ended.steps) == ([], [])
    assert not scene.model.replies
    scene.assert_free(thread_id)


def test_a_server_that_is_not_there_fails_the_run(start_server: StartServer) -> None:
    with kept_port() as port:  # and nobody listens
        address = f"127.0.0.1:{port}"
        server = start_server("--upstream", f"http://{address}/v1", *ARGUMENTS)
        with stock_client(server.url) as client:
            assistant = client.beta.assistants.create(model="any", instructions="Be brief.")
            run = client.beta.threads.create_and_run_poll(
                assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "Hi"}]}
            )
    assert run.status == "failed"
    assert run.last_error is not None
    assert run.last_error.message == f"The model server at {address} can't be reached."


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: text("Hal", "f an", "swer").then(DROP, after=2), "stopped in the middle"),
        (lambda: text("Hal", "f an", "swer").then(b"data: {nonsense\n\n", after=2), ""),
        (lambda: text("Hal", "f an", "swer").then(Gate(), after=2), "sent nothing for 1 s"),
        (
            lambda: text("Hal", "f an").then(
                b'data: {"error": {"message": "Out of memory."}}\n\n', after=2
            ),
            "Out of memory.",
        ),
        (lambda: raw(*(chunk({"content": c}) for c in ("Hal", "f an"))), "stopped in the middle"),
    ],
    ids=["cut", "garbage", "stalled", "error", "ended"],
)
def test_an_answer_that_breaks_off_leaves_what_was_said(
    scene: Scene, make: Callable[[], Reply], words: str
) -> None:
    reply = make()  # a gate is opened for good
    scene.model.replies.append(reply)
    thread_id = scene.thread()
    ended = scene.streamed(thread_id)
    assert ended.run.status == "failed"
    assert ended.run.last_error is not None
    assert ended.run.last_error.code == "server_error"
    assert words in ended.run.last_error.message
    [message], [step] = ended.messages, ended.steps
    assert message.status == "incomplete"
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "run_failed"
    assert text_of(message) == ended.handler.text == "Half an"
    assert step.status == "failed"
    assert step.last_error is not None
    assert step.last_error.message == ended.run.last_error.message
    assert names(ended)[-4:] == ["message.incomplete", "run.step.failed", "run.failed", "done"]
    for step_of_reply in reply.steps:
        if isinstance(step_of_reply, Gate):
            step_of_reply.open()
    scene.assert_free(thread_id)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("call_1", "get_weather", '{"city": '), "arguments that are not JSON"),
        (Call("call_1", "launch_rockets", "{}"), "'launch_rockets', which this run does not offer"),
    ],
    ids=["arguments", "name"],
)
def test_a_call_that_cannot_be_made_fails_the_run(scene: Scene, call: Call, words: str) -> None:
    scene.model.replies.append(tool_calls(call))
    thread_id = scene.thread()
    ended = scene.streamed(thread_id, tools=[WEATHER])
    assert ended.run.status == "failed"
    assert ended.run.last_error is not None
    assert words in ended.run.last_error.message
    assert [step.status for step in ended.steps] == ["failed"]
    assert ended.run.required_action is None
    scene.assert_free(thread_id)


def test_an_empty_answer_is_an_answer(scene: Scene) -> None:
    scene.model.replies.append(text())
    ended = scene.streamed(scene.thread())
    assert ended.run.status == "completed"
    assert text_of(ended.messages[0]) == ""
    assert len(ended.messages[0].content) == 1


def test_an_answer_cut_by_the_token_limit_is_incomplete(scene: Scene) -> None:
    scene.model.replies.append(text("As far as", finish_reason="length"))
    thread_id = scene.thread()
    ended = scene.streamed(thread_id)
    assert ended.run.status == "incomplete"
    assert ended.run.incomplete_details is not None
    assert ended.run.incomplete_details.reason == "max_completion_tokens"
    [message] = ended.messages
    assert message.status == "incomplete"
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "max_tokens"
    assert text_of(message) == "As far as"
    assert [step.status for step in ended.steps] == ["completed"]
    scene.assert_free(thread_id)


def test_an_answer_stopped_by_the_filter_is_incomplete_and_the_run_failed(scene: Scene) -> None:
    scene.model.replies.append(text("As far as", finish_reason="content_filter"))
    thread_id = scene.thread()
    ended = scene.streamed(thread_id)
    assert ended.run.status == "failed"
    assert ended.run.last_error is not None
    assert "content filter" in ended.run.last_error.message
    assert ended.messages[0].incomplete_details is not None
    assert ended.messages[0].incomplete_details.reason == "content_filter"
    scene.assert_free(thread_id)


def test_a_refusal_is_refusal_content(scene: Scene) -> None:
    scene.model.replies.append(refusal("I'd ", "rather not."))
    ended = scene.streamed(scene.thread())
    assert ended.run.status == "completed"
    deltas = [h.data["delta"]["content"] for h in ended.events if h.name.endswith("message.delta")]
    assert {part["type"] for parts in deltas for part in parts} == {"refusal"}
    assert "".join(part["refusal"] for parts in deltas for part in parts) == "I'd rather not."
    [part] = ended.messages[0].content
    assert part.type == "refusal"
    assert part.refusal == "I'd rather not."


@pytest.mark.parametrize("shape", ["standard", "no_index", "index_zero", "no_id", "whole"])
def test_calls_are_understood_in_the_shapes_that_servers_give_them(
    scene: Scene, shape: CallShape
) -> None:
    calls = (PARIS, ROME)
    scene.model.replies.append(tool_calls(*calls, shape=shape))
    ended = scene.streamed(scene.thread(), tools=[WEATHER])
    assert ended.run.status == "requires_action"
    assert ended.run.required_action is not None
    wanted = ended.run.required_action.submit_tool_outputs.tool_calls
    assert [(c.function.name, json.loads(c.function.arguments)) for c in wanted] == [
        (call.name, json.loads(call.arguments)) for call in calls
    ]
    assert len({call.id for call in wanted}) == len(calls)
    assert ended.run.usage is None
    scene.beta.threads.runs.cancel(ended.run.id, thread_id=ended.run.thread_id)


def test_a_run_calls_tools_several_times_and_its_usage_is_the_sum(scene: Scene) -> None:
    scene.model.replies.extend([tool_calls(PARIS), tool_calls(ROME), text("Sunny", " in both.")])
    thread_id = scene.thread("Weather in Paris and Rome?")
    run = scene.rest(scene.start(thread_id, tools=[WEATHER]))
    for call, output in ((PARIS, "sun"), (ROME, "more sun")):
        assert run.required_action is not None
        [wanted] = run.required_action.submit_tool_outputs.tool_calls
        assert wanted.id == call.id
        run = scene.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id,
            thread_id=thread_id,
            tool_outputs=[{"tool_call_id": wanted.id, "output": output}],
        )
    assert run.status == "completed"
    steps = scene.steps(run)
    assert [step.type for step in steps] == ["tool_calls", "tool_calls", "message_creation"]
    assert {step.status for step in steps} == {"completed"}
    spent = [(s.usage.prompt_tokens, s.usage.completion_tokens) for s in steps if s.usage]
    assert spent == [(10, 3), (10, 3), (10, 2)]
    assert run.usage is not None
    assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (30, 8)
    last = scene.model.requests[-1].body["messages"]
    assert [m["content"] for m in last if m["role"] == "tool"] == ["sun", "more sun"]


def test_usage_that_nobody_reports_is_estimated(scene: Scene) -> None:
    scene.model.replies.append(text("One two three four.").without_usage())
    run = scene.rest(scene.start(scene.thread("Count to four, please.")))
    assert run.usage is not None
    assert 3 <= run.usage.completion_tokens <= 8
    assert run.usage.prompt_tokens >= 4
    assert run.usage.total_tokens == run.usage.prompt_tokens + run.usage.completion_tokens


def test_outputs_are_answered_by_a_stream_that_a_fault_ends_too(scene: Scene) -> None:
    scene.model.replies.extend([tool_calls(PARIS), text("Sun", "ny").then(DROP, after=1)])
    thread_id = scene.thread()
    run = scene.rest(scene.start(thread_id, tools=[WEATHER]))
    _, _, body = post(
        f"{scene.server.url}/threads/{thread_id}/runs/{run.id}/submit_tool_outputs",
        {"stream": True, "tool_outputs": [{"tool_call_id": PARIS.id, "output": "sun"}]},
    )
    events = parsed(body)
    assert [h.name for h in events[:3]] == [
        "thread.run.step.completed",
        "thread.run.queued",
        "thread.run.in_progress",
    ]
    assert [h.name for h in events[-2:]] == ["thread.run.failed", "done"]
    assert [step.status for step in scene.steps(run)] == ["completed", "failed"]
    scene.assert_free(thread_id)
