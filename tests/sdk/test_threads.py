"""Threads through the stock SDK, with their first messages."""

import pytest
from openai import AsyncOpenAI, NotFoundError


async def test_a_new_thread_has_every_key_with_its_default(client: AsyncOpenAI) -> None:
    raw = await client.beta.threads.with_raw_response.create()
    shown = raw.http_response.json()
    assert shown == {
        "id": shown["id"],
        "object": "thread",
        "created_at": shown["created_at"],
        "metadata": {},
        "tool_resources": {},
    }
    assert shown["id"].startswith("thread_")
    assert len(shown["id"]) == len("thread_") + 24


async def test_a_thread_begins_with_its_messages_in_order(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create(
        messages=[
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Two", "metadata": {"by": "hand"}},
            {"role": "user", "content": [{"type": "text", "text": "Three"}]},
        ],
        metadata={"room": "7"},
        tool_resources={"code_interpreter": {"file_ids": []}},
    )
    assert thread.metadata == {"room": "7"}
    assert thread.to_dict()["tool_resources"] == {"code_interpreter": {"file_ids": []}}
    page = await client.beta.threads.messages.list(thread.id, order="asc")
    assert [message.role for message in page.data] == ["user", "assistant", "user"]
    texts = [part.text.value for m in page.data for part in m.content if part.type == "text"]
    assert texts == ["One", "Two", "Three"]
    assert page.data[1].metadata == {"by": "hand"}


async def test_a_change_of_metadata_replaces_it(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create(metadata={"a": "1", "b": "2"})
    changed = await client.beta.threads.update(thread.id, metadata={"a": "3"})
    assert changed.metadata == {"a": "3"}
    assert await client.beta.threads.retrieve(thread.id) == changed


async def test_a_deleted_thread_is_gone_with_its_messages(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
    deleted = await client.beta.threads.delete(thread.id)
    assert deleted.to_dict() == {"id": thread.id, "object": "thread.deleted", "deleted": True}
    gone = f"No thread found with id '{thread.id}'"
    with pytest.raises(NotFoundError, match=gone):
        await client.beta.threads.retrieve(thread.id)
    with pytest.raises(NotFoundError, match=gone):
        await client.beta.threads.messages.list(thread.id)
    with pytest.raises(NotFoundError, match=gone):
        await client.beta.threads.messages.create(thread.id, role="user", content="Still there?")
