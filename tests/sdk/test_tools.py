"""Function calls through the stock SDK: the helpers, the outputs that are refused, the choices."""

from typing import Any, Final

import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI

from tests.fakes.replies import Call, text, tool_calls
from tests.sdk.clients import WEATHER, Scripted

TIME: Final[Any] = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
ASKS_FOR_BOTH: Final = "Use get_weather and get_time for Paris."


def _thread(said: str) -> Any:
    return {"messages": [{"role": "user", "content": said}]}


def _calls(run: Any) -> list[Any]:
    """The calls that a run waits for."""
    assert run.status == "requires_action"
    assert run.required_action.type == "submit_tool_outputs"
    return list(run.required_action.submit_tool_outputs.tool_calls)


def _outputs(*ids: str) -> Any:
    return [{"tool_call_id": id, "output": f"Output of {id}"} for id in ids]


async def _asking(client: AsyncOpenAI, said: str, **fields: Any) -> Any:
    """A new run on a new thread, polled until it rests."""
    assistant = await client.beta.assistants.create(model="demo", tools=[WEATHER, TIME])
    return await client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread=_thread(said), **fields
    )


def _waiting(scripted: Scripted, *ids: str) -> Any:
    """A run that waits for the outputs of these calls."""
    calls = [Call(id, "get_weather", '{"city":"Paris"}') for id in ids]
    scripted.model.replies.append(tool_calls(*calls))
    return scripted.client.beta.threads.create_and_run_poll(
        assistant_id=scripted.assistant(tools=[WEATHER]), thread=_thread("Weather?")
    )


async def test_one_call_is_asked_for_and_answered(client: AsyncOpenAI) -> None:
    run = await _asking(client, "Use get_weather for Paris.")
    (call,) = _calls(run)
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert call.id.startswith("call_")
    assert (run.usage, run.completed_at) == (None, None)
    assert run.expires_at == run.created_at + 600
    done = await client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=_outputs(call.id)
    )
    assert (done.status, done.required_action, done.expires_at) == ("completed", None, None)
    page = await client.beta.threads.messages.list(run.thread_id, limit=1)
    (part,) = page.data[0].content
    assert part.type == "text"
    assert f"get_weather answered: «Output of {call.id}»." in part.text.value


async def test_parallel_calls_are_answered_together(client: AsyncOpenAI) -> None:
    run = await _asking(client, ASKS_FOR_BOTH)
    calls = _calls(run)
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    # In whatever order.
    outputs = _outputs(*(call.id for call in reversed(calls)))
    done = await client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=outputs
    )
    assert done.status == "completed"
    steps = await client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    details: Any = steps.data[0].step_details.to_dict()
    told = [(call["id"], call["function"]["output"]) for call in details["tool_calls"]]
    assert told == [(call.id, f"Output of {call.id}") for call in calls]


async def test_outputs_queue_the_run_again(client: AsyncOpenAI) -> None:
    run = await _asking(client, "Use get_weather for Paris.")
    queued = await client.beta.threads.runs.submit_tool_outputs(
        run.id, thread_id=run.thread_id, tool_outputs=_outputs(_calls(run)[0].id)
    )
    assert (queued.status, queued.required_action) == ("queued", None)
    assert (queued.started_at, queued.expires_at) == (run.started_at, run.expires_at)
    done = await client.beta.threads.runs.poll(run.id, thread_id=run.thread_id)
    assert done.status == "completed"


def test_the_model_is_told_of_its_calls_and_their_outputs(scripted: Scripted) -> None:
    run = _waiting(scripted, "call_a", "call_b")
    scripted.model.replies.append(text("Sunny."))
    done = scripted.client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=run.thread_id, tool_outputs=_outputs("call_b", "call_a")
    )
    assert done.status == "completed"
    _, called, *told = scripted.asked()["messages"]
    assert [call["id"] for call in called["tool_calls"]] == ["call_a", "call_b"]
    assert [(message["role"], message["tool_call_id"]) for message in told] == [
        ("tool", "call_a"),
        ("tool", "call_b"),
    ]
    assert [message["content"] for message in told] == ["Output of call_a", "Output of call_b"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ([], "[]"),
        (["call_a"], "['call_a']"),
        (["call_a", "call_x"], "['call_a', 'call_x']"),
        (["call_a", "call_b", "call_x"], "['call_a', 'call_b', 'call_x']"),
        (["call_a", "call_a", "call_b"], "['call_a', 'call_a', 'call_b']"),
    ],
    ids=["none", "missing", "wrong", "extra", "twice"],
)
def test_other_outputs_than_those_asked_for_are_refused(
    scripted: Scripted, given: list[str], shown: str
) -> None:
    run = _waiting(scripted, "call_a", "call_b")
    runs = scripted.client.beta.threads.runs
    with pytest.raises(BadRequestError) as refused:
        runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=_outputs(*given))
    assert refused.value.body == {
        "message": f"Expected tool outputs for call_ids ['call_a', 'call_b'], got {shown}",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    # Nothing has changed.
    assert runs.retrieve(run.id, thread_id=run.thread_id) == run


def test_outputs_in_another_state_are_refused(one_client: OpenAI) -> None:
    assistant = one_client.beta.assistants.create(model="demo")
    run = one_client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread=_thread("Hello")
    )
    with pytest.raises(BadRequestError) as refused:
        one_client.beta.threads.runs.submit_tool_outputs(
            run.id, thread_id=run.thread_id, tool_outputs=_outputs("call_a")
        )
    assert refused.value.body == {
        "message": 'Runs in status "completed" do not accept tool outputs.',
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_a_chosen_function_is_called_unasked(client: AsyncOpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "get_time"}}
    run = await _asking(client, "Hello", tool_choice=choice)
    assert [call.function.name for call in _calls(run)] == ["get_time"]
    assert run.tool_choice.to_dict() == choice


async def test_the_choice_of_none_calls_nothing(client: AsyncOpenAI) -> None:
    run = await _asking(client, ASKS_FOR_BOTH, tool_choice="none")
    assert (run.status, run.tool_choice) == ("completed", "none")


async def test_calls_come_one_by_one_where_parallel_ones_are_not_wanted(
    client: AsyncOpenAI,
) -> None:
    run = await _asking(client, ASKS_FOR_BOTH, parallel_tool_calls=False)
    called = []
    while run.status == "requires_action":
        (call,) = _calls(run)
        called.append(call.function.name)
        run = await client.beta.threads.runs.submit_tool_outputs_and_poll(
            run_id=run.id, thread_id=run.thread_id, tool_outputs=_outputs(call.id)
        )
    assert called == ["get_weather", "get_time"]
    assert run.status == "completed"


async def test_create_and_run_can_bring_its_own_functions(client: AsyncOpenAI) -> None:
    assistant = await client.beta.assistants.create(model="demo")
    run = await client.beta.threads.create_and_run(
        assistant_id=assistant.id, thread=_thread("Use get_time."), tools=[TIME]
    )
    rested = await client.beta.threads.runs.poll(run.id, thread_id=run.thread_id)
    assert [call.function.name for call in _calls(rested)] == ["get_time"]
    assert (await client.beta.assistants.retrieve(assistant.id)).tools == []
