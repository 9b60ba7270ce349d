"""A run ends when it is told to, when its time is over or when its thread is deleted.

Whatever it is doing then, also while the model is silent; and however many there are.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from openai import BadRequestError, NotFoundError
from openai.types.beta.threads import Run

from tests.conftest import StartServer
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import PATIENCE_SECONDS, Call, Gate, failure, text, tool_calls
from tests.faults.scene import WEATHER, Happened, Scene, stock_client, text_of, together

CALL = Call("call_1", "get_weather", "{}")
# The issue promises one second; a busy machine may take a little longer.
CANCEL_SECONDS = 5.0


@contextmanager
def scene_with(start_server: StartServer, model: ModelServer, *arguments: str) -> Iterator[Scene]:
    """A scene on a server of its own."""
    model.replies.clear()
    server = start_server("--upstream", model.url, *arguments)
    with stock_client(server.url) as client:
        yield Scene(server, model, client)
    model.answer = None


def cancel(scene: Scene, run: Run) -> Run:
    return scene.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)


def names(events: list[Happened]) -> list[str]:
    return [event.name.removeprefix("thread.") for event in events]


def test_a_run_is_cancelled_while_the_model_thinks(scene: Scene) -> None:
    scene.model.replies.append(text("Never said.").first(Gate()))
    thread_id, asks = scene.thread(), scene.asks_model()
    listener = scene.listen(thread_id)
    request = asks()
    run = scene.run_on(thread_id)
    assert run.status == "in_progress"
    began = time.monotonic()
    assert cancel(scene, run).status == "cancelling"
    events = listener.ended()
    assert time.monotonic() - began < CANCEL_SECONDS
    assert names(events)[-3:] == ["run.cancelling", "run.cancelled", "done"]
    run = scene.rest(run)
    assert run.status == "cancelled"
    assert run.cancelled_at is not None
    assert run.expires_at is None
    request.left.result(PATIENCE_SECONDS)  # the model server is not kept working for nobody
    scene.assert_free(thread_id)


def test_a_run_is_cancelled_while_the_model_is_silent_in_mid_answer(scene: Scene) -> None:
    scene.model.replies.append(text("So far", " and no further").then(Gate(), after=1))
    thread_id = scene.thread()
    listener = scene.listen(thread_id)
    listener.wait_for("So far")
    run = scene.run_on(thread_id)
    cancel(scene, run)
    events = listener.ended()
    assert names(events)[-5:] == [
        "run.cancelling",
        "message.incomplete",
        "run.step.cancelled",
        "run.cancelled",
        "done",
    ]
    [message], [step] = scene.messages(run), scene.steps(run)
    assert message.status == "incomplete"
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "run_cancelled"
    assert text_of(message) == "So far"
    assert step.status == "cancelled"
    scene.assert_free(thread_id)


def test_a_run_that_waits_for_outputs_is_cancelled_with_its_step(scene: Scene) -> None:
    scene.model.replies.append(tool_calls(CALL))
    run = scene.rest(scene.start(scene.thread(), tools=[WEATHER]))
    assert run.status == "requires_action"
    assert cancel(scene, run).status == "cancelling"
    assert scene.rest(run).status == "cancelled"
    assert [step.status for step in scene.steps(run)] == ["cancelled"]
    with pytest.raises(BadRequestError) as refused:
        scene.beta.threads.runs.submit_tool_outputs(
            run_id=run.id,
            thread_id=run.thread_id,
            tool_outputs=[{"tool_call_id": CALL.id, "output": "too late"}],
        )
    assert refused.value.body == {
        "message": 'Runs in status "cancelled" do not accept tool outputs.',
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete"])
def test_a_run_that_has_ended_cannot_be_cancelled(scene: Scene, status: str) -> None:
    scene.model.replies.append(
        {
            "completed": text("Done."),
            "failed": failure(400),
            "cancelled": tool_calls(CALL),
            "incomplete": text("So", finish_reason="length"),
        }[status]
    )
    run = scene.rest(scene.start(scene.thread(), tools=[WEATHER]))
    if status == "cancelled":
        cancel(scene, run)
        scene.rest(run)
    with pytest.raises(BadRequestError) as refused:
        cancel(scene, run)
    assert refused.value.body == {
        "message": f"Cannot cancel run with status '{status}'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_a_cancellation_that_races_with_the_end_leaves_nothing_stuck(scene: Scene) -> None:
    thread_ids = [scene.thread() for _ in range(24)]
    assistant_id = scene.assistant()

    def race(thread_id: str) -> Callable[[], Run]:
        def start_and_cancel() -> Run:
            run = scene.start(thread_id, assistant_id=assistant_id)
            with suppress(BadRequestError):  # it has ended before
                cancel(scene, run)
            return scene.rest(run)

        return start_and_cancel

    ended = together(*(race(thread_id) for thread_id in thread_ids))
    assert {run.status for run in ended} <= {"completed", "cancelled"}
    for run in ended:
        assert {step.status for step in scene.steps(run)} <= {run.status}
        scene.beta.threads.messages.create(run.thread_id, role="user", content="Free?")


def test_deleting_a_thread_ends_the_stream_and_the_model_call(scene: Scene) -> None:
    scene.model.replies.append(text("So far", "!").then(Gate(), after=1))
    thread_id, asks = scene.thread(), scene.asks_model()
    listener = scene.listen(thread_id)
    request = asks()
    listener.wait_for("So far")
    run = scene.run_on(thread_id)
    assert scene.beta.threads.delete(thread_id).deleted
    assert listener.ended()[-1].name == "done"
    request.left.result(PATIENCE_SECONDS)
    with pytest.raises(NotFoundError):
        scene.beta.threads.runs.retrieve(run.id, thread_id=thread_id)


def test_queued_runs_are_cancelled_at_once_and_else_come_first_come_first_served(
    start_server: StartServer, model: ModelServer
) -> None:
    with scene_with(start_server, model, "--max-concurrent-runs", "1") as scene:
        gate, asks = Gate(), scene.asks_model()
        model.replies.append(text("At last.").first(gate))
        asked_before = len(model.requests) + 1
        assistant_id = scene.assistant()
        first = scene.start(scene.thread("first"), assistant_id=assistant_id)
        asks()
        waiting = [
            scene.start(scene.thread(f"number {n}"), assistant_id=assistant_id) for n in range(6)
        ]
        unwanted = waiting.pop(3)
        cancel(scene, unwanted)
        assert scene.rest(unwanted).status == "cancelled"  # while the first is at work
        assert scene.run_on(first.thread_id).status == "in_progress"
        assert {scene.run_on(run.thread_id).status for run in waiting} == {"queued"}
        gate.open()
        assert {scene.rest(run).status for run in [first, *waiting]} == {"completed"}
        order = [r.body["messages"][-1]["content"] for r in model.requests[asked_before:]]
        assert order == [f"number {n}" for n in (0, 1, 2, 4, 5)]


def test_runs_expire_in_whatever_they_wait_for(
    start_server: StartServer, model: ModelServer
) -> None:
    limits = ("--run-expiry-seconds", "3", "--max-concurrent-runs", "1")
    with scene_with(start_server, model, *limits) as scene:
        model.replies.extend([tool_calls(CALL), text("So far", "!").then(Gate(), after=1)])
        model.answer = lambda _: text("Too late.").first(Gate())
        for_outputs, for_model, for_turn = (scene.thread() for _ in range(3))
        outputs_run = scene.rest(scene.start(for_outputs, tools=[WEATHER]))
        assert outputs_run.status == "requires_action"
        listener = scene.listen(for_model)
        listener.wait_for("So far")
        turn_run = scene.start(for_turn)
        assert turn_run.status == "queued"

        events = listener.ended()  # nobody asks: it expires by itself
        assert names(events)[-4:] == [
            "message.incomplete",
            "run.step.expired",
            "run.expired",
            "done",
        ]
        model_run = scene.run_on(for_model)
        assert model_run.expires_at == model_run.created_at + 3
        [message] = scene.messages(model_run)
        assert message.incomplete_details is not None
        assert message.incomplete_details.reason == "run_expired"
        assert scene.rest(turn_run).status == "expired"
        until_expired(scene, outputs_run)
        assert [step.status for step in scene.steps(outputs_run)] == ["expired"]
        for thread_id in (for_outputs, for_model, for_turn):
            scene.beta.threads.messages.create(thread_id, role="user", content="Free?")


def until_expired(scene: Scene, run: Run) -> None:
    """Return once the run, which is at rest, has moved on to `expired`."""
    until = time.monotonic() + PATIENCE_SECONDS
    while scene.run_on(run.thread_id).status != "expired":
        assert time.monotonic() < until
        time.sleep(0.05)


def test_three_hundred_runs_at_once_go_eight_at_a_time_and_all_end(
    start_server: StartServer, model: ModelServer
) -> None:
    with scene_with(start_server, model, "--max-concurrent-runs", "8") as scene:
        gate = Gate()
        model.answer = lambda _: text("One", " of many.").first(gate)
        assistant_id, before = scene.assistant(), len(model.requests)

        def start_some() -> list[Run]:
            threads = scene.beta.threads
            return [threads.create_and_run(assistant_id=assistant_id) for _ in range(75)]

        started = [run for some in together(*[start_some] * 4) for run in some]
        model.wait_for_request(before + 8)
        assert len(model.requests) == before + 8
        assert statuses(scene) == {"in_progress": 8, "queued": 292}
        gate.open()
        assert {scene.rest(run).status for run in started} == {"completed"}
        assert len(model.requests) == before + 300
        assert statuses(scene) == {"completed": 300}


def statuses(scene: Scene) -> dict[str, int]:
    """How many runs have which status."""
    return dict(scene.server.ask("SELECT status, COUNT(*) FROM runs GROUP BY status"))
