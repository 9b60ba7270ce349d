"""Refusals that depend on what is there, word for word as OpenAI says them: clients match on them."""

# ruff: noqa: E501 - a row of a table is a line

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.http.conversation import WEATHER_TOOL, Conversation
from tests.server import ServerProcess, running_server

HELLO: Final = {"role": "user", "content": "Hello"}
T: Final = {"thread_id": "thread_x"}
R: Final = {**T, "run_id": "run_x"}
# operation, ids, body, text
UNKNOWN: Final[list[tuple[str, dict[str, str], Any, str]]] = [
    ("getAssistant", {"assistant_id": "asst_x"}, None, "No assistant found with id 'asst_x'."),
    ("modifyAssistant", {"assistant_id": "asst_x"}, {}, "No assistant found with id 'asst_x'."),
    ("deleteAssistant", {"assistant_id": "asst_x"}, None, "No assistant found with id 'asst_x'."),
    ("createThreadAndRun", {}, {"assistant_id": "asst_x"}, "No assistant found with id 'asst_x'."),
    (
        "createRun",
        {"thread_id": "here"},
        {"assistant_id": "asst_x"},
        "No assistant found with id 'asst_x'.",
    ),
    ("createRun", T, {"assistant_id": "here"}, "No thread found with id 'thread_x'."),
    ("getThread", T, None, "No thread found with id 'thread_x'."),
    ("modifyThread", T, {}, "No thread found with id 'thread_x'."),
    ("deleteThread", T, None, "No thread found with id 'thread_x'."),
    ("listMessages", T, None, "No thread found with id 'thread_x'."),
    ("createMessage", T, HELLO, "No thread found with id 'thread_x'."),
    ("listRuns", T, None, "No thread found with id 'thread_x'."),
    (
        "getMessage",
        {"thread_id": "here", "message_id": "msg_x"},
        None,
        "No message found with id 'msg_x'.",
    ),
    (
        "deleteMessage",
        {"thread_id": "here", "message_id": "msg_x"},
        None,
        "No message found with id 'msg_x'.",
    ),
    ("getRun", R | {"thread_id": "here"}, None, "No run found with id 'run_x'."),
    ("cancelRun", R | {"thread_id": "here"}, None, "No run found with id 'run_x'."),
    ("listRunSteps", R | {"thread_id": "here"}, None, "No run found with id 'run_x'."),
]


@pytest.fixture(scope="module")
def conversation(demo_server: ServerProcess) -> Iterator[Conversation]:
    with closing(Conversation(demo_server.url)) as talk:
        yield talk


@pytest.fixture(scope="module")
def assistant_id(conversation: Conversation) -> str:
    body = {"model": "demo", "tools": [WEATHER_TOOL]}
    return conversation.make("createAssistant", body=body)


@pytest.fixture
def thread_id(conversation: Conversation) -> str:
    return conversation.make("createThread")


@pytest.fixture
def waiting(conversation: Conversation, assistant_id: str, thread_id: str) -> dict[str, Any]:
    """A run that waits for the output of two calls of a function."""
    said = "Please get_weather in Paris"
    body = {
        "assistant_id": assistant_id,
        "tools": [WEATHER_TOOL, {"type": "function", "function": {"name": "get_time"}}],
        "additional_messages": [{"role": "user", "content": f"{said} and get_time"}],
    }
    run_id = conversation.make("createRun", ids={"thread_id": thread_id}, body=body)
    run = conversation.rest(thread_id, run_id)
    assert run["status"] == "requires_action"
    return run


