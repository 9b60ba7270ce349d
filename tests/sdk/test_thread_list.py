"""Threads listed and searched through the stock SDK, by its generic calls: OpenAI had neither."""

import time
from collections.abc import Iterator
from typing import Any, Final, Literal

import pytest
from openai import BadRequestError, BaseModel, NotFoundError, OpenAI
from openai.pagination import AsyncCursorPage, SyncCursorPage
from openai.types.beta import Thread
from openai.types.beta.threads import Message

from tests.conftest import StartServer
from tests.sdk.clients import async_client, sync_client
from tests.server import ServerProcess, running_server

SOON_SECONDS: Final = 20


class SearchResult(BaseModel):
    """What `GET /threads/search` gives, as docs/api.md tells it."""

    id: str
    object: Literal["thread.search_result"]
    thread_id: str
    snippet: str
    message: Message


def listed(client: OpenAI, **params: Any) -> SyncCursorPage[Thread]:
    """The first page of a project's threads; iterating over it turns the pages."""
    return client.get_api_list(
        "/threads", model=Thread, page=SyncCursorPage[Thread], options={"params": params}
    )


def found(client: OpenAI, q: str, **params: Any) -> SyncCursorPage[SearchResult]:
    """The first page of a search."""
    return client.get_api_list(
        "/threads/search",
        model=SearchResult,
        page=SyncCursorPage[SearchResult],
        options={"params": {"q": q, **params}},
    )


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """A client of a server that nobody else fills."""
    with (
        running_server(tmp_path_factory.mktemp("alone") / "data") as server,
        sync_client(server) as client,
    ):
        yield client


def thread(client: OpenAI, *texts: str, **metadata: str) -> str:
    """The id of a new thread."""
    messages: list[Any] = [{"role": "user", "content": text} for text in texts]
    return client.beta.threads.create(messages=messages, metadata=metadata).id


def wait_until_found(client: OpenAI, q: str, count: int = 1) -> list[SearchResult]:
    """The results as soon as there are so many: the index is up to date within a second."""
    until = time.monotonic() + SOON_SECONDS
    while len(results := list(found(client, q))) < count:
        assert time.monotonic() < until, results
    return results


def new_key(server: ServerProcess, project: str) -> str:
    """The secret of a new key for a project."""
    return server.new_key(project)


def test_all_threads_are_listed_and_then_deleted_on_the_way(alone: OpenAI) -> None:
    made = [thread(alone, n=str(n % 2)) for n in range(25)]
    assert [each.id for each in listed(alone, limit=10)] == made[::-1]
    assert [each.id for each in listed(alone, limit=10, order="asc")] == made
    odd = {"n": "1"}
    assert [each.id for each in listed(alone, limit=4, metadata=odd)] == made[1::2][::-1]
    deleted = []
    for each in listed(alone, limit=4, metadata=odd):
        assert each.metadata == odd
        alone.beta.threads.delete(each.id)
        deleted.append(each.id)
    assert deleted == made[1::2][::-1]
    assert [each.id for each in listed(alone, limit=10)] == made[::-2]


async def test_the_async_client_turns_the_pages_too(demo: ServerProcess) -> None:
    async with async_client(demo) as client:
        room = {"room": "async", "with space & [brackets]": "ü=%&"}
        made = [(await client.beta.threads.create(metadata=room)).id for _ in range(5)]
        pages = client.get_api_list(
            "/threads",
            model=Thread,
            page=AsyncCursorPage[Thread],
            options={"params": {"metadata": room, "limit": 2}},
        )
        assert [each.id async for each in pages] == made[::-1]


