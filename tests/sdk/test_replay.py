"""The events of a run are sent again as they were: from any event on, as long as they are kept."""

import time

import httpx2
import pytest
from openai import NotFoundError

from tests.conftest import StartServer
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Gate, text
from tests.sdk.clients import TIMEOUT_SECONDS, sync_client
from tests.sdk.streams import (
    ASKED,
    DONE,
    Place,
    assistant,
    names,
    numbers,
    records,
    started,
    status,
    stream_of,
)
from tests.sdk.test_keys import made, until_refused
from tests.server import ServerProcess, wait_until


def test_a_replay_is_the_first_stream_byte_for_byte_from_every_event_on(
    demo: ServerProcess,
) -> None:
    place, first = started(demo)
    assert place.events() == first
    sent = records(first)
    last = len(sent) - 1  # `done` repeats the last number
    assert numbers(first) == [*range(1, last + 1), last]
    for after in range(last + 1):
        rest = b"".join(sent[after:])
        assert place.events(after) == rest
        assert place.events(last_event_id=after) == rest


def test_a_replay_goes_past_the_rests_that_the_run_has_left_behind(demo: ServerProcess) -> None:
    place, asking = started(demo, thread={"messages": ASKED})
    assert names(asking)[-2:] == ["thread.run.requires_action", "done"]
    waiting = records(asking)[:-1]
    assert place.events() == asking
    assert place.events(len(waiting)) == b"id: %d\n" % len(waiting) + DONE
    answering = place.submit("Sunny.", is_stream=True)
    whole = b"".join(waiting) + answering
    assert place.events() == whole
    for after in range(len(records(whole))):
        assert place.events(after) == b"".join(records(whole)[after:])


@pytest.mark.parametrize("after", [10**6, 2**63 - 1, 10**99])
def test_behind_the_end_of_a_run_at_rest_there_is_nothing_but_done(
    demo: ServerProcess, after: int
) -> None:
    place, _ = started(demo)
    assert place.events(after).endswith(b"\n" + DONE)
    assert len(records(place.events(after))) == 1


@pytest.mark.parametrize("value", ["-1", "x", "1.0", "+1", " 1", "1e3", "٣", "0x1", "1" * 101])
def test_what_is_no_whole_number_is_refused_by_name(demo: ServerProcess, value: str) -> None:
    place, _ = started(demo)
    refused = {"starting_after": place.ask(after=value)}
    if value.isascii() and value == value.strip():
        refused["Last-Event-ID"] = place.ask(last_event_id=value)
    for name, response in refused.items():
        assert response.status_code == 400
        error = response.json()["error"]
        assert (error["param"], error["code"]) == (name, "invalid_value")
        assert name in error["message"]


def test_the_parameter_wins_over_the_header_and_an_empty_one_is_absent(
    demo: ServerProcess,
) -> None:
    place, first = started(demo)
    assert place.events(after=3, last_event_id=5) == b"".join(records(first)[3:])
    assert place.events(after=3, last_event_id="x") == b"".join(records(first)[3:])
    assert place.events(after="", last_event_id=5) == b"".join(records(first)[5:])
    assert place.events(after="", last_event_id="") == first


def test_only_a_project_s_own_runs_have_events(start_server: StartServer) -> None:
    server = start_server()
    red, blue = made(server, "red"), made(server, "blue")
    with sync_client(server, api_key=red) as mine, sync_client(server, api_key=blue) as theirs:
        with sync_client(server, api_key="sk-of-nobody") as nobody:
            until_refused(nobody)
        helper = mine.beta.assistants.create(model="demo", instructions="Hello")
        run = mine.beta.threads.create_and_run_poll(assistant_id=helper.id)
        other = mine.beta.threads.create()
        assert list(stream_of(mine, run.thread_id, run.id))[-1].event == "thread.run.completed"
        refused = [
            (theirs, run.thread_id, run.id, "thread"),
            (mine, other.id, run.id, "run"),
            (mine, run.thread_id, "run_unknown", "run"),
            (mine, "thread_unknown", run.id, "thread"),
        ]
        for client, thread_id, run_id, noun in refused:
            with pytest.raises(NotFoundError, match=f"No {noun} found with id") as caught:
                stream_of(client, thread_id, run_id)
            assert caught.value.code is None


def test_a_log_that_is_not_kept_any_longer_is_an_error_and_no_empty_stream(
    start_server: StartServer,
) -> None:
    server = start_server("--event-retention-hours", "1")
    old, _ = started(server)
    new, first = started(server)
    old_id, new_id = old.path.split("/")[-1], new.path.split("/")[-1]
    now = int(time.time())
    server.ask(f"UPDATE runs SET rested_at = {now - 3700} WHERE id = '{old_id}'")
    server.ask(f"UPDATE runs SET rested_at = {now - 3300} WHERE id = '{new_id}'")
    server.terminate()
    server.restart()  # the cleaning begins with the server
    place = Place(server, *old.path.split("/")[2::2])
    # Not by reading the log: one that goes meanwhile breaks the stream.
    wait_until(lambda: not server.ask(f"SELECT 1 FROM events WHERE run_id = '{old_id}'"))
    for answer in (place.ask(), place.ask(after=10**6)):
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("events_expired", "invalid_request_error")
    assert status(place.url) == "completed"
    assert Place(server, *new.path.split("/")[2::2]).events() == first


def test_a_log_of_which_a_part_is_gone_counts_as_gone(start_server: StartServer) -> None:
    server = start_server()
    place, _ = started(server)
    server.ask(f"DELETE FROM events WHERE first = 1 AND run_id = '{place.path.split('/')[-1]}'")
    assert place.ask(after=5).json()["error"]["code"] == "events_expired"


def test_a_log_that_goes_while_it_is_read_breaks_the_stream_and_does_not_end_it(
    start_server: StartServer, model_server: ModelServer
) -> None:
    """Whoever took it for the end would miss the rest and not know."""
    server = start_server("--upstream", model_server.url, "--keep-alive-seconds", "0.2")
    gate = Gate()
    model_server.replies.append(text("One ", "two ").then(gate, after=1))
    with sync_client(server) as client:
        run = client.beta.threads.create_and_run(
            model="fake-model", assistant_id=assistant(server), instructions="Count."
        )
    place = Place(server, run.thread_id, run.id)
    gate.arrived.result(TIMEOUT_SECONDS)

    def forget(heard: bytes) -> None:
        assert b"[DONE]" not in heard
        if b"One " in heard:
            server.ask(f"DELETE FROM events WHERE run_id = '{run.id}'")
            server.ask(f"UPDATE runs SET status = 'completed' WHERE id = '{run.id}'")

    try:
        with pytest.raises(httpx2.RemoteProtocolError):
            place.listen(forget)
    finally:
        gate.open()


def test_a_stream_that_is_asked_for_again_by_its_key_is_refused_once_its_log_is_gone(
    start_server: StartServer,
) -> None:
    server = start_server()
    body = {"assistant_id": assistant(server), "stream": True, "thread": {"messages": []}}
    key = {"Idempotency-Key": "one"}
    first = httpx2.post(f"{server.url}/threads/runs", json=body, headers=key)
    assert httpx2.post(f"{server.url}/threads/runs", json=body, headers=key).content == (
        first.content
    )
    server.ask("DELETE FROM events")
    again = httpx2.post(f"{server.url}/threads/runs", json=body, headers=key)
    assert (again.status_code, again.json()["error"]["code"]) == (404, "events_expired")
