"""Runs through the stock SDK: every operation and helper, held polls, headers of answers."""

import asyncio
from threading import Timer
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from tests.fakes.replies import Gate, text
from tests.sdk.clients import WEATHER, Scripted, sync_client

RUN_KEYS = {
    *("id", "object", "created_at", "assistant_id", "thread_id", "status", "started_at"),
    *("expires_at", "cancelled_at", "failed_at", "completed_at", "required_action"),
    *("last_error", "model", "instructions", "tools", "tool_resources", "metadata"),
    *("temperature", "top_p", "reasoning_effort", "max_completion_tokens", "max_prompt_tokens"),
    *("truncation_strategy", "incomplete_details", "usage", "response_format", "tool_choice"),
    "parallel_tool_calls",
}


async def _ready(client: AsyncOpenAI, said: str = "Hello", **fields: Any) -> tuple[str, str]:
    """A new assistant's id, and that of a thread which asks it something."""
    assistant = await client.beta.assistants.create(model="demo", **fields)
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": said}])
    return assistant.id, thread.id


async def test_a_new_run_has_every_key_with_its_default(client: AsyncOpenAI) -> None:
    assistant_id, thread_id = await _ready(client, instructions="Be kind.", tools=[WEATHER])
    raw = await client.beta.threads.runs.with_raw_response.create(
        thread_id, assistant_id=assistant_id, metadata={"a": "1"}
    )
    shown = raw.http_response.json()
    assert shown == {
        **dict.fromkeys(RUN_KEYS),
        "id": shown["id"],
        "object": "thread.run",
        "created_at": shown["created_at"],
        "assistant_id": assistant_id,
        "thread_id": thread_id,
        "status": "queued",
        "expires_at": shown["created_at"] + 600,
        "model": "demo",
        "instructions": "Be kind.",
        "tools": [{"type": "function", "function": {**WEATHER["function"], "strict": False}}],
        "tool_resources": {},
        "metadata": {"a": "1"},
        "temperature": 1.0,
        "top_p": 1.0,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }
    assert shown["id"].startswith("run_")
    assert len(shown["id"]) == len("run_") + 24
    assert 200 <= int(raw.headers["openai-poll-after-ms"]) <= 500


async def test_create_and_poll_ends_with_the_answer(client: AsyncOpenAI) -> None:
    assistant_id, thread_id = await _ready(client, said="What is new?")
    runs = client.beta.threads.runs
    run = await runs.create_and_poll(thread_id=thread_id, assistant_id=assistant_id)
    assert run.status == "completed"
    assert set(run.to_dict()) == RUN_KEYS
    assert (run.expires_at, run.last_error, run.required_action) == (None, None, None)
    assert run.started_at is not None
    assert run.completed_at is not None
    assert run.created_at <= run.started_at <= run.completed_at
    assert run.usage is not None
    assert run.usage.total_tokens == run.usage.prompt_tokens + run.usage.completion_tokens > 0
    page = await client.beta.threads.messages.list(thread_id)
    (part,) = page.data[0].content
    assert part.type == "text"
    assert "«What is new?»" in part.text.value


async def test_create_and_run_makes_the_thread_too(client: AsyncOpenAI) -> None:
    assistant = await client.beta.assistants.create(model="demo")
    run = await client.beta.threads.create_and_run(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "Hello"}], "metadata": {"a": "1"}},
    )
    assert run.status == "queued"
    thread = await client.beta.threads.retrieve(run.thread_id)
    assert thread.metadata == {"a": "1"}
    polled = await client.beta.threads.runs.poll(run.id, thread_id=run.thread_id)
    assert polled.status == "completed"


async def test_create_and_run_poll_ends_with_the_answer(client: AsyncOpenAI) -> None:
    assistant = await client.beta.assistants.create(model="demo")
    run = await client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "Hello"}]},
    )
    assert run.status == "completed"
    page = await client.beta.threads.messages.list(run.thread_id)
    assert [message.role for message in page.data] == ["assistant", "user"]


async def test_runs_are_listed_read_and_modified(client: AsyncOpenAI) -> None:
    assistant_id, thread_id = await _ready(client)
    runs = client.beta.threads.runs
    made = [
        await runs.create_and_poll(thread_id=thread_id, assistant_id=assistant_id) for _ in "ab"
    ]
    page = await runs.list(thread_id)
    assert page.data == made[::-1]
    changed = await runs.update(made[0].id, thread_id=thread_id, metadata={"seen": "yes"})
    assert changed.metadata == {"seen": "yes"}
    assert await runs.retrieve(made[0].id, thread_id=thread_id) == changed


async def test_a_run_in_progress_is_cancelled_while_the_model_is_silent(
    scripted: Scripted,
) -> None:
    gate = Gate()
    scripted.model.replies.append(text("Never").first(gate))
    thread_id = scripted.thread("Hello")
    runs = scripted.client.beta.threads.runs
    run = runs.create(thread_id, assistant_id=scripted.assistant())
    await asyncio.wrap_future(gate.arrived)
    try:
        cancelling = runs.cancel(run.id, thread_id=thread_id)
        assert (cancelling.status, cancelling.cancelled_at) == ("cancelling", None)
        cancelled = runs.poll(run.id, thread_id=thread_id)
    finally:
        gate.open()
    assert cancelled.status == "cancelled"
    assert cancelled.cancelled_at is not None
    assert cancelled.expires_at is None
    with pytest.raises(BadRequestError, match="Cannot cancel run with status 'cancelled'"):
        runs.cancel(run.id, thread_id=thread_id)
    scripted.client.beta.threads.messages.create(thread_id, role="user", content="Free again")


