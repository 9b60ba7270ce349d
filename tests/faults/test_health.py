"""What an operator sees: alive, ready or not, and a log that tells all but what was said."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai import BadRequestError, InternalServerError

from tests.conftest import StartServer
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Call, Gate, failure, text, tool_calls
from tests.faults.scene import (
    PATIENCE_SECONDS,
    WEATHER,
    Scene,
    fetch,
    post,
    stock_client,
    text_of,
)
from tests.server import ServerProcess

CANARY = "canary-3d1f"
SOON_SECONDS = 5.0


@pytest.mark.parametrize("path", ["/healthz", "/health", "/readyz"])
def test_it_says_that_it_is_well_without_a_key(scene: Scene, path: str) -> None:
    status, _, body = fetch("GET", scene.server.root + path)
    assert status == 200
    assert json.loads(body)["status"] in {"ok", "ready"}


def test_a_model_server_that_is_away_does_not_make_it_unready(start_server: StartServer) -> None:
    server = start_server("--upstream", "http://127.0.0.1:9/v1")
    status, _, body = fetch("GET", f"{server.root}/readyz")
    assert status == 200
    assert json.loads(body) == {
        "status": "ready",
        "store": "ok",
        "model_server": "http://127.0.0.1:9/v1",
    }


def test_a_model_server_that_is_away_is_told_at_the_start(start_server: StartServer) -> None:
    server = start_server("--upstream", "http://127.0.0.1:9/v1")
    line = server.wait_for_log("model server does not answer")
    assert " warning " in line
    assert line.endswith("url=http://127.0.0.1:9/v1 reason=unreachable\n")


def test_a_model_server_without_a_list_is_not_said_to_be_away(
    start_server: StartServer, model: ModelServer
) -> None:
    model.models_reply = failure(404, CANARY)
    try:
        server = start_server("--upstream", model.url)
        line = server.wait_for_log("model server does not list its models")
    finally:
        model.models_reply = None
    assert line.endswith('reason="status 404"\n')


def test_a_start_does_not_wait_for_a_model_server_that_is_silent(
    start_server: StartServer, model: ModelServer
) -> None:
    gate = Gate()
    model.models_reply = text().first(gate)
    try:
        server = start_server("--upstream", model.url)
        gate.arrived.result(PATIENCE_SECONDS)
        assert fetch("GET", f"{server.root}/readyz")[0] == 200
        assert server.terminate() == 0
        assert "does not" not in "".join(server.log)
    finally:
        model.models_reply = None
        gate.open()


@contextmanager
def full_disk(server: ServerProcess) -> Iterator[None]:
    """No file of the server's may grow: to it that is a disk without room."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit, which Linux alone has")
@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_a_full_disk_is_told_and_outlived(scene: Scene) -> None:
    gate = Gate()
    scene.model.replies.append(text("Half", " an answer.").then(gate, after=1))
    held_id, free_id = scene.thread(), scene.thread()
    listener = scene.listen(held_id)
    listener.wait_for("Half")
    acknowledged = scene.beta.threads.messages.create(free_id, role="user", content="Kept.")

    with full_disk(scene.server):
        began = time.monotonic()
        status, _, body = fetch("GET", f"{scene.server.root}/readyz")
        assert time.monotonic() - began < SOON_SECONDS
        assert status == 503
        assert json.loads(body)["store"].startswith("The database cannot write")
        assert fetch("GET", f"{scene.server.root}/healthz")[0] == 200
        with pytest.raises(InternalServerError) as refused:
            scene.beta.threads.messages.create(free_id, role="user", content="Not kept.")
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"] == "1"
        assert isinstance(refused.value.body, dict)
        assert refused.value.body["type"] == "server_error"
        assert set(refused.value.body) == {"message", "type", "param", "code"}
        found = [text_of(message) for message in scene.beta.threads.messages.list(free_id)]
        assert found == ["Kept.", "Hello?"]  # reading goes on
        gate.open()
        scene.server.wait_for_log("driver failed")

    assert fetch("GET", f"{scene.server.root}/readyz")[0] == 200
    run = scene.rest(scene.run_on(held_id))
    assert run.status == "completed"
    assert [text_of(m) for m in scene.messages(run)] == ["Half", "Hello from the model."]
    assert listener.ended()[-1].name == "done"
    scene.beta.threads.messages.retrieve(acknowledged.id, thread_id=free_id)
    scene.assert_free(free_id)
    scene.server.kill()
    scene.server.restart()
    scene.beta.threads.messages.retrieve(acknowledged.id, thread_id=free_id)


@pytest.mark.parametrize("format", ["text", "json"])
def test_the_log_has_a_line_a_request_and_nothing_of_what_was_said(
    start_server: StartServer, model: ModelServer, format: str
) -> None:
    said: Any = f"said {CANARY}"
    server = start_server(
        *("--upstream", model.url, "--log-format", format, "--upstream-max-attempts", "1"),
        env={"RETHREAD_UPSTREAM_API_KEY": f"upstream-key-{CANARY}"},
    )
    model.replies.extend(
        [
            tool_calls(Call("call_1", "get_weather", json.dumps({"city": CANARY}))),
            text(said),
            failure(500, said),
            tool_calls(Call("call_1", CANARY, "{}")),
        ]
    )
    with stock_client(server.url).with_options(api_key=f"sk-{CANARY}") as client:
        scene = Scene(server, model, client)
        assistant_id = scene.assistant(instructions=said, tools=[WEATHER], metadata={"m": said})
        thread_id = scene.thread(said)
        run = scene.rest(scene.start(thread_id, assistant_id=assistant_id))
        client.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id,
            thread_id=thread_id,
            tool_outputs=[{"tool_call_id": "call_1", "output": said}],
        )
        for _ in range(2):
            failed = scene.rest(scene.start(thread_id, assistant_id=assistant_id))
            assert failed.last_error is not None
            assert CANARY in failed.last_error.message
        with pytest.raises(BadRequestError):
            client.beta.threads.messages.create(thread_id, role=said, content=said)
        post(f"{server.url}/threads", said.encode(), authorization=f"Bearer {CANARY}")
        post(f"{server.url}/threads?q={CANARY}", {"metadata": CANARY}, api_key=CANARY)
        answer = client.beta.threads.with_raw_response.retrieve(thread_id)
    [line] = [line for line in server.log if answer.headers["x-request-id"] in line] or [
        server.wait_for_log(answer.headers["x-request-id"], timeout_seconds=PATIENCE_SECONDS)
    ]
    if format == "json":
        told = json.loads(line)
        assert told["event"] == "request"
        assert (told["method"], told["status"]) == ("GET", 200)
        assert told["path"] == f"/v1/threads/{thread_id}"
        assert told["milliseconds"] >= 0
    else:
        assert f"method=GET path=/v1/threads/{thread_id} status=200 milliseconds=" in line
    assert server.terminate() == 0
    log = "".join(server.log)
    assert CANARY not in log
    assert log.count(answer.headers["x-request-id"]) == 1
