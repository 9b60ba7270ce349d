"""code_interpreter through the stock SDKs: code is streamed, run and shown, and gives files."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from openai import OpenAI

from tests.fakes.model_server import ModelServer
from tests.fakes.replies import Call, text, tool_calls
from tests.sdk import notebook, test_node, test_old_sdks
from tests.sdk.clients import WEATHER, Scripted, sync_client
from tests.sdk.handlers import Handler
from tests.server import ServerProcess, running_server

CODE: Final[Any] = {"type": "code_interpreter"}
ON_SQLITE: Final = pytest.mark.parametrize("demo", ["sqlite"], indirect=True)
SCRIPTED_ON_SQLITE: Final = pytest.mark.parametrize("scripted_parts", ["sqlite"], indirect=True)
SEEN: Final = {
    "begun": ["code_interpreter"],
    "input": True,
    "heard": True,
    "logs": "2 months\n",
    "image": True,
    "bytes": "GIF89a",
    "link": ["sandbox:/mnt/data/total.txt"] * 2,
    "heard_link": True,
    "made": ["total.txt", "assistants_output", "7"],
    "kept": True,
    "polled": "completed",
    "variables": "'June'\n",
}
CHART: Final = """
import matplotlib.pyplot as plt, pandas as pd
table = pd.read_csv("sales, 2026.csv")
table.plot.bar(x="month", y="amount")
plt.show()
table.to_excel("a table.xlsx", index=False)
table.amount.sum()
"""
# It lets go of what it was told to let go of, and goes on: only its end can stop it.
STUBBORN: Final = """
words = ["no", "no", "be" + "gun"]
while True:
    try:
        print(words.pop(), flush=True)
        while True: pass
    except KeyboardInterrupt:
        pass
"""


def written(code: str, id: str = "call_0") -> Call:
    """A call that runs code."""
    return Call(id, "code_interpreter", json.dumps({"code": code}))


def calls_of(client: OpenAI, thread_id: str, run_id: str) -> list[Any]:
    """The calls of a run, in their order."""
    steps = client.beta.threads.runs.steps.list(run_id, thread_id=thread_id, order="asc")
    calls = [step.step_details.tool_calls for step in steps if step.type == "tool_calls"]  # type: ignore[union-attr]
    return [call for group in calls for call in group]


def newest_run(client: OpenAI, thread_id: str) -> Any:
    """The thread's newest run."""
    return client.beta.threads.runs.list(thread_id, limit=1).data[0]


def logs_of(call: Any) -> str:
    """What a call's code has printed."""
    return "".join(each.logs for each in call.code_interpreter.outputs if each.type == "logs")


def told(scripted: Scripted, number: int = -1) -> list[str]:
    """What the model was told of the calls that a prompt shows."""
    messages = scripted.asked(number)["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


@ON_SQLITE
@pytest.mark.parametrize("version", ["1.21.2", "2.54.0"])
def test_code_is_the_same_with_older_sdks(
    needs_sandbox: None, demo: ServerProcess, version: str
) -> None:
    script = Path(notebook.__file__)
    assert test_old_sdks.spoken(version, demo.url, script=script) == SEEN


@ON_SQLITE
@pytest.mark.parametrize("version", test_node.VERSIONS)
def test_code_is_the_same_with_node(
    needs_sandbox: None, demo: ServerProcess, version: str, tmp_path: Path
) -> None:
    assert test_node.spoken(tmp_path, version, demo.url, script="notebook.mjs") == SEEN


def test_code_is_what_the_newest_sdk_expects(needs_sandbox: None, demo: ServerProcess) -> None:
    with sync_client(demo) as client:  # strict: it raises where an answer is not of its type
        assert notebook.analyse(client) == SEEN


@SCRIPTED_ON_SQLITE
def test_a_model_mends_its_code_draws_a_chart_and_links_a_file(
    needs_sandbox: None, scripted: Scripted
) -> None:
    client, link = scripted.client, "sandbox:/mnt/data/a%20table.xlsx"
    table = client.files.create(
        file=("sales, 2026.csv", b"month,amount\nMay,3\nJune,4\n"), purpose="assistants"
    )
    thread = client.beta.threads.create(
        messages=[
            {
                "role": "user",
                "content": "Analyse it.",
                "attachments": [{"file_id": table.id, "tools": [CODE]}],
            }
        ]
    )
    scripted.model.replies.extend(
        [
            tool_calls(written("1 / 0")),
            tool_calls(written(CHART)),
            text("Sum: 7, [the ta", "ble](sandb", "ox:/mnt/data/a%20tab", "le.xlsx) 📈."),
        ]
    )
    handler = Handler()
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=scripted.assistant(tools=[CODE]), event_handler=handler
    ) as stream:
        stream.until_done()
    offered = scripted.asked(-3)["tools"][0]["function"]
    assert offered["name"] == "code_interpreter"
    assert "sales, 2026.csv" in offered["description"]
    assert "pandas" in offered["description"]
    assert "ZeroDivisionError: division by zero" in told(scripted, -2)[0]
    assert "\x1b" not in told(scripted, -2)[0]
    assert "7" in told(scripted, -1)[1]
    said = handler.heard.done["message_done"]
    image, answer = said.content
    [annotation] = answer.text.annotations
    assert annotation.text == link
    assert answer.text.value[annotation.start_index : annotation.end_index] == link
    made = client.files.retrieve(annotation.file_path.file_id)
    assert made.filename == "a table.xlsx"
    assert client.files.content(made.id).read()[:2] == b"PK"
    assert client.files.content(image.image_file.file_id).read()[:8] == b"\x89PNG\r\n\x1a\n"
    failed, drawn = calls_of(client, thread.id, said.run_id)
    assert "ZeroDivisionError" in logs_of(failed)
    assert [output.type for output in drawn.code_interpreter.outputs] == ["image", "logs"]