async def test_a_second_run_is_refused_while_the_first_is_active(scripted: Scripted) -> None:
    gate = Gate()
    scripted.model.replies.append(text("Late").first(gate))
    assistant_id, thread_id = scripted.assistant(), scripted.thread("Hello")
    runs = scripted.client.beta.threads.runs
    run = runs.create(thread_id, assistant_id=assistant_id)
    try:
        with pytest.raises(BadRequestError) as refused:
            runs.create(thread_id, assistant_id=assistant_id)
        said = f"Thread {thread_id} already has an active run {run.id}."
        assert said in refused.value.message
        with pytest.raises(BadRequestError, match="Cannot update run with status '"):
            runs.update(run.id, thread_id=thread_id, metadata={})
    finally:
        gate.open()
    assert runs.poll(run.id, thread_id=thread_id).status == "completed"


def test_unknown_things_of_a_run_are_404(one_client: OpenAI) -> None:
    thread = one_client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
    runs = one_client.beta.threads.runs
    asst, run = "asst_" + "x" * 24, "run_" + "x" * 24
    with pytest.raises(NotFoundError, match=f"No assistant found with id '{asst}'"):
        runs.create(thread.id, assistant_id=asst)
    with pytest.raises(NotFoundError, match=f"No run found with id '{run}'"):
        runs.retrieve(run, thread_id=thread.id)


def test_a_run_on_nothing_is_refused(one_client: OpenAI) -> None:
    assistant = one_client.beta.assistants.create(model="demo")
    thread = one_client.beta.threads.create()
    with pytest.raises(BadRequestError, match="Run creation requires a Thread") as refused:
        one_client.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
    assert refused.value.code == "invalid_thread"


def test_a_poll_helper_is_held_until_the_run_rests(scripted: Scripted) -> None:
    gate = Gate()
    scripted.model.replies.append(text("At last").first(gate))
    polls: list[httpx2.Request] = []

    def count(request: httpx2.Request) -> None:
        if request.method == "GET":
            polls.append(request)
            # Not at once, so that an answer that isn't held shows a run in progress.
            Timer(0.3, gate.open).start()

    assistant_id, thread_id = scripted.assistant(), scripted.thread("Hello")
    http_client = httpx2.Client(event_hooks={"request": [count]})
    with sync_client(scripted.server, http_client=http_client) as client:
        run = client.beta.threads.runs.create_and_poll(
            thread_id=thread_id, assistant_id=assistant_id
        )
    assert run.status == "completed"
    assert len(polls) == 1


def test_anyone_else_is_told_at_once_and_when_to_come_again(scripted: Scripted) -> None:
    gate = Gate()
    scripted.model.replies.append(text("Late").first(gate))
    thread_id = scripted.thread("Hello")
    runs = scripted.client.beta.threads.runs
    run = runs.create(thread_id, assistant_id=scripted.assistant())
    gate.arrived.result(20)
    try:
        raw = runs.with_raw_response.retrieve(run.id, thread_id=thread_id)
    finally:
        gate.open()
    assert raw.parse().status == "in_progress"
    assert 200 <= int(raw.headers["openai-poll-after-ms"]) <= 500
    assert runs.poll(run.id, thread_id=thread_id).status == "completed"
    rested = runs.with_raw_response.retrieve(run.id, thread_id=thread_id)
    assert "openai-poll-after-ms" not in rested.headers


async def test_every_answer_has_the_headers_of_the_original(client: AsyncOpenAI) -> None:
    raw = await client.beta.threads.with_raw_response.create()
    assert raw.headers["x-request-id"].startswith("req_")
    assert len(raw.headers["x-request-id"]) == len("req_") + 32
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["openai-organization"]
    assert raw.headers["openai-project"] == "default"
    with pytest.raises(NotFoundError) as refused:
        await client.beta.threads.retrieve("thread_" + "x" * 24)
    assert refused.value.request_id == refused.value.response.headers["x-request-id"]
    assert refused.value.response.headers["openai-version"] == "2020-10-01"


async def test_an_answer_can_be_read_as_a_stream_of_bytes(client: AsyncOpenAI) -> None:
    if isinstance(client, AsyncOpenAI):
        async with client.beta.assistants.with_streaming_response.create(model="demo") as response:
            assert (await response.parse()).model == "demo"
            assert response.headers["x-request-id"]


def test_an_answer_can_be_read_as_a_stream_of_bytes_by_the_sync_client(one_client: OpenAI) -> None:
    with one_client.beta.assistants.with_streaming_response.create(model="demo") as response:
        assert b'"object":"assistant"' in response.read()
        assert response.headers["x-request-id"]
