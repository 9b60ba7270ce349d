"""Explicit nulls, as frameworks send them: accepted everywhere, and the same as nothing.

Each body is sent with its nulls and without them; both answers must be equal but for what
differs between any two objects.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx2
import pytest
from openai import OpenAI

from tests.sdk.clients import WEATHER, Scripted
from tests.server import ServerProcess

ASSISTANT_NULLS: Final = dict.fromkeys(
    (
        *("name", "description", "instructions", "tools", "tool_resources", "metadata"),
        *("temperature", "top_p", "reasoning_effort", "response_format"),
    )
)
RUN_NULLS: Final = dict.fromkeys(
    (
        *("instructions", "model", "tools", "metadata", "max_prompt_tokens", "stream"),
        *("max_completion_tokens", "response_format", "temperature", "top_p", "tool_choice"),
        *("truncation_strategy", "parallel_tool_calls"),
    )
)
CREATE_RUN_NULLS: Final = dict.fromkeys(
    (*RUN_NULLS, "additional_instructions", "additional_messages", "reasoning_effort")
)
CREATE_AND_RUN_NULLS: Final = dict.fromkeys((*RUN_NULLS, "thread", "tool_resources"))
MESSAGE_NULLS: Final = dict.fromkeys(("metadata", "attachments"))
THREAD_NULLS: Final = dict.fromkeys(("messages", "metadata", "tool_resources"))
# What differs between any two objects.
OWN: Final = frozenset(
    {"id", "created_at", "completed_at", "expires_at", "thread_id", "assistant_id"}
)
FULL: Final[Mapping[str, Any]] = {
    "model": "demo",
    "name": "Ada",
    "description": "Kind",
    "instructions": "Be kind.",
    "tools": [WEATHER],
    "metadata": {"a": "1"},
    "temperature": 0.5,
    "top_p": 0.5,
    "reasoning_effort": "low",
    "response_format": {"type": "text"},
}


@pytest.fixture
def raw(demo: ServerProcess) -> Iterator[httpx2.Client]:
    """No SDK at all."""
    headers = {"OpenAI-Beta": "assistants=v2"}
    with httpx2.Client(base_url=demo.url, headers=headers, timeout=20) as client:
        yield client


def _posted(raw: httpx2.Client, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    answer = raw.post(path, json=body)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def _common(shown: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in shown.items() if key not in OWN}


def test_nulls_of_a_new_assistant_are_nothing(raw: httpx2.Client) -> None:
    plain = _posted(raw, "/assistants", {"model": "demo"})
    nulled = _posted(raw, "/assistants", {"model": "demo", **ASSISTANT_NULLS})
    assert _common(nulled) == _common(plain)


def test_nulls_of_a_changed_assistant_change_nothing(raw: httpx2.Client) -> None:
    made = _posted(raw, "/assistants", FULL)
    nulls = {"model": None, **ASSISTANT_NULLS}
    assert _posted(raw, f"/assistants/{made['id']}", nulls) == made


def test_nulls_of_a_thread_are_nothing(raw: httpx2.Client) -> None:
    nulled = _posted(raw, "/threads", THREAD_NULLS)
    assert _common(nulled) == _common(_posted(raw, "/threads", {}))
    made = _posted(raw, "/threads", {"metadata": {"a": "1"}})
    nulls = {"metadata": None, "tool_resources": None}
    assert _posted(raw, f"/threads/{made['id']}", nulls) == made


def test_nulls_of_a_message_are_nothing(raw: httpx2.Client) -> None:
    said = {"role": "user", "content": "Hello"}
    thread = _posted(raw, "/threads", {"messages": [{**said, **MESSAGE_NULLS}]})
    path = f"/threads/{thread['id']}/messages"
    (first,) = raw.get(path).json()["data"]
    plain = _posted(raw, path, said)
    nulled = _posted(raw, path, {**said, **MESSAGE_NULLS})
    assert _common(first) == _common(plain) == _common(nulled)
    made = _posted(raw, path, {**said, "metadata": {"a": "1"}})
    assert _posted(raw, f"{path}/{made['id']}", {"metadata": None}) == made


def test_nulls_of_a_run_are_nothing(raw: httpx2.Client, one_client: OpenAI) -> None:
    assistant_id = _posted(raw, "/assistants", FULL)["id"]
    shown = []
    for nulls in ({}, CREATE_RUN_NULLS):
        thread = _posted(raw, "/threads", {})
        path = f"/threads/{thread['id']}/runs"
        run = _posted(raw, path, {"assistant_id": assistant_id, **nulls})
        shown.append(_common(run))
        one_client.beta.threads.runs.poll(run["id"], thread_id=thread["id"])
        rested = raw.get(f"{path}/{run['id']}").json()
        assert rested["status"] == "completed"
        assert _posted(raw, f"{path}/{run['id']}", {"metadata": None}) == rested
    plain, nulled = shown
    assert nulled == plain
    assert plain["instructions"] == "Be kind."


def test_nulls_of_create_and_run_are_nothing(raw: httpx2.Client) -> None:
    assistant_id = _posted(raw, "/assistants", FULL)["id"]
    asked = {"assistant_id": assistant_id}
    plain = _posted(raw, "/threads/runs", asked)
    assert _common(_posted(raw, "/threads/runs", {**asked, **CREATE_AND_RUN_NULLS})) == (
        _common(plain)
    )
    threaded = _posted(raw, "/threads/runs", {**asked, "thread": THREAD_NULLS})
    assert _common(threaded) == _common(plain)


def test_the_model_hears_nothing_of_nulls(scripted: Scripted) -> None:
    assistant_id = scripted.assistant(instructions="Be kind.", temperature=0.5, tools=[WEATHER])
    runs = scripted.client.beta.threads.runs
    nulls = {key: value for key, value in CREATE_RUN_NULLS.items() if key != "stream"}
    for extra in ({}, nulls):
        run = runs.create_and_poll(
            thread_id=scripted.thread("Hello"), assistant_id=assistant_id, extra_body=extra
        )
        assert run.status == "completed"
    assert scripted.asked(-1) == scripted.asked(-2)


def test_nulls_of_tool_outputs_are_nothing(raw: httpx2.Client, one_client: OpenAI) -> None:
    assistant = one_client.beta.assistants.create(model="demo", tools=[WEATHER])
    run = one_client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "Use get_weather."}]},
    )
    assert run.required_action is not None
    (call,) = run.required_action.submit_tool_outputs.tool_calls
    path = f"/threads/{run.thread_id}/runs/{run.id}/submit_tool_outputs"
    outputs = [{"tool_call_id": call.id, "output": "Sunny"}]
    queued = _posted(raw, path, {"tool_outputs": outputs, "stream": None})
    assert queued["status"] == "queued"
