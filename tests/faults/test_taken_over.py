"""A server that stops, dies or stalls: another one drives its runs on, and nobody misses an event.

Each of the two servers may be stopped here; what is asked for afterwards is asked of the other.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import pytest
from openai.types.beta.threads import Run

from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Call, Gate, Reply, text, tool_calls
from tests.faults.pair import (
    TAKEN_OVER_SECONDS,
    Pair,
    heard,
    pair_of_servers,
)
from tests.faults.scene import (
    PATIENCE_SECONDS,
    WEATHER,
    Happened,
    Listener,
    Scene,
    streamed_text,
    text_of,
)
from tests.postgres import Postgres
from tests.server import ServerProcess

CALL: Final = Call("call_1", "get_weather", '{"city": "Paris"}')
OUTPUTS: Final[list[Any]] = [{"tool_call_id": CALL.id, "output": "sun"}]
NEVER_SAID: Final = "Never said."
SHOWN: Final = ("thread.message.created", "thread.message.incomplete", "thread.message.completed")


@pytest.fixture(scope="module")
def both(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, model: ModelServer
) -> Iterator[Pair]:
    """The module's servers, which let nothing finish when they are told to stop."""
    folder = tmp_path_factory.mktemp("taken")
    with pair_of_servers(postgres, folder, model, "--shutdown-grace-seconds", "0") as pair:
        yield pair


def scripted(model: ModelServer, **replies: list[Reply]) -> None:
    """Have the model answer by the word that the thread's first message is."""

    def answer(body: Any) -> Reply:
        [word] = {m["content"] for m in body["messages"] if m["role"] == "user"}
        return replies[word].pop(0)

    model.answer = answer


def in_mid_answer(pair: Pair, word: str = "words") -> tuple[str, Listener]:
    """A run on the first server that has said `One `, and whoever follows it on the second one."""
    thread_id = pair.here.thread(word)
    listener = pair.here.listen(thread_id)
    listener.wait_for("One ")
    run = pair.there.run_on(thread_id)
    url = f"{pair.there.server.url}/threads/{thread_id}/runs/{run.id}/events"
    following = Listener(url, None)
    following.wait_for("One ")
    return thread_id, following


def silent(scene: Scene, word: str) -> Run:
    """A run whose model has been asked and has said nothing yet."""
    asks = scene.asks_model()
    run = scene.start(scene.thread(word))
    asks()
    return run


def messages_told(events: list[Happened]) -> list[str]:
    """What was told of messages, but for their pieces."""
    return [event.name for event in events if event.name in SHOWN]


def check_answered_anew(pair: Pair, thread_id: str, events: list[Happened]) -> None:
    """What was shown stands, closed; and the whole answer once, in a message of its own."""
    assert messages_told(events) == [SHOWN[0], SHOWN[1], SHOWN[0], SHOWN[2]]
    assert events[-2].name == "thread.run.completed"
    cut, whole = pair.there.messages(pair.there.run_on(thread_id))
    assert (cut.status, whole.status) == ("incomplete", "completed")
    assert text_of(whole) == "One two"
    assert streamed_text(events) == text_of(cut) + text_of(whole)


