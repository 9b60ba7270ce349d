"""kill -9 at any moment loses nothing that was acknowledged and leaves no run stuck.

What a listener had read is what the next start finds: the partial message, the log's events.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from openai import APIConnectionError, OpenAI
from openai.types.beta.threads import Run

from rethread.runs.driver import MOST_CRASHES
from tests.conftest import StartServer
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Call, Gate, text, tool_calls
from tests.faults.scene import (
    WEATHER,
    Happened,
    Scene,
    stock_client,
    streamed_text,
    text_of,
)
from tests.server import ServerProcess

CALL = Call("call_1", "get_weather", '{"city": "Paris"}')
KEY = "listened"


@contextmanager
def scene_with(start_server: StartServer, model: ModelServer, *arguments: str) -> Iterator[Scene]:
    """A scene on a server that may be killed."""
    model.replies.clear()
    model.answer = None
    server = start_server("--upstream", model.url, *arguments)
    with stock_client(server.url) as client:
        yield Scene(server, model, client)


def kill_and_restart(scene: Scene) -> None:
    scene.server.kill()
    scene.server.restart()


def heard_again(scene: Scene, thread_id: str, heard: list[Happened]) -> list[Happened]:
    """The whole stream from the log, which begins with what was heard before."""
    events = scene.listen(thread_id, key=KEY, tools=[WEATHER]).ended()
    assert events[: len(heard)] == heard
    assert events[-1].name == "done"
    assert [int(e.id) for e in events[:-1]] == list(range(1, len(events)))
    return events


def assert_answered_once(scene: Scene, run: Run) -> None:
    assert scene.rest(run).status == "completed"
    completed = [m for m in scene.messages(run) if m.status == "completed"]
    assert [text_of(message) for message in completed] == ["Hello from the model."]
    scene.assert_free(run.thread_id)


def test_a_queued_run_is_taken_up(start_server: StartServer, model: ModelServer) -> None:
    with scene_with(start_server, model, "--max-concurrent-runs", "1") as scene:
        model.replies.append(text("Never said.").first(Gate()))
        asks = scene.asks_model()
        at_work = scene.start(scene.thread())
        asks()
        thread_id = scene.thread()
        listener = scene.listen(thread_id, key=KEY, tools=[WEATHER])
        listener.wait_for("thread.run.queued")
        kill_and_restart(scene)
        assert scene.rest(at_work).status == "completed"
        assert_answered_once(scene, scene.run_on(thread_id))


def test_a_run_that_had_said_nothing_yet_is_answered(
    start_server: StartServer, model: ModelServer
) -> None:
    with scene_with(start_server, model) as scene:
        model.replies.append(text("Never said.").first(Gate()))
        thread_id, asks = scene.thread(), scene.asks_model()
        listener = scene.listen(thread_id, key=KEY, tools=[WEATHER])
        listener.wait_for("thread.run.in_progress")
        asks()
        kill_and_restart(scene)
        run = scene.run_on(thread_id)
        assert_answered_once(scene, run)
        heard_again(scene, thread_id, listener.ended())
        assert [step.status for step in scene.steps(run)] == ["completed"]


def test_a_run_in_mid_answer_keeps_what_was_heard_and_is_answered_anew(
    start_server: StartServer, model: ModelServer
) -> None:
    with scene_with(start_server, model) as scene:
        model.replies.append(text("Hel", "lo", " again").then(Gate(), after=2))
        thread_id = scene.thread()
        listener = scene.listen(thread_id, key=KEY, tools=[WEATHER])
        listener.wait_for("Hel")
        kill_and_restart(scene)
        assert [line for line in scene.server.log if "runs taken up again count=1" in line]
        run = scene.rest(scene.run_on(thread_id))
        heard = listener.ended()
        cut, _ = scene.messages(run)
        assert cut.status == "incomplete"
        assert cut.incomplete_details is not None
        assert cut.incomplete_details.reason == "run_failed"
        assert text_of(cut).startswith(streamed_text(heard))
        assert "Hello".startswith(text_of(cut))
        assert [step.status for step in scene.steps(run)] == ["failed", "completed"]
        events = heard_again(scene, thread_id, heard)
        told = [event.data for event in events if event.name == "thread.message.incomplete"]
        assert [message["id"] for message in told] == [cut.id]
        assert_answered_once(scene, run)


def test_a_run_that_waits_for_outputs_goes_on_waiting(
    start_server: StartServer, model: ModelServer
) -> None:
    with scene_with(start_server, model) as scene:
        model.replies.append(tool_calls(CALL))
        thread_id = scene.thread()
        heard = scene.listen(thread_id, key=KEY, tools=[WEATHER]).ended()
        kill_and_restart(scene)
        run = scene.run_on(thread_id)
        assert run.status == "requires_action"
        assert heard_again(scene, thread_id, heard) == heard
        scene.beta.threads.runs.submit_tool_outputs(
            run_id=run.id,
            thread_id=thread_id,
            tool_outputs=[{"tool_call_id": CALL.id, "output": "sun"}],
        )
        assert_answered_once(scene, run)


def test_outputs_that_were_taken_are_used(start_server: StartServer, model: ModelServer) -> None:
    with scene_with(start_server, model) as scene:
        model.replies.extend([tool_calls(CALL), text("Never said.").first(Gate())])
        thread_id = scene.thread()
        run = scene.rest(scene.start(thread_id, tools=[WEATHER]))
        asks = scene.asks_model()
        scene.beta.threads.runs.submit_tool_outputs(
            run_id=run.id,
            thread_id=thread_id,
            tool_outputs=[{"tool_call_id": CALL.id, "output": "sun"}],
        )
        asks()
        asks = scene.asks_model()
        kill_and_restart(scene)
        assert asks().body["messages"][-1]["content"] == "sun"
        assert_answered_once(scene, run)
        assert [step.status for step in scene.steps(run)] == ["completed", "completed"]


def test_every_write_that_was_acknowledged_is_there(
    start_server: StartServer, model: ModelServer
) -> None:
    with scene_with(start_server, model) as scene:
        thread_ids = [scene.thread() for _ in range(4)]
        acknowledged: dict[str, list[str]] = {thread_id: [] for thread_id in thread_ids}
        many = threading.Semaphore(0)

        def write(client: OpenAI, thread_id: str) -> None:
            with suppress(APIConnectionError):
                for number in range(10_000):
                    message = client.beta.threads.messages.create(
                        thread_id, role="user", content=f"{number}"
                    )
                    acknowledged[thread_id].append(message.id)
                    many.release()

        writers = [
            threading.Thread(target=write, args=(scene.client, thread_id))
            for thread_id in thread_ids
        ]
        for writer in writers:
            writer.start()
        for _ in range(60):
            many.acquire(timeout=30)
        scene.server.kill()
        for writer in writers:
            writer.join()
        scene.server.restart()
        for thread_id, ids in acknowledged.items():
            found = [m.id for m in scene.beta.threads.messages.list(thread_id, order="asc")]
            assert found[1 : 1 + len(ids)] == ids
            assert len(found) <= 1 + len(ids) + 1  # and the one whose answer was lost


def test_told_to_stop_the_server_lets_streams_finish(
    start_server: StartServer, model: ModelServer
) -> None:
    with scene_with(start_server, model) as scene:
        gate = Gate()
        model.replies.append(text("Almost", " done.").then(gate, after=1))
        thread_id = scene.thread()
        listener = scene.listen(thread_id, key=KEY)
        listener.wait_for("Almost")
        ending = terminating(scene.server, then=gate.open)
        assert ending() == 0
        events = listener.ended()
        assert streamed_text(events) == "Almost done."
        assert events[-1].name == "done"
        assert_quiet(scene.server)


def test_runs_that_outlast_the_grace_are_left_to_the_next_start(
    start_server: StartServer, model: ModelServer
) -> None:
    with scene_with(start_server, model, "--shutdown-grace-seconds", "0.5") as scene:
        model.replies.append(text("Much", " later.").then(Gate(), after=1))
        thread_id = scene.thread()
        listener = scene.listen(thread_id, key=KEY, tools=[WEATHER])
        listener.wait_for("Much")
        assert scene.server.terminate() == 0
        assert_quiet(scene.server)
        heard = listener.ended()
        scene.server.restart()
        run = scene.run_on(thread_id)
        assert_answered_once(scene, run)
        heard_again(scene, thread_id, heard)


def test_a_second_signal_ends_it_at_once(start_server: StartServer, model: ModelServer) -> None:
    """The grace is ten minutes; the exit is waited for half a minute at most."""
    with scene_with(start_server, model, "--shutdown-grace-seconds", "600") as scene:
        model.replies.append(text("Much", " later.").then(Gate(), after=1))
        thread_id = scene.thread()
        listener = scene.listen(thread_id, key=KEY, tools=[WEATHER])
        listener.wait_for("Much")
        scene.server.process.terminate()
        scene.server.wait_for_log("stopping, at once on a second signal runs=1")
        assert scene.server.terminate() == 0
        assert_quiet(scene.server)
        heard = listener.ended()
        scene.server.restart()
        run = scene.run_on(thread_id)
        assert_answered_once(scene, run)
        heard_again(scene, thread_id, heard)


def terminating(server: ServerProcess, *, then: Callable[[], None]) -> Callable[[], int]:
    """SIGTERM; `then` once the server takes no connections any more. Call it for the exit code."""
    codes: list[int] = []
    ending = threading.Thread(target=lambda: codes.append(server.terminate()))
    ending.start()
    with suppress(APIConnectionError):
        while True:
            with stock_client(server.url) as stranger:
                stranger.get("/healthz", cast_to=object)
    then()

    def code() -> int:
        ending.join(30)
        return codes[0]

    return code


def assert_quiet(server: ServerProcess) -> None:
    """Nothing in the log that would frighten whoever reads it."""
    assert not [line for line in server.log if "Traceback" in line or " error " in line]


def refused_start(server: ServerProcess) -> str:
    """What another server with the same data says, which must not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "rethread", "serve", "--port", "0", *server.where],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_second_server_on_one_file_is_refused(start_server: StartServer) -> None:
    server = start_server()
    said = f"another rethread serves the data directory {server.data_dir}"
    assert said in refused_start(server)
    assert server.process.poll() is None


def test_data_of_a_newer_rethread_is_refused(start_server: StartServer) -> None:
    server = start_server()
    assert server.terminate() == 0
    server.ask("INSERT INTO schema_versions VALUES (9999, 'of the future')")
    assert "was made by a newer rethread (its schema is version 9999" in refused_start(server)


def test_a_run_that_never_survives_is_given_up(
    start_server: StartServer, model: ModelServer
) -> None:
    """A run that may be why the server goes away shall not take it away for ever."""
    with scene_with(start_server, model) as scene:
        gate = Gate()
        model.answer = lambda _: text("Never said.").first(gate)
        thread_id, asks = scene.thread(), scene.asks_model()
        run = scene.start(thread_id)
        for _ in range(MOST_CRASHES):
            asks()
            asks = scene.asks_model()
            kill_and_restart(scene)
        ended = scene.rest(run)
        assert ended.status == "failed"
        assert ended.last_error is not None
        assert ended.last_error.message.startswith("The server stopped several times")
        model.answer = None
        scene.assert_free(thread_id)