@SCRIPTED_ON_SQLITE
def test_code_beside_functions_waits_for_them_alone(
    needs_sandbox: None, scripted: Scripted
) -> None:
    client, runs = scripted.client, scripted.client.beta.threads.runs
    weather = Call("call_w", "get_weather", '{"city": "Paris"}')
    first = tool_calls(written("x = 20 + 1"), weather, written("x * 2", "call_1"))
    scripted.model.replies.extend([first, text("Rain, and 42.")])
    run = runs.create_and_poll(
        thread_id=scripted.thread("Both, please."),
        assistant_id=scripted.assistant(tools=[CODE, WEATHER]),
    )
    assert run.status == "requires_action"
    assert run.required_action is not None
    [asked] = run.required_action.submit_tool_outputs.tool_calls
    assert asked.function.name == "get_weather"
    silent, _, spoken = calls_of(client, run.thread_id, run.id)
    assert (silent.code_interpreter.outputs, logs_of(spoken)) == ([], "42\n")
    run = runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": asked.id, "output": "rain"}],
    )
    assert run.status == "completed"
    assert [output.split("\n")[0] for output in told(scripted)][1:] == ["rain", "42"]


@SCRIPTED_ON_SQLITE
def test_a_cancelled_run_stops_its_code_and_keeps_what_it_printed(
    needs_sandbox: None, scripted: Scripted
) -> None:
    client, runs = scripted.client, scripted.client.beta.threads.runs
    assistant_id, thread_id = scripted.assistant(tools=[CODE]), scripted.thread("Go.")
    scripted.model.replies.append(tool_calls(written(STUBBORN)))
    with runs.create(thread_id=thread_id, assistant_id=assistant_id, stream=True) as events:
        for event in events:
            if event.event == "thread.run.step.delta" and "begun" in event.data.to_json():
                runs.cancel(newest_run(client, thread_id).id, thread_id=thread_id)
    run = newest_run(client, thread_id)
    assert run.status == "cancelled"
    [call] = calls_of(client, run.thread_id, run.id)
    assert logs_of(call).startswith("begun\n")
    scripted.model.replies.extend([tool_calls(written("print('here')")), text("Again.")])
    run = runs.create_and_poll(thread_id=thread_id, assistant_id=assistant_id)
    assert run.status == "completed"
    [call] = calls_of(client, run.thread_id, run.id)
    assert logs_of(call) == "here\n"
    assert "variables of before are gone" in told(scripted)[-1]


def test_without_a_sandbox_a_run_says_what_to_install(
    tmp_path: Path, model_server: ModelServer
) -> None:
    # Nothing is found on the PATH: no bubblewrap, no docker.
    with (
        running_server(
            tmp_path / "data", "--upstream", model_server.url, env={"PATH": str(tmp_path)}
        ) as server,
        sync_client(server) as client,
    ):
        assistant = client.beta.assistants.create(model="fake-model", tools=[CODE])
        run = client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "Hi"}]}
        )
    assert run.status == "failed"
    assert run.last_error is not None
    assert "bubblewrap" in run.last_error.message
    assert model_server.requests == []