def refusal(response: httpx2.Response, status: int = 400) -> tuple[Any, Any, str]:
    """A refusal's code, param and message."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error["code"], error["param"], error["message"]


@pytest.mark.parametrize(("operation_id", "ids", "body", "text"), UNKNOWN)
def test_what_is_not_there_is_named(
    conversation: Conversation,
    assistant_id: str,
    thread_id: str,
    operation_id: str,
    ids: dict[str, str],
    body: Any,
    text: str,
) -> None:
    here = {"thread_id": thread_id, "assistant_id": assistant_id}
    ids = {name: here[name] if value == "here" else value for name, value in ids.items()}
    if body is not None and body.get("assistant_id") == "here":
        body = {"assistant_id": assistant_id}
    response = conversation.call(operation_id, ids=ids, body=body)
    assert refusal(response, 404) == (None, None, text)


def test_an_unknown_step_and_an_unknown_model_are_named(
    conversation: Conversation, waiting: dict[str, Any]
) -> None:
    ids = {"thread_id": waiting["thread_id"], "run_id": waiting["id"], "step_id": "step_x"}
    text = "No run step found with id 'step_x'."
    assert refusal(conversation.call("getRunStep", ids=ids), 404) == (None, None, text)
    answer = conversation.call("retrieveModel", ids={"model": "x"})
    told = ("model_not_found", "model", "The model 'x' does not exist")
    assert refusal(answer, 404) == told


def test_a_thread_is_locked_while_a_run_is_active(
    conversation: Conversation, waiting: dict[str, Any]
) -> None:
    thread_id, run_id = waiting["thread_id"], waiting["id"]
    ids = {"thread_id": thread_id}
    response = conversation.call("createMessage", ids=ids, body=HELLO)
    text = f"Can't add messages to {thread_id} while a run {run_id} is active."
    assert refusal(response) == (None, None, text)
    again = {"assistant_id": waiting["assistant_id"]}
    response = conversation.call("createRun", ids=ids, body=again)
    text = f"Thread {thread_id} already has an active run {run_id}."
    assert refusal(response) == (None, None, text)


def test_outputs_must_be_those_of_all_calls(
    conversation: Conversation, waiting: dict[str, Any]
) -> None:
    ids = {"thread_id": waiting["thread_id"], "run_id": waiting["id"]}
    calls = [call["id"] for call in waiting["required_action"]["submit_tool_outputs"]["tool_calls"]]
    assert len(calls) == 2
    for given in ([], calls[:1], [*calls, "call_x"], [calls[0], calls[0]]):
        outputs = [{"tool_call_id": id, "output": ""} for id in given]
        response = conversation.call(
            "submitToolOuputsToRun", ids=ids, body={"tool_outputs": outputs}
        )
        text = f"Expected tool outputs for call_ids {calls}, got {given}"
        assert refusal(response) == (None, None, text)


def test_a_run_refuses_what_its_status_does_not_allow(
    conversation: Conversation, waiting: dict[str, Any]
) -> None:
    ids = {"thread_id": waiting["thread_id"], "run_id": waiting["id"]}
    conversation.call("cancelRun", ids=ids)
    assert conversation.rest(**ids)["status"] == "cancelled"
    text = "Cannot cancel run with status 'cancelled'."
    assert refusal(conversation.call("cancelRun", ids=ids)) == (None, None, text)
    response = conversation.call("submitToolOuputsToRun", ids=ids, body={"tool_outputs": []})
    text = 'Runs in status "cancelled" do not accept tool outputs.'
    assert refusal(response) == (None, None, text)


def test_a_run_needs_something_to_answer(
    conversation: Conversation, assistant_id: str, thread_id: str
) -> None:
    body = {"assistant_id": assistant_id}
    response = conversation.call("createRun", ids={"thread_id": thread_id}, body=body)
    text = "Run creation requires a Thread with a user message or an assistant with instructions."
    assert refusal(response) == ("invalid_thread", None, text)


@pytest.mark.parametrize(
    ("body", "param", "text"),
    [
        ({"assistant_id": "gpt"}, "assistant_id", "Invalid 'assistant_id': 'gpt'. Expected an ID that begins with 'asst'."),
        ({"assistant_id": "asst_a/b"}, "assistant_id", "Invalid 'assistant_id': 'asst_a/b'. Expected an ID that contains letters, numbers, underscores, or dashes, but this value contained additional characters."),
    ],
)  # fmt: skip
def test_an_id_in_a_body_is_checked_like_one_in_a_path(
    conversation: Conversation, body: Any, param: str, text: str
) -> None:
    response = conversation.call("createThreadAndRun", body=body)
    assert refusal(response) == ("invalid_value", param, text)


def test_last_messages_needs_its_number(conversation: Conversation, assistant_id: str) -> None:
    strategy = {"type": "last_messages"}
    body = {"assistant_id": assistant_id, "truncation_strategy": strategy}
    param = "truncation_strategy.last_messages"
    told = ("missing_required_parameter", param, f"Missing required parameter: '{param}'.")
    assert refusal(conversation.call("createThreadAndRun", body=body)) == told


def test_a_missing_and_a_wrong_key_are_told_apart(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    making = (sys.executable, "-m", "rethread", "keys", "create", "--project", "p")
    subprocess.run([*making, "--data-dir", str(data_dir)], check=True, capture_output=True)
    with running_server(data_dir) as server:
        code, param, text = refusal(httpx2.get(f"{server.url}/assistants"), 401)
        assert (code, param) == (None, None)
        assert text.startswith(
            "You didn't provide an API key. You need to provide your API key in an Authorization "
            "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)"
        )
        wrong = "sk-abcdefghijklmnopqrstuvwxyz"
        headers = {"authorization": f"Bearer {wrong}"}
        code, param, text = refusal(httpx2.get(f"{server.url}/assistants", headers=headers), 401)
        assert (code, param) == ("invalid_api_key", None)
        assert text.startswith("Incorrect API key provided: sk-***wxyz.")
        headers["openai-beta"] = "assistants=v1"  # looked at before the key is
        assert refusal(httpx2.get(f"{server.url}/assistants", headers=headers))[0] == "invalid_beta"
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
