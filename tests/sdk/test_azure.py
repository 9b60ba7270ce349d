"""Azure's clients of the stock SDK: their paths, their header for the key, a conversation."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import httpx2
import pytest
from openai import AsyncAzureOpenAI, AuthenticationError, AzureOpenAI, OpenAI

from tests.sdk.clients import TIMEOUT_SECONDS, WEATHER, in_short
from tests.server import ServerProcess, running_server

ASKS_FOR_WEATHER: Final = "Use get_weather for Paris."
WRONG_KEY: Final = "rt-wrong"


class Locked(NamedTuple):
    """A server that wants a key, and the key."""

    server: ServerProcess
    key: str


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """A server for which the first key was made while it ran."""
    with running_server(tmp_path_factory.mktemp("locked") / "data") as server:
        yield Locked(server, server.new_key("azure"))


def _options(server: ServerProcess, **options: Any) -> dict[str, Any]:
    return {
        "azure_endpoint": server.root,
        "api_version": "2024-05-01-preview",
        "api_key": "any",
        "_strict_response_validation": True,
        "timeout": TIMEOUT_SECONDS,
        "max_retries": 0,
        **options,
    }


def _outputs(run: Any) -> Any:
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [{"tool_call_id": call.id, "output": "Sunny"} for call in calls]


def _talk(client: AzureOpenAI) -> None:
    """A conversation: a streamed question, a call, its output, the answer, and the end."""
    threads = client.beta.threads
    assistant = client.beta.assistants.create(model="my-deployment", tools=[WEATHER])
    thread = threads.create()
    threads.messages.create(thread.id, role="user", content=ASKS_FOR_WEATHER)
    with threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        run = stream.get_final_run()
    assert (run.status, run.model) == ("requires_action", "my-deployment")
    with threads.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=thread.id, tool_outputs=_outputs(run)
    ) as stream:
        events = [event.event for event in stream]
    assert in_short(events)[-1] == "run.completed"
    threads.messages.create(thread.id, role="user", content="Thanks")
    polled = threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    assert polled.status == "completed"
    assert [message.role for message in threads.messages.list(thread.id, limit=2)] == [
        *("assistant", "user", "assistant", "user")
    ]
    assert threads.delete(thread.id).deleted
    assert client.beta.assistants.delete(assistant.id).deleted


def test_a_conversation_by_the_endpoint_alone(demo: ServerProcess) -> None:
    paths: list[str] = []
    watched = httpx2.Client(event_hooks={"request": [lambda sent: paths.append(sent.url.path)]})
    with AzureOpenAI(**_options(demo, http_client=watched)) as client:
        _talk(client)
    assert paths
    assert all(path.startswith("/openai/") for path in paths)


def test_a_conversation_with_a_deployment(demo: ServerProcess) -> None:
    with AzureOpenAI(**_options(demo, azure_deployment="my-deployment")) as client:
        _talk(client)


def test_a_conversation_below_the_path_of_a_deployment(demo: ServerProcess) -> None:
    # Where older SDKs send these calls by themselves.
    url = f"{demo.root}/openai/deployments/my-deployment"
    options = _options(demo, base_url=url)
    del options["azure_endpoint"]
    with AzureOpenAI(**options) as client:
        _talk(client)


async def test_a_conversation_of_the_async_client(demo: ServerProcess) -> None:
    async with AsyncAzureOpenAI(**_options(demo)) as client:
        threads = client.beta.threads
        assistant = await client.beta.assistants.create(model="my-deployment", tools=[WEATHER])
        said: Any = {"messages": [{"role": "user", "content": ASKS_FOR_WEATHER}]}
        async with threads.create_and_run_stream(assistant_id=assistant.id, thread=said) as stream:
            run = await stream.get_final_run()
        done = await threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id, thread_id=run.thread_id, tool_outputs=_outputs(run)
        )
        assert done.status == "completed"
        roles = [message.role async for message in threads.messages.list(run.thread_id, limit=1)]
        assert roles == ["assistant", "user"]


def test_azures_header_opens_the_project_of_its_key(locked: Locked) -> None:
    sent: list[httpx2.Request] = []
    watched = httpx2.Client(event_hooks={"request": [sent.append]})
    options = _options(locked.server, api_key=locked.key, http_client=watched)
    with AzureOpenAI(**options) as client:
        assistant = client.beta.assistants.create(model="demo")
        _talk(client)
    assert all(request.headers["api-key"] == locked.key for request in sent)
    # The same project as by the other header.
    with OpenAI(base_url=locked.server.url, api_key=locked.key, max_retries=0) as other:
        assert other.beta.assistants.retrieve(assistant.id).id == assistant.id


def test_azures_header_alone_is_enough(locked: Locked) -> None:
    url = f"{locked.server.root}/openai/assistants?api-version=2024-05-01-preview"
    assert httpx2.get(url, headers={"api-key": locked.key}).status_code == 200
    assert httpx2.get(url, headers={"api-key": WRONG_KEY}).status_code == 401
    assert httpx2.get(url).status_code == 401


async def test_a_wrong_key_is_refused(locked: Locked) -> None:
    options = _options(locked.server, api_key=WRONG_KEY)
    with AzureOpenAI(**options) as client, pytest.raises(AuthenticationError) as refused:
        client.beta.assistants.list()
    assert refused.value.code == "invalid_api_key"
    async with AsyncAzureOpenAI(**options) as other:
        with pytest.raises(AuthenticationError):
            await other.beta.threads.create()
