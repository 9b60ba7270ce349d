"""Lists through the stock SDK: auto-pagination in both directions, cursors, filters.

There is always more than one page, so that cursors are needed.
"""

from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import pytest
from openai import AsyncOpenAI

from tests.sdk.clients import Scripted, async_client, awaited, sync_client
from tests.server import running_server

MANY: Final = 45
LIMIT: Final = 20
Order = Literal["asc", "desc"]


@pytest.fixture(params=["sync", "async"])
async def alone(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[AsyncOpenAI]:
    """The sync and the async client, in turn, of a server that nobody else fills."""
    with running_server(tmp_path_factory.mktemp("alone") / "data") as server:
        if request.param == "async":
            async with async_client(server) as client:
                yield client
        else:
            with sync_client(server) as sync:
                yield awaited(sync)


async def _ids(pages: Any) -> list[str]:
    """The ids of all pages, as the SDK turns them."""
    return [item.id async for item in pages]


def _in_order(ids: list[str], order: Order) -> list[str]:
    return ids if order == "asc" else ids[::-1]


async def test_all_assistants_are_listed_and_then_deleted_on_the_way(alone: AsyncOpenAI) -> None:
    assistants = alone.beta.assistants
    made = [(await assistants.create(model="demo", name=str(n))).id for n in range(MANY)]
    assert await _ids(assistants.list(limit=LIMIT, order="asc")) == made
    assert await _ids(assistants.list(limit=LIMIT)) == made[::-1]
    # The cursor of the next page is an object that is no more.
    deleted = []
    async for assistant in assistants.list(limit=LIMIT):
        assert (await assistants.delete(assistant.id)).deleted
        deleted.append(assistant.id)
    assert deleted == made[::-1]
    left = await assistants.list()
    assert (left.data, left.to_dict()["first_id"], left.has_more) == ([], None, False)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_all_messages_are_listed_and_then_deleted_on_the_way(
    client: AsyncOpenAI, order: Order
) -> None:
    thread = await client.beta.threads.create(
        messages=[{"role": "user", "content": str(n)} for n in range(MANY)]
    )
    messages = client.beta.threads.messages
    said, ids = [], []
    async for message in messages.list(thread.id, limit=LIMIT, order=order):
        (part,) = message.content
        assert part.type == "text"
        said.append(part.text.value)
        ids.append(message.id)
    assert said == _in_order([str(n) for n in range(MANY)], order)
    deleted = []
    async for message in messages.list(thread.id, limit=LIMIT, order=order):
        assert (await messages.delete(message.id, thread_id=thread.id)).deleted
        deleted.append(message.id)
    assert deleted == ids
    assert (await messages.list(thread.id)).data == []


def test_all_runs_of_a_thread_are_listed(scripted: Scripted) -> None:
    assistant_id, thread_id = scripted.assistant(), scripted.thread("Hello")
    runs = scripted.client.beta.threads.runs
    made = [
        runs.create_and_poll(thread_id=thread_id, assistant_id=assistant_id).id for _ in range(MANY)
    ]
    listed = [run.id for run in runs.list(thread_id, limit=LIMIT, order="asc")]
    assert listed == made
    listed = [run.id for run in runs.list(thread_id, limit=LIMIT)]
    assert listed == made[::-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_before_and_after_cut_out_of_the_list_in_its_order(
    client: AsyncOpenAI, order: Order
) -> None:
    thread = await client.beta.threads.create(
        messages=[{"role": "user", "content": str(n)} for n in range(9)]
    )
    messages = client.beta.threads.messages
    ids = await _ids(messages.list(thread.id, order=order))
    assert len(ids) == 9
    page = await messages.list(thread.id, order=order, after=ids[2], limit=3)
    assert ([message.id for message in page.data], page.has_more) == (ids[3:6], True)
    shown = page.to_dict()
    assert (shown["first_id"], shown["last_id"]) == (ids[3], ids[5])
    page = await messages.list(thread.id, order=order, before=ids[6], limit=3)
    assert ([message.id for message in page.data], page.has_more) == (ids[3:6], True)
    page = await messages.list(thread.id, order=order, before=ids[3])
    assert ([message.id for message in page.data], page.has_more) == (ids[:3], False)
    page = await messages.list(thread.id, order=order, after=ids[1], before=ids[4])
    assert [message.id for message in page.data] == ids[2:4]
    assert await _ids(messages.list(thread.id, order=order, after=ids[2], limit=2)) == ids[3:]


async def test_messages_are_filtered_by_the_run_that_wrote_them(client: AsyncOpenAI) -> None:
    assistant = await client.beta.assistants.create(model="demo")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
    wrote = {}
    for _ in range(3):
        run = await client.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id
        )
        newest = await client.beta.threads.messages.list(thread.id, limit=1)
        wrote[run.id] = newest.data[0].id
    for run_id, message_id in wrote.items():
        found = client.beta.threads.messages.list(thread.id, run_id=run_id, limit=1)
        assert await _ids(found) == [message_id]
    none = await client.beta.threads.messages.list(thread.id, run_id="run_" + "x" * 24)
    assert (none.data, none.has_more) == ([], False)
