"""Messages through the stock SDK: contents of every kind, in order, changed and deleted."""

from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from tests.fakes.replies import Gate, text
from tests.sdk.clients import Scripted


async def test_a_new_message_has_every_key_with_its_default(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create()
    raw = await client.beta.threads.messages.with_raw_response.create(
        thread.id, role="user", content="Hello"
    )
    shown = raw.http_response.json()
    assert shown == {
        "id": shown["id"],
        "object": "thread.message",
        "created_at": shown["created_at"],
        "assistant_id": None,
        "thread_id": thread.id,
        "run_id": None,
        "role": "user",
        "content": [{"type": "text", "text": {"value": "Hello", "annotations": []}}],
        "attachments": [],
        "metadata": {},
        # OpenAI shows these in streams only; its document has them everywhere.
        "status": "completed",
        "completed_at": shown["completed_at"],
        "incomplete_at": None,
        "incomplete_details": None,
    }
    assert shown["id"].startswith("msg_")
    assert len(shown["id"]) == len("msg_") + 24


async def test_parts_of_every_kind_are_kept_in_order(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create()
    file = await client.files.create(file=("a.png", b"an image"), purpose="vision")
    parts: list[Any] = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_file", "image_file": {"file_id": file.id, "detail": "low"}},
        {"type": "text", "text": "What is it? 🤔"},
    ]
    message = await client.beta.threads.messages.create(thread.id, role="user", content=parts)
    assert message.to_dict()["content"] == [
        {"type": "text", "text": {"value": "Look:", "annotations": []}},
        {
            "type": "image_url",
            "image_url": {"url": "https://example.com/a.png", "detail": "auto"},
        },
        {"type": "image_file", "image_file": {"file_id": file.id, "detail": "low"}},
        {"type": "text", "text": {"value": "What is it? 🤔", "annotations": []}},
    ]
    found = await client.beta.threads.messages.retrieve(message.id, thread_id=thread.id)
    assert found == message


async def test_attachments_are_shown_as_they_were_sent(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create()
    file = await client.files.create(file=("notes.txt", b"Notes."), purpose="assistants")
    attachments: list[Any] = [
        {"file_id": file.id, "tools": [{"type": "code_interpreter"}]},
        {"file_id": file.id, "tools": [{"type": "file_search"}]},
    ]
    message = await client.beta.threads.messages.create(
        thread.id, role="user", content="Read this.", attachments=attachments
    )
    assert message.to_dict()["attachments"] == attachments


async def test_only_the_metadata_of_a_message_changes(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create()
    message = await client.beta.threads.messages.create(
        thread.id, role="assistant", content="I said so.", metadata={"a": "1"}
    )
    changed = await client.beta.threads.messages.update(
        message.id, thread_id=thread.id, metadata={"b": "2"}
    )
    assert changed == message.model_copy(update={"metadata": {"b": "2"}})


async def test_a_deleted_message_is_gone_from_its_thread(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create(
        messages=[{"role": "user", "content": word} for word in ("One", "Two", "Three")]
    )
    page = await client.beta.threads.messages.list(thread.id)
    middle = page.data[1]
    deleted = await client.beta.threads.messages.delete(middle.id, thread_id=thread.id)
    assert deleted.to_dict() == {
        "id": middle.id,
        "object": "thread.message.deleted",
        "deleted": True,
    }
    left = await client.beta.threads.messages.list(thread.id)
    assert left.data == [page.data[0], page.data[2]]
    with pytest.raises(NotFoundError, match=f"No message found with id '{middle.id}'"):
        await client.beta.threads.messages.retrieve(middle.id, thread_id=thread.id)


def test_messages_can_be_listed_by_the_run_that_made_them(one_client: OpenAI) -> None:
    assistant = one_client.beta.assistants.create(model="demo")
    thread = one_client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
    runs = [
        one_client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
        for _ in range(2)
    ]
    for run in runs:
        (message,) = one_client.beta.threads.messages.list(thread.id, run_id=run.id).data
        assert (message.run_id, message.assistant_id) == (run.id, assistant.id)
        assert message.role == "assistant"


def test_a_message_is_refused_while_a_run_holds_the_thread(scripted: Scripted) -> None:
    gate = Gate()
    scripted.model.replies.append(text("Late").first(gate))
    thread_id = scripted.thread("Hello")
    threads = scripted.client.beta.threads
    run = threads.runs.create(thread_id, assistant_id=scripted.assistant())
    said = f"Can't add messages to {thread_id} while a run {run.id} is active."
    try:
        with pytest.raises(BadRequestError) as refused:
            threads.messages.create(thread_id, role="user", content="And?")
        assert (refused.value.body or {}) == {
            "message": said,
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    finally:
        gate.open()
    assert threads.runs.poll(run.id, thread_id=thread_id).status == "completed"
    threads.messages.create(thread_id, role="user", content="And?")
