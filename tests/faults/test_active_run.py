"""A thread that a run holds: OpenAI's 400 by default; a wait, or a retry, for who asks for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai import BadRequestError

from tests.conftest import StartServer
from tests.fakes.replies import Call, Gate, text, tool_calls
from tests.faults.scene import WEATHER, Scene, post, stock_client, together

ARGUMENTS = ("--active-run-wait-seconds", "20")
WAIT = {"Rethread-On-Active-Run": "wait"}
RETRY = {"Rethread-On-Active-Run": "retry"}


@contextmanager
def held(scene: Scene) -> Iterator[tuple[str, str, Gate]]:
    """A thread, the run that holds it, and the gate that lets the run go on."""
    gate = Gate()
    scene.model.replies.append(text("Done.").first(gate))
    thread_id, asks = scene.thread(), scene.asks_model()
    run = scene.start(thread_id)
    asks()
    try:
        yield thread_id, run.id, gate
    finally:
        gate.open()


def refusal(attempt: Callable[[], Any]) -> dict[str, Any]:
    with pytest.raises(BadRequestError) as refused:
        attempt()
    body = refused.value.body
    assert isinstance(body, dict)
    return body


def add_message(scene: Scene, thread_id: str, **options: Any) -> Any:
    return scene.beta.threads.messages.create(thread_id, role="user", content="More.", **options)


def test_by_default_writes_to_a_held_thread_are_refused_in_openais_words(scene: Scene) -> None:
    with held(scene) as (thread_id, run_id, _):
        plain = {"type": "invalid_request_error", "param": None, "code": None}
        assert refusal(lambda: add_message(scene, thread_id)) == {
            "message": f"Can't add messages to {thread_id} while a run {run_id} is active.",
            **plain,
        }
        assert refusal(lambda: scene.start(thread_id)) == {
            "message": f"Thread {thread_id} already has an active run {run_id}.",
            **plain,
        }
        status, headers, _ = post(
            f"{scene.server.url}/threads/{thread_id}/messages", {"role": "user", "content": "?"}
        )
        assert status == 400
        assert "x-should-retry" not in headers


def test_a_run_that_waits_for_outputs_holds_its_thread(scene: Scene) -> None:
    scene.model.replies.append(tool_calls(Call("call_1", "get_weather", "{}")))
    thread_id = scene.thread()
    run = scene.rest(scene.start(thread_id, tools=[WEATHER]))
    assert run.status == "requires_action"
    assert "while a run" in refusal(lambda: add_message(scene, thread_id))["message"]


def test_what_is_no_write_to_its_messages_is_not_refused(scene: Scene) -> None:
    with held(scene) as (thread_id, _, _):
        scene.beta.threads.update(thread_id, metadata={"held": "yes"})
        [message] = scene.beta.threads.messages.list(thread_id)
        scene.beta.threads.messages.update(message.id, thread_id=thread_id, metadata={"a": "b"})
        assert scene.beta.threads.retrieve(thread_id).metadata == {"held": "yes"}


def test_who_asks_to_wait_is_held_until_the_thread_is_free(scene: Scene) -> None:
    with held(scene) as (thread_id, run_id, gate):
        answered: list[str] = []

        def write() -> None:
            answered.append(add_message(scene, thread_id, extra_headers=WAIT).id)

        writing = threading.Thread(target=write)
        writing.start()
        # Another's write is answered meanwhile, the held one is not.
        assert "while a run" in refusal(lambda: add_message(scene, thread_id))["message"]
        assert not answered
        asked_at = int(time.time())
        while int(time.time()) == asked_at:  # times are whole seconds
            time.sleep(0.05)
        gate.open()
        writing.join(20)
        newest = scene.beta.threads.messages.list(thread_id).data[:2]
        assert newest[0].id == answered[0]
        assert newest[1].run_id == run_id  # behind what the run said
        assert newest[0].created_at >= newest[1].created_at > asked_at


def test_runs_that_wait_follow_each_other(scene: Scene) -> None:
    with held(scene) as (thread_id, _, gate):
        assistant_id = scene.assistant()

        def follow() -> Any:
            run = scene.start(thread_id, assistant_id=assistant_id, extra_headers=WAIT)
            return scene.rest(run)

        ended = together(follow, follow, follow, gate.open)[:3]
        assert {run.status for run in ended} == {"completed"}


def test_who_asks_to_retry_makes_the_stock_sdk_come_again(scene: Scene) -> None:
    with held(scene) as (thread_id, _, gate), stock_client(scene.server.url, max_retries=8) as sdk:
        status, headers, body = post(
            f"{scene.server.url}/threads/{thread_id}/messages",
            {"role": "user", "content": "?"},
            rethread_on_active_run="retry",
        )
        assert status == 400
        assert headers["x-should-retry"] == "true"
        assert b"while a run" in body
        came = threading.Event()

        def write() -> Any:
            came.set()
            return sdk.beta.threads.messages.create(
                thread_id, role="user", content="At last.", extra_headers=RETRY
            )

        def let_go() -> None:
            came.wait(20)
            gate.open()

        message, _ = together(write, let_go)
        asked = [m.id for m in scene.beta.threads.messages.list(thread_id) if m.role == "user"]
        assert asked[0] == message.id
        assert len(asked) == 2


def test_the_wait_has_an_end(start_server: StartServer, scene: Scene) -> None:
    server = start_server(
        *("--upstream", scene.model.url),
        *("--on-active-run", "wait", "--active-run-wait-seconds", "0.2"),
    )
    with stock_client(server.url) as client:
        waiting = Scene(server, scene.model, client)
        with held(waiting) as (thread_id, run_id, _):
            assert refusal(lambda: add_message(waiting, thread_id))["message"] == (
                f"Can't add messages to {thread_id} while a run {run_id} is active."
            )


def test_the_setting_is_for_those_who_say_nothing(start_server: StartServer, scene: Scene) -> None:
    server = start_server("--upstream", scene.model.url, "--on-active-run", "wait")
    with stock_client(server.url) as client:
        waiting = Scene(server, scene.model, client)
        with held(waiting) as (thread_id, run_id, gate):
            reject = {"Rethread-On-Active-Run": "reject"}
            refusal(lambda: add_message(waiting, thread_id, extra_headers=reject))
            message, _ = together(lambda: add_message(waiting, thread_id), gate.open)
            newest = client.beta.threads.messages.list(thread_id).data
            assert [newest[0].id, newest[1].run_id] == [message.id, run_id]
