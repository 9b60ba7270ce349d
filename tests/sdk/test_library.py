"""Files, vector stores and an answer that cites: the same with every client that there is."""

import io
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from openai import AsyncOpenAI, AzureOpenAI

from tests.sdk import library, test_node, test_old_sdks
from tests.sdk.clients import TIMEOUT_SECONDS, async_client, sync_client
from tests.server import ServerProcess

# What a client makes of an answer has nothing to do with the database behind it.
ON_SQLITE: Final = pytest.mark.parametrize("demo", ["sqlite"], indirect=True)
ON_POSTGRESQL: Final = pytest.mark.parametrize("demo", ["postgresql"], indirect=True)

TEXT: Final = library.WHALE.decode()
ATTRIBUTES: Final = {"kind": "sea", "tons": 150, "old": True}
SEEN: Final[dict[str, Any]] = {
    "same_content": True,
    "listed": True,
    "polled": ["completed", "unsupported_file"],
    "batch": ["completed", 2, 2],
    "answer": {
        "searched": ["file_search"],
        "cites": True,
        "heard": True,
        "in_place": True,
        "kept": True,
    },
    # The deleted file has left; one of the others was none that can be read.
    "counts": {"in_progress": 0, "completed": 2, "failed": 1, "cancelled": 0, "total": 3},
    "deleted": "vector_store.deleted",
    "gone": [404, "No vector store found with id 'vs_x'."],
}
SEEN_BY_NEWER: Final = {
    **SEEN,
    "upload": True,
    "attributes": ATTRIBUTES,
    "found": [["whale.txt", TEXT, ATTRIBUTES]],
    "text": TEXT,
}


@ON_SQLITE
@pytest.mark.parametrize("version", ["1.21.2", "1.109.1", "2.54.0"])
def test_documents_are_the_same_with_every_sdk(demo: ServerProcess, version: str) -> None:
    seen = test_old_sdks.spoken(version, demo.url, script=Path(library.__file__))
    assert seen == (SEEN if version == "1.21.2" else SEEN_BY_NEWER)


@ON_SQLITE
@pytest.mark.parametrize("version", test_node.VERSIONS)
def test_documents_are_the_same_with_node(
    demo: ServerProcess, version: str, tmp_path: Path
) -> None:
    seen = test_node.spoken(tmp_path, version, demo.url, script="library.mjs")
    assert seen == SEEN_BY_NEWER


def test_every_answer_about_documents_is_what_the_newest_sdk_expects(demo: ServerProcess) -> None:
    with sync_client(demo) as client:  # strict: it raises where an answer is not of its type
        assert library.keep(client) == SEEN_BY_NEWER


@ON_POSTGRESQL
def test_documents_are_the_same_with_azures_client(demo: ServerProcess) -> None:
    paths: set[str] = set()
    watched = httpx2.Client(event_hooks={"request": [lambda sent: paths.add(sent.url.path)]})
    with AzureOpenAI(
        azure_endpoint=demo.root,
        api_version="2024-05-01-preview",
        api_key="any",
        timeout=TIMEOUT_SECONDS,
        max_retries=0,
        http_client=watched,
    ) as client:
        assert library.keep(client) == SEEN_BY_NEWER
    assert {path.split("/")[1] for path in paths} == {"openai"}


@ON_POSTGRESQL
async def test_documents_with_the_async_client(demo: ServerProcess) -> None:
    async with async_client(demo) as client:
        whale = await client.files.create(file=("whale.txt", library.WHALE), purpose="assistants")
        store = await client.vector_stores.create(name="All", file_ids=[whale.id])
        notes = [(name, io.BytesIO(text)) for name, text in library.NOTES]
        batch = await client.vector_stores.file_batches.upload_and_poll(store.id, files=notes)
        assert (batch.status, batch.file_counts.completed) == ("completed", 2)
        read = await client.vector_stores.files.poll(whale.id, vector_store_id=store.id)
        assert read.status == "completed"
        found = [each async for each in client.vector_stores.search(store.id, query="hunt owls")]
        assert found[0].filename == "owl.md"
        assert await cited(client, store.id) == [whale.id]


async def cited(client: AsyncOpenAI, store_id: str) -> list[str]:
    """The files that a streamed answer cites; the store is in the thread."""
    assistant = await client.beta.assistants.create(model="demo", tools=[{"type": "file_search"}])
    async with client.beta.threads.create_and_run_stream(
        assistant_id=assistant.id,
        thread={
            "messages": [{"role": "user", "content": "Which animal is the largest?"}],
            "tool_resources": {"file_search": {"vector_store_ids": [store_id]}},
        },
    ) as stream:
        [message] = await stream.get_final_messages()
    text: Any = message.content[0]
    return [each.file_citation.file_id for each in text.text.annotations]