def test_threads_begun_with_a_run_and_changed_ones_are_listed_by_their_metadata(
    one_client: OpenAI,
) -> None:
    assistant = one_client.beta.assistants.create(model="demo")
    run = one_client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id,
        thread={"messages": [{"role": "user", "content": "Hi"}], "metadata": {"user": "begun"}},
    )
    assert [each.id for each in listed(one_client, metadata={"user": "begun"})] == [run.thread_id]
    one_client.beta.threads.update(run.thread_id, metadata={"user": "changed"})
    assert [each.id for each in listed(one_client, metadata={"user": "begun"})] == []
    (each,) = listed(one_client, metadata={"user": "changed"})
    assert each == one_client.beta.threads.retrieve(run.thread_id)
    one_client.beta.threads.update(run.thread_id, tool_resources={})
    assert [each.id for each in listed(one_client, metadata={"user": "changed"})] == [run.thread_id]


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("metadata=x", "metadata", "invalid_type"),
        ("metadata[a]=1&metadata[a]=1", "metadata[a]", "duplicate_parameter"),
        ("metadata[a][b]=1", "metadata.a", "invalid_type"),
        ("metadata[a]=" + "x" * 513, "metadata.a", "string_above_max_length"),
        (f"metadata[{'k' * 65}]=x", f"metadata.{'k' * 65}", "property_name_above_max_length"),
        (
            "&".join(f"metadata[k{n}]=x" for n in range(17)),
            "metadata",
            "object_above_max_properties",
        ),
        ("limit=0", "limit", "integer_below_min_value"),
        ("order=up", "order", "invalid_value"),
        ("after=msg_1", "after", "invalid_value"),
    ],
)
@pytest.mark.parametrize("path", ["/threads", "/threads/search"])
def test_a_list_that_cannot_be_is_refused_as_other_lists_are(
    one_client: OpenAI, path: str, query: str, param: str, code: str
) -> None:
    if path == "/threads/search":
        query = f"q=x&{query}".replace("msg_", "thread_")
        if "metadata" in query:
            return  # passed over: it is no parameter of this one
    with pytest.raises(BadRequestError) as refused:
        one_client.get(f"{path}?{query}", cast_to=SyncCursorPage[Thread])
    assert (refused.value.param, refused.value.code) == (param, code)


def test_an_empty_value_is_one_that_can_be_asked_for(one_client: OpenAI) -> None:
    thread_id = thread(one_client, mood="")
    page = one_client.get("/threads?metadata%5Bmood%5D=", cast_to=SyncCursorPage[Thread])
    assert [each.id for each in page.data] == [thread_id]


def test_what_users_and_assistants_say_is_found_with_its_place_and_a_snippet(
    one_client: OpenAI,
) -> None:
    threads = one_client.beta.threads
    thread_id = thread(one_client, "Tell me of the Zephyr, please.")
    assistant = one_client.beta.assistants.create(model="demo")
    run = threads.runs.create_and_poll(thread_id=thread_id, assistant_id=assistant.id)
    answer, question = wait_until_found(one_client, "ZÉPHYR", 2)
    assert (answer.thread_id, question.thread_id) == (thread_id, thread_id)
    assert answer.message == threads.messages.retrieve(answer.id, thread_id=thread_id)
    assert (answer.message.role, answer.message.run_id) == ("assistant", run.id)
    assert question.snippet == "Tell me of the **Zephyr**, please."
    assert "**Zephyr**" in answer.snippet
    threads.messages.delete(question.id, thread_id=thread_id)
    assert [each.id for each in found(one_client, "zephyr")] == [answer.id]
    threads.delete(thread_id)
    assert list(found(one_client, "zephyr")) == []


def test_the_pages_of_a_search_are_turned_and_stay_right(one_client: OpenAI) -> None:
    made = [thread(one_client, f"quokka number {n}") for n in range(9)]
    wait_until_found(one_client, "quokka", 9)
    seen = []
    for each in found(one_client, '"quokka number"', limit=2):
        seen.append(each.thread_id)
        one_client.beta.threads.delete(each.thread_id)
        thread(one_client, "another quokka, newer than all of them")
    assert seen == made[::-1]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "missing_required_parameter"),
        ("q=", "missing_required_parameter"),
        ("q=%22%21%22+%F0%9F%8E%89", "invalid_value"),
        ("q=" + "x" * 1001, "string_above_max_length"),
        ("q=a&q=b", "duplicate_parameter"),
    ],
)
def test_a_query_without_a_word_or_too_long_is_refused(
    one_client: OpenAI, query: str, code: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        one_client.get(f"/threads/search?{query}", cast_to=SyncCursorPage[Thread])
    assert (refused.value.param, refused.value.code) == ("q", code)


def test_a_cursor_that_names_nothing_is_not_found(one_client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="No thread found with id 'thread_nothing'"):
        listed(one_client, after="thread_nothing")
    with pytest.raises(NotFoundError, match="No message found with id 'msg_nothing'"):
        found(one_client, "x", after="msg_nothing")


def test_a_key_lists_and_finds_its_own_project_s_threads_only(start_server: StartServer) -> None:
    server = start_server()
    keys = [new_key(server, project) for project in ("red", "blue")]
    red, blue = (sync_client(server, api_key=key) for key in keys)
    with red, blue:
        mine = thread(red, "the secret word is xyzzy", user="7")
        other = thread(blue, "xyzzy", user="7")
        (each,) = wait_until_found(red, "xyzzy")
        assert each.thread_id == mine
        (each,) = wait_until_found(blue, "xyzzy")
        assert each.thread_id == other
        assert [each.id for each in listed(red)] == [mine]
        assert [each.id for each in listed(blue, metadata={"user": "7"})] == [other]
