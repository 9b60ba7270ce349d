"""Run steps through the stock SDK: what they tell of a run, listed and one by one."""

from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from tests.sdk.clients import WEATHER

INCLUDE: Any = "step_details.tool_calls[*].file_search.results[*].content"
STEP_KEYS = {
    *("id", "object", "created_at", "run_id", "assistant_id", "thread_id", "type", "status"),
    *("cancelled_at", "completed_at", "expires_at", "expired_at", "failed_at", "last_error"),
    *("step_details", "usage", "metadata"),
}


async def _run(client: AsyncOpenAI, said: str) -> Any:
    assistant = await client.beta.assistants.create(model="demo", tools=[WEATHER])
    return await client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": said}]}
    )


async def test_the_step_of_an_answer_names_its_message(client: AsyncOpenAI) -> None:
    run = await _run(client, "Hello")
    page = await client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)
    (step,) = page.data
    assert set(step.to_dict()) == STEP_KEYS
    assert step.id.startswith("step_")
    assert (step.type, step.status, step.run_id) == ("message_creation", "completed", run.id)
    assert step.step_details.type == "message_creation"
    message_id = step.step_details.message_creation.message_id
    message = await client.beta.threads.messages.retrieve(message_id, thread_id=run.thread_id)
    assert message.run_id == run.id
    assert step.usage is not None
    assert step.usage.to_dict() == run.usage.to_dict()
    assert (step.cancelled_at, step.failed_at, step.last_error) == (None, None, None)


async def test_steps_stand_in_the_order_of_their_execution(client: AsyncOpenAI) -> None:
    run = await _run(client, "Use get_weather for Paris.")
    steps = client.beta.threads.runs.steps
    (waiting,) = (await steps.list(run.id, thread_id=run.thread_id)).data
    assert (waiting.type, waiting.status) == ("tool_calls", "in_progress")
    details: Any = waiting.step_details.to_dict()
    (called,) = details["tool_calls"]
    assert called["function"]["output"] is None
    done = await client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=run.thread_id,
        tool_outputs=[{"tool_call_id": called["id"], "output": "Sunny"}],
    )
    assert done.status == "completed"
    page = await steps.list(run.id, thread_id=run.thread_id, order="asc", include=[INCLUDE])
    first, second = page.data
    assert (first.type, second.type) == ("tool_calls", "message_creation")
    assert first.id == waiting.id
    details = first.step_details.to_dict()
    assert details["tool_calls"][0]["function"]["output"] == "Sunny"
    assert done.usage is not None
    assert first.usage is not None
    assert second.usage is not None
    spent = first.usage.total_tokens + second.usage.total_tokens
    assert done.usage.total_tokens == spent
    newest = await steps.list(run.id, thread_id=run.thread_id, limit=1)
    assert newest.data == [second]


async def test_a_step_is_read_by_its_id(client: AsyncOpenAI) -> None:
    run = await _run(client, "Hello")
    steps = client.beta.threads.runs.steps
    (listed,) = (await steps.list(run.id, thread_id=run.thread_id)).data
    found = await steps.retrieve(
        listed.id, thread_id=run.thread_id, run_id=run.id, include=[INCLUDE]
    )
    assert found == listed
    unknown = "step_" + "x" * 24
    with pytest.raises(NotFoundError, match=f"No run step found with id '{unknown}'"):
        await steps.retrieve(unknown, thread_id=run.thread_id, run_id=run.id)


def test_anything_else_cannot_be_included(one_client: OpenAI) -> None:
    assistant = one_client.beta.assistants.create(model="demo", instructions="Hello")
    run = one_client.beta.threads.create_and_run_poll(assistant_id=assistant.id)
    wrong: Any = ["usage"]
    with pytest.raises(BadRequestError, match="Invalid value: 'usage'") as refused:
        one_client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, include=wrong)
    assert refused.value.param == "include"
