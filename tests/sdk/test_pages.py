"""Auto-pagination with the stock SDK: whole, in order, and while what is read is deleted."""

from openai import AsyncOpenAI, OpenAI

COUNT = 45


def a_thread(client: OpenAI) -> str:
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": f"{number}"} for number in range(COUNT)]
    )
    return thread.id


def test_every_message_comes_once_in_either_order(one_client: OpenAI) -> None:
    messages = one_client.beta.threads.messages
    thread_id = a_thread(one_client)
    newest = [each.content[0].text.value for each in messages.list(thread_id, limit=20)]  # type: ignore[union-attr]
    oldest = [
        each.content[0].text.value  # type: ignore[union-attr]
        for each in messages.list(thread_id, limit=20, order="asc")
    ]
    assert oldest == [str(number) for number in range(COUNT)]
    assert newest == oldest[::-1]


async def test_the_async_client_pages_too(client: AsyncOpenAI, one_client: OpenAI) -> None:
    thread_id = a_thread(one_client)
    listing = client.beta.threads.messages.list(thread_id, limit=20)
    assert len([each.id async for each in listing]) == COUNT


def test_what_is_read_may_be_deleted_on_the_way(one_client: OpenAI) -> None:
    assistants = one_client.beta.assistants
    made = {assistants.create(model="demo", name="Page").id for _ in range(25)}
    deleted = set()
    for assistant in assistants.list(limit=10):
        if assistant.id in made:
            assert assistants.delete(assistant.id).deleted
            deleted.add(assistant.id)
    assert deleted == made
    assert not [each for each in assistants.list(limit=100) if each.id in made]


def test_before_gives_what_stands_in_front(one_client: OpenAI) -> None:
    messages = one_client.beta.threads.messages
    thread_id = a_thread(one_client)
    ids = [each.id for each in messages.list(thread_id, order="asc", limit=100)]
    page = messages.list(thread_id, order="asc", before=ids[3])
    assert [each.id for each in page.data] == ids[:3]