@contextmanager
def stalled(server: ServerProcess) -> Iterator[None]:
    """The process stands still."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def assert_answered(scene: Scene, run: Run, answer: str) -> None:
    """The run is completed, with that answer alone."""
    assert scene.rest(run).status == "completed"
    assert [text_of(message) for message in scene.messages(run)] == [answer]


def test_a_server_that_is_told_to_stop_hands_its_runs_over_at_once(pair: Pair) -> None:
    scripted(
        pair.here.model,
        words=[text("One ", NEVER_SAID).then(Gate(), after=1), text("One ", "two")],
        nothing=[text(NEVER_SAID).first(Gate()), text("Hello")],
    )
    waiting = silent(pair.here, "nothing")
    thread_id, following = in_mid_answer(pair)
    assert pair.here.server.terminate() == 0
    check_answered_anew(pair, thread_id, following.ended())
    heard(following.raw)
    assert_answered(pair.there, waiting, "Hello")
    # That would have been seconds later, when the other's claims have run out.
    assert not [line for line in pair.there.server.log if "runs taken over" in line]


def test_a_stream_that_its_server_cuts_off_goes_on_elsewhere(pair: Pair) -> None:
    """The run is driven by the other server, which does not stop."""
    gate = Gate()
    scripted(pair.here.model, words=[text("One ", "two").then(gate, after=1)])
    thread_id, following = in_mid_answer(pair)
    assert pair.there.server.terminate() == 0
    shown = following.ended()
    run = pair.here.run_on(thread_id)
    url = f"{pair.here.server.url}/threads/{thread_id}/runs/{run.id}/events"
    rest = Listener(f"{url}?starting_after={shown[-1].id}", None)
    gate.open()
    rest.ended()
    events = heard(following.raw + rest.raw)
    assert streamed_text(events) == "One two"
    assert messages_told(events) == [SHOWN[0], SHOWN[2]]


def test_a_server_that_is_killed_is_taken_over(pair: Pair) -> None:
    scripted(
        pair.here.model,
        words=[text("One ", NEVER_SAID).then(Gate(), after=1), text("One ", "two")],
        nothing=[text(NEVER_SAID).first(Gate()), text("Hello")],
        call=[tool_calls(CALL), text("Sunny.")],
        called=[tool_calls(CALL), text(NEVER_SAID).first(Gate()), text("Sunny.")],
    )
    nothing = silent(pair.here, "nothing")
    asking, called = (calling(pair.here, word) for word in ("call", "called"))
    asks = pair.here.asks_model()
    submitted(pair.here, called)
    asks()
    thread_id, following = in_mid_answer(pair)
    shown = following.heard()
    pair.here.server.kill()
    following.wait_for("thread.message.incomplete", seconds=TAKEN_OVER_SECONDS)
    events = following.ended()
    assert events[: len(shown)] == shown == heard(following.raw)[: len(shown)]
    check_answered_anew(pair, thread_id, events)
    assert_answered(pair.there, nothing, "Hello")
    assert_answered(pair.there, called, "Sunny.")
    assert_answered(pair.there, submitted(pair.there, asking), "Sunny.")
    for run in (asking, called):
        steps = pair.there.steps(run)
        assert [(step.type, step.status) for step in steps] == [
            ("tool_calls", "completed"),
            ("message_creation", "completed"),
        ]


def calling(scene: Scene, word: str) -> Run:
    """A run that waits for the output of a function."""
    run = scene.rest(scene.start(scene.thread(word), tools=[WEATHER]))
    assert run.status == "requires_action"
    return run


def submitted(scene: Scene, run: Run) -> Run:
    """The run, with the outputs that it waits for."""
    return scene.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=OUTPUTS
    )


def test_what_a_server_writes_after_it_was_taken_over_is_refused(pair: Pair) -> None:
    """Of one run the other server has written more meanwhile, of the other nothing yet."""
    late, gate = Gate(), Gate()
    scripted(
        pair.here.model,
        words=[text("One ", NEVER_SAID).then(late, after=1), text("One ", "two")],
        nothing=[text(NEVER_SAID).first(late), text("Hello").first(gate)],
    )
    nothing = silent(pair.here, "nothing")
    thread_id, following = in_mid_answer(pair)
    words = pair.there.run_on(thread_id)
    with stalled(pair.here.server):
        # As if it had stood still for longer than a claim lasts.
        pair.there.server.ask(
            "UPDATE servers SET seen_at = 0"
            f" WHERE id = (SELECT server FROM work WHERE run_id = '{words.id}')"
        )
        events = following.ended()
        check_answered_anew(pair, thread_id, events)
        gate.arrived.result(PATIENCE_SECONDS)
    late.open()
    lets_go_of(pair.here.server, words, nothing)
    gate.open()
    assert_answered(pair.there, nothing, "Hello")
    assert_logged_once(pair.there, nothing)
    assert_logged_once(pair.there, words)
    assert heard(following.raw) == events
    assert pair.there.server.ask("SELECT * FROM work") == []


def lets_go_of(server: ServerProcess, *runs: Run) -> None:
    """Return when the server has stopped driving them."""
    left = {run.id for run in runs}
    while left:
        line = server.wait_for_log("run_id=")
        left -= {run_id for run_id in left if run_id in line}


def assert_logged_once(scene: Scene, run: Run) -> None:
    """Each number of the run's log is there, and once; and nothing that was said too late."""
    log = scene.server.ask(
        f"SELECT first, last, body FROM events WHERE run_id = '{run.id}' ORDER BY first"
    )
    assert log[0][0] == 1
    assert all(last + 1 == first for (_, last, _), (first, _, _) in pairwise(log))
    assert NEVER_SAID.encode() not in b"".join(body for _, _, body in log)
