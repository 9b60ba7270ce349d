"""A conversation keeps the variables of its code whatever server it reaches, while one has them.

When that server has gone, another makes the session anew from the thread's files, and the model is
told. Each of the two servers may be stopped here.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from rethread.tools.code_interpreter.sessions import ANEW
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Call, Gate, Reply, text, tool_calls
from tests.faults.pair import Pair, heard, pair_of_servers
from tests.faults.scene import PATIENCE_SECONDS, WEATHER, Listener, Scene
from tests.postgres import Postgres
from tests.sandboxes import need_sandbox

TOOLS: Final[list[Any]] = [{"type": "code_interpreter"}, WEATHER]
CALL: Final = Call("call_1", "get_weather", '{"city": "Paris"}')
OUTPUTS: Final[list[Any]] = [{"tool_call_id": CALL.id, "output": "sun"}]
BEGIN: Final = "x = 1; _ = open('made.txt', 'w').write('made')"
LOOK: Final = "print('x' in globals(), open('given.txt').read(), open('made.txt').read())"
FOUND: Final = "False given made"


@pytest.fixture(scope="module")
def both(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, model: ModelServer
) -> Iterator[Pair]:
    """The module's servers, which share a folder of files."""
    need_sandbox()
    folder = tmp_path_factory.mktemp("code")
    files = ("--files", str(folder / "files"))
    flags = ("--shutdown-grace-seconds", "0", "--code-warm", "0", *files)
    with pair_of_servers(postgres, folder, model, *flags) as pair:
        yield pair


def code(source: str) -> Reply:
    """The model has this run."""
    return tool_calls(Call("call_2", "code_interpreter", json.dumps({"code": source})))


def told(model: ModelServer) -> str:
    """What the model was told of the code that it has had run last."""
    content: str = model.requests[-1].body["messages"][-1]["content"]
    return content


def conversation(scene: Scene) -> str:
    """A thread with a file, a variable, and a file that code has made."""
    given = scene.client.files.create(file=("given.txt", b"given"), purpose="assistants")
    thread = scene.beta.threads.create(
        messages=[{"role": "user", "content": "Go on."}],
        tool_resources={"code_interpreter": {"file_ids": [given.id]}},
    )
    came_out(scene, thread.id, BEGIN)
    return thread.id


def came_out(scene: Scene, thread_id: str, source: str) -> str:
    """What the model is told of code in a new run, which is streamed."""
    scene.model.replies.extend([code(source), text("Done.")])
    ended = scene.streamed(thread_id, tools=TOOLS)
    assert ended.run.status == "completed"
    return told(scene.model)


def test_runs_go_to_the_server_that_has_their_threads_session_until_it_stops(pair: Pair) -> None:
    thread_id = conversation(pair.here)
    assert came_out(pair.there, thread_id, "print(x)") == "1"
    pair.there.model.replies.extend([tool_calls(CALL), code("print(x + 1)"), text("Done.")])
    run = pair.there.rest(pair.there.start(thread_id, tools=TOOLS))
    assert run.status == "requires_action"
    pair.there.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=thread_id, tool_outputs=OUTPUTS
    )
    assert pair.there.rest(run).status == "completed"
    assert told(pair.there.model) == "2"
    assert pair.here.server.terminate() == 0
    gate = Gate()
    pair.there.model.replies.extend([code(LOOK).first(gate), text("Done.")])
    run = pair.there.start(thread_id, tools=TOOLS)
    gate.arrived.result(PATIENCE_SECONDS)
    assert pair.there.server.ask("SELECT kept_until FROM work") == [(None,)]  # for nobody
    gate.open()
    assert pair.there.rest(run).status == "completed"
    assert ANEW in told(pair.there.model)
    assert FOUND in told(pair.there.model)


def test_when_a_server_is_killed_the_next_run_has_its_threads_files_and_no_variables(
    pair: Pair,
) -> None:
    thread_id = conversation(pair.here)
    pair.here.server.kill()
    what = came_out(pair.there, thread_id, LOOK)
    assert ANEW in what
    assert FOUND in what


def test_a_run_whose_server_is_killed_in_the_middle_of_code_is_taken_over(pair: Pair) -> None:
    thread_id = conversation(pair.here)
    pair.here.model.replies.append(code("import time; print('begun'); time.sleep(600)"))
    run = pair.here.start(thread_id, tools=TOOLS)
    url = f"{pair.there.server.url}/threads/{thread_id}/runs/{run.id}/events"
    following = Listener(url, None)
    following.wait_for('"logs":"begun')
    pair.here.model.replies.extend([code(LOOK), text("Done.")])
    pair.here.server.kill()
    # As if it had been silent for as long as a claim lasts.
    pair.there.server.ask(
        f"UPDATE servers SET seen_at = 0 WHERE id = (SELECT server FROM work"
        f" WHERE run_id = '{run.id}')"
    )
    following.ended()
    assert heard(following.raw)[-2].name == "thread.run.completed"
    assert ANEW in told(pair.there.model)
    assert FOUND in told(pair.there.model)
    steps = [(step.type, step.status) for step in pair.there.steps(run)]
    assert steps == [
        ("tool_calls", "failed"),
        ("tool_calls", "completed"),
        ("message_creation", "completed"),
    ]
