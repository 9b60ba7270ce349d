"""Any server takes any request: what was begun on one is heard, ended and gone on with on another.

Two servers on one PostgreSQL serve this module. How they take over from each other:
`test_taken_over`.
"""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from rethread.store.postgres_bell import RING, TIME
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Call, Gate, text, tool_calls
from tests.faults.pair import (
    Pair,
    all_events,
    client_in_turn,
    heard,
    pair_of_servers,
)
from tests.faults.scene import PATIENCE_SECONDS, WEATHER, Listener, text_of
from tests.postgres import Postgres

CALL = Call("call_1", "get_weather", '{"city": "Paris"}')
OUTPUTS: Final[list[Any]] = [{"tool_call_id": CALL.id, "output": "sun"}]
# Connections that hear and tell the time.
CUT_BELLS = f"""
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND query IN ('{TIME}', '{RING}')
"""


@pytest.fixture(scope="module")
def both(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, model: ModelServer
) -> Iterator[Pair]:
    """The module's servers."""
    folder = tmp_path_factory.mktemp("pair")
    with pair_of_servers(postgres, folder, model, "--allow-anonymous") as pair:
        yield pair


def events_on(listener: Pair, thread_id: str, run_id: str) -> Listener:
    """Listen to a run's events from the first one on, on the other server."""
    return Listener(f"{listener.there.server.url}/threads/{thread_id}/runs/{run_id}/events", None)


def test_what_one_server_streams_another_sends_byte_for_byte(pair: Pair) -> None:
    gate = Gate()
    pair.here.model.replies.append(text("One ", "two ", "three ").then(gate, after=2))
    thread_id = pair.here.thread()
    first = pair.here.listen(thread_id)
    first.wait_for("two ")
    second = events_on(pair, thread_id, pair.there.run_on(thread_id).id)
    second.wait_for("two ")
    gate.open()
    assert first.ended() == second.ended() == heard(first.raw)
    assert first.raw == second.raw


def test_a_lost_wake_up_costs_a_listener_on_another_server_no_event(pair: Pair) -> None:
    gate = Gate()
    pair.here.model.replies.append(text("One ", "two ", "three ").then(gate, after=1))
    thread_id = pair.here.thread()
    first = pair.here.listen(thread_id)
    first.wait_for("One ")
    second = events_on(pair, thread_id, pair.there.run_on(thread_id).id)
    second.wait_for("One ")
    assert pair.here.server.ask(CUT_BELLS) == [(True,), (True,)]
    gate.open()
    second.ended()
    first.ended()
    assert first.raw == second.raw
    heard(second.raw)


def test_a_cancellation_elsewhere_ends_the_model_call(pair: Pair) -> None:
    pair.here.model.replies.append(text("One ", "two ").then(Gate(), after=1))
    asks, thread_id = pair.here.asks_model(), pair.here.thread()
    listener = pair.here.listen(thread_id)
    listener.wait_for("One ")
    run = pair.there.run_on(thread_id)
    cancelling = pair.there.beta.threads.runs.cancel(run.id, thread_id=thread_id)
    assert cancelling.status == "cancelling"
    asks().left.result(PATIENCE_SECONDS)
    assert pair.there.rest(run).status == "cancelled"
    assert [event.name for event in listener.ended()][-2:] == ["thread.run.cancelled", "done"]
    pair.there.assert_free(thread_id)


def test_a_thread_that_is_deleted_elsewhere_takes_its_run_along(pair: Pair) -> None:
    pair.here.model.replies.append(text("One ", "two ").then(Gate(), after=1))
    asks, thread_id = pair.here.asks_model(), pair.here.thread()
    listener = pair.here.listen(thread_id)
    listener.wait_for("One ")
    assert pair.there.beta.threads.delete(thread_id).deleted
    asks().left.result(PATIENCE_SECONDS)
    listener.ended()
    with pytest.raises(NotFoundError):
        pair.here.beta.threads.retrieve(thread_id)


def test_a_message_is_refused_everywhere_while_a_run_holds_the_thread(pair: Pair) -> None:
    gate = Gate()
    pair.here.model.replies.append(text("Hello").first(gate))
    thread_id = pair.here.thread()
    run = pair.here.start(thread_id)
    with pytest.raises(BadRequestError, match=f"while a run {run.id} is active"):
        pair.there.beta.threads.messages.create(thread_id, role="user", content="And?")
    gate.open()
    assert pair.there.rest(run).status == "completed"
    pair.there.beta.threads.messages.create(thread_id, role="user", content="And?")


def test_outputs_are_taken_by_another_server_than_asked_for_them(pair: Pair) -> None:
    pair.here.model.replies += [tool_calls(CALL), text("Sunny.")]
    thread_id = pair.here.thread()
    run = pair.here.rest(pair.here.start(thread_id, tools=[WEATHER]))
    assert run.status == "requires_action"
    submitted = pair.there.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=thread_id, tool_outputs=OUTPUTS
    )
    assert pair.here.rest(submitted).status == "completed"
    [message] = pair.here.messages(run)
    assert text_of(message) == "Sunny."
    assert [step.status for step in pair.here.steps(run)] == ["completed", "completed"]


def test_a_stream_goes_on_on_the_server_that_takes_the_outputs(pair: Pair) -> None:
    pair.here.model.replies += [tool_calls(CALL), text("Sunny.")]
    thread_id = pair.here.thread()
    asking = pair.here.listen(thread_id, tools=[WEATHER])
    asked = asking.ended()
    assert asked[-2].name == "thread.run.requires_action"
    run = pair.there.run_on(thread_id)
    url = f"{pair.there.server.url}/threads/{thread_id}/runs/{run.id}/submit_tool_outputs"
    answering = Listener(url, {"tool_outputs": OUTPUTS, "stream": True})
    answered = answering.ended()
    assert answered[-2].name == "thread.run.completed"
    whole = all_events(pair.here.server, thread_id, run.id)
    assert heard(whole) == asked[:-1] + answered


def test_polling_is_served_by_all_in_turn(pair: Pair) -> None:
    """Every request of the helper goes to another server than the one before."""
    pair.here.model.answer = lambda _: text("Hel", "lo", seconds_between=0.1)
    with client_in_turn(pair) as client:
        assistant = client.beta.assistants.create(model="fake-model", instructions="Be brief.")
        for _ in range(3):
            thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hi"}])
            run = client.beta.threads.runs.create_and_poll(
                thread_id=thread.id, assistant_id=assistant.id
            )
            assert run.status == "completed"
            newest = client.beta.threads.messages.list(thread.id).data[0]
            assert text_of(newest) == "Hello"


def test_a_key_opens_and_closes_its_project_on_every_server(pair: Pair) -> None:
    server = pair.here.server
    secret = server.new_key("blue")
    here, there = (scene.client.with_options(api_key=secret) for scene in pair)
    thread = here.beta.threads.create()
    assert there.beta.threads.retrieve(thread.id) == thread
    with pytest.raises(NotFoundError):
        pair.there.beta.threads.retrieve(thread.id)
    [(key_id,)] = server.ask("SELECT id FROM api_keys")
    revoking = [sys.executable, "-m", "rethread", "keys", "revoke", key_id, *server.where]
    subprocess.run(revoking, check=True, capture_output=True, timeout=PATIENCE_SECONDS)
    for client in (here, there):  # a revoked key is as good as none: it is soon noticed
        with pytest.raises(NotFoundError):
            _retrieve_until_refused(client, thread.id)


def _retrieve_until_refused(client: OpenAI, thread_id: str) -> None:
    while True:
        client.beta.threads.retrieve(thread_id)
