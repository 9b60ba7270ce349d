"""Vector stores with the stock SDK: its helpers end, and what is shown is true at every moment."""

from collections.abc import Sequence
from typing import Any, Final

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.server import ServerProcess

DAY: Final = 24 * 60 * 60
LONG: Final = "".join(f"Sentence number {n} of a text that has many. " for n in range(400))
READY: Final = {"cancelled": 0, "completed": 1, "failed": 0, "in_progress": 0, "total": 1}


async def new_file(
    client: AsyncOpenAI, text: str | bytes = "Some text.", name: str = "a.txt"
) -> str:
    content = text.encode() if isinstance(text, str) else text
    return (await client.files.create(file=(name, content), purpose="assistants")).id


async def new_store(client: AsyncOpenAI, **fields: Any) -> str:
    return (await client.vector_stores.create(**fields)).id


async def ids_of(listed: Any) -> list[str]:
    return [each.id async for each in listed]


async def test_a_new_store_is_ready_and_is_found_changed_and_gone(client: AsyncOpenAI) -> None:
    store = await client.vector_stores.create(name="Empty", metadata={"k": "v"})
    assert store.id.startswith("vs_")
    assert (store.status, store.usage_bytes, store.file_counts.total) == ("completed", 0, 0)
    assert (store.expires_after, store.expires_at) == (None, None)
    assert store.last_active_at == store.created_at
    assert await client.vector_stores.retrieve(store.id) == store
    changed = await client.vector_stores.update(
        store.id, name="Named", expires_after={"anchor": "last_active_at", "days": 3}
    )
    assert (changed.name, changed.metadata) == ("Named", {"k": "v"})
    assert changed.last_active_at is not None
    assert changed.expires_at == changed.last_active_at + 3 * DAY
    assert await client.vector_stores.retrieve(store.id) == changed
    newer = await new_store(client)
    listed = await ids_of(client.vector_stores.list(limit=1))
    assert listed.index(newer) < listed.index(store.id)
    deleted = await client.vector_stores.delete(store.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (store.id, "vector_store.deleted", True)
    with pytest.raises(openai.NotFoundError, match=f"No vector store found with id '{store.id}'"):
        await client.vector_stores.retrieve(store.id)


async def test_a_store_is_made_with_files_and_counts_them_from_the_start(
    client: AsyncOpenAI,
) -> None:
    file_ids = [await new_file(client, LONG), await new_file(client, b"\0\1\2", "a.bin")]
    store = await client.vector_stores.create(file_ids=[*file_ids, file_ids[0]])
    assert (store.status, store.usage_bytes) == ("in_progress", 0)
    assert (store.file_counts.in_progress, store.file_counts.total) == (2, 2)
    for file_id in file_ids:
        await client.vector_stores.files.poll(file_id, vector_store_id=store.id)
    store = await client.vector_stores.retrieve(store.id)
    assert store.status == "completed"
    assert (store.file_counts.completed, store.file_counts.failed) == (1, 1)
    assert store.usage_bytes > len(LONG)
    failed = await client.vector_stores.files.retrieve(file_ids[1], vector_store_id=store.id)
    assert failed.last_error is not None
    assert (failed.status, failed.last_error.code) == ("failed", "unsupported_file")


async def test_the_helpers_upload_and_wait(client: AsyncOpenAI) -> None:
    store_id = await new_store(client)
    files = client.vector_stores.files
    uploaded = await files.upload_and_poll(vector_store_id=store_id, file=("a.md", LONG.encode()))
    assert (uploaded.status, uploaded.object) == ("completed", "vector_store.file")
    assert uploaded.usage_bytes > len(LONG)
    made = await files.create_and_poll(await new_file(client), vector_store_id=store_id)
    assert made.status == "completed"
    batch = await client.vector_stores.file_batches.upload_and_poll(
        store_id, files=[(f"{n}.txt", b"Number %d." % n) for n in range(4)], file_ids=[made.id]
    )
    assert batch.status == "completed"
    assert (batch.file_counts.completed, batch.file_counts.total) == (5, 5)
    store = await client.vector_stores.retrieve(store_id)
    assert (store.status, store.file_counts.completed) == ("completed", 6)


async def test_a_poll_is_answered_as_soon_as_the_file_rests(
    demo: ServerProcess, one_client: OpenAI
) -> None:
    store = one_client.vector_stores.create()
    file = one_client.files.create(file=("a.txt", LONG.encode() * 20), purpose="assistants")
    url = f"{demo.url}/vector_stores/{store.id}/files"
    added = httpx2.post(url, json={"file_id": file.id})
    assert added.json()["status"] == "in_progress"
    assert added.headers["openai-poll-after-ms"] == "200"
    polled = httpx2.get(f"{url}/{file.id}", headers={"x-stainless-poll-helper": "true"})
    assert polled.json()["status"] == "completed"
    assert "openai-poll-after-ms" not in polled.headers


async def test_the_content_of_a_file_is_its_text_without_overlaps(client: AsyncOpenAI) -> None:
    store_id = await new_store(client)
    text = f"# Größe\n\n{LONG}\n\n# 東京\n\n{LONG}"
    strategy: Any = {
        "type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50},
    }
    file = await client.vector_stores.files.create_and_poll(
        await new_file(client, text, "a.md"), vector_store_id=store_id, chunking_strategy=strategy
    )
    assert file.chunking_strategy is not None
    assert file.chunking_strategy.to_dict() == strategy
    content = await client.vector_stores.files.content(file.id, vector_store_id=store_id)
    assert [part.type for part in content.data] == ["text"]
    assert content.data[0].text is not None
    assert content.data[0].text.split() == text.split()


async def test_attributes_are_kept_replaced_and_taken_away(client: AsyncOpenAI) -> None:
    store_id = await new_store(client)
    attributes: dict[str, str | float | bool] = {"a": "b", "n": 3, "f": 1.5, "is": True, "\0": "\0"}
    file = await client.vector_stores.files.create_and_poll(
        await new_file(client), vector_store_id=store_id, attributes=attributes
    )
    assert file.attributes == attributes
    files = client.vector_stores.files
    changed = await files.update(file.id, vector_store_id=store_id, attributes={"n": 4})
    assert changed.attributes == {"n": 4}
    assert await files.retrieve(file.id, vector_store_id=store_id) == changed
    assert (await files.update(file.id, vector_store_id=store_id, attributes=None)).attributes == {}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({f"k{n}": 1 for n in range(17)}, "at most 16 properties, but got an object with 17"),
        ({"k" * 65: 1}, "maximum length 64, but got a string with length 65"),
        ({"k": "x" * 513}, "Invalid 'attributes.k': string too long"),
        ({"k": [1]}, "Invalid type for 'attributes.k': expected"),
        ({"k": None}, "Invalid type for 'attributes.k': expected"),
    ],
)
def test_attributes_over_the_limits_are_refused(
    one_client: OpenAI, attributes: Any, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        one_client.vector_stores.files.create("vs_x", file_id="file-x", attributes=attributes)


async def test_a_batch_gives_each_file_its_own_way_to_be_read(client: AsyncOpenAI) -> None:
    store_id = await new_store(client)
    file_ids = [await new_file(client, LONG, name=f"{n}.txt") for n in range(3)]
    small: Any = {
        "type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
    }
    batch = await client.vector_stores.file_batches.create(
        store_id,
        files=[
            {"file_id": file_ids[0], "attributes": {"n": 0}},
            {"file_id": file_ids[1], "attributes": {"n": 1}, "chunking_strategy": small},
            {"file_id": file_ids[2]},
        ],
    )
    assert batch.id.startswith("vsfb_")
    assert (batch.status, batch.file_counts.in_progress) == ("in_progress", 3)
    batch = await client.vector_stores.file_batches.poll(batch.id, vector_store_id=store_id)
    assert (batch.status, batch.file_counts.completed) == ("completed", 3)
    listed = client.vector_stores.file_batches.list_files(
        batch.id, vector_store_id=store_id, limit=2, order="asc"
    )
    shown = {file.id: file async for file in listed}
    assert set(shown) == set(file_ids)
    assert [shown[id].attributes for id in file_ids] == [{"n": 0}, {"n": 1}, {}]
    assert shown[file_ids[1]].chunking_strategy is not None
    assert shown[file_ids[1]].usage_bytes < shown[file_ids[0]].usage_bytes
    again = await client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store_id)
    assert again.status == "completed"


async def test_files_are_listed_by_status_and_page_by_page(client: AsyncOpenAI) -> None:
    store_id = await new_store(client)
    good = [await new_file(client, name=f"{n}.txt") for n in range(3)]
    bad = await new_file(client, b"\0", "x.bin")
    await client.vector_stores.file_batches.create_and_poll(store_id, file_ids=[*good, bad])
    files = client.vector_stores.files
    assert sorted(await ids_of(files.list(store_id, filter="completed", limit=1))) == sorted(good)
    assert await ids_of(files.list(store_id, filter="failed")) == [bad]
    assert await ids_of(files.list(store_id, filter="in_progress")) == []
    everything = await ids_of(files.list(store_id, order="asc", limit=2))
    assert sorted(everything) == sorted([*good, bad])
    assert await ids_of(files.list(store_id, order="asc", after=everything[1])) == everything[2:]
    assert await ids_of(files.list(store_id, order="asc", before=everything[2])) == everything[:2]
    await files.delete(everything[1], vector_store_id=store_id)
    assert await ids_of(files.list(store_id, order="asc", after=everything[1])) == everything[2:]


async def test_a_deleted_file_leaves_its_stores_and_a_file_taken_out_stays(
    client: AsyncOpenAI,
) -> None:
    store_id = await new_store(client)
    kept, gone = await new_file(client), await new_file(client)
    await client.vector_stores.file_batches.create_and_poll(store_id, file_ids=[kept, gone])
    await client.files.delete(gone)
    files = client.vector_stores.files
    words = f"No file found with id '{gone}' in vector store '{store_id}'"
    with pytest.raises(openai.NotFoundError, match=words):
        await files.retrieve(gone, vector_store_id=store_id)
    deleted = await files.delete(kept, vector_store_id=store_id)
    assert (deleted.id, deleted.object) == (kept, "vector_store.file.deleted")
    assert (await client.files.retrieve(kept)).id == kept
    store = await client.vector_stores.retrieve(store_id)
    assert (store.status, store.file_counts.total, store.usage_bytes) == ("completed", 0, 0)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"file_ids": ["file-x"] * 501}, "file_ids", "maximum length 500, but got an array with"),
        ({"files": [{"file_id": "file-x"}] * 501}, "files", "maximum length 500, but got an array"),
        ({"file_ids": []}, "file_ids", "one of 'file_ids' and 'files'"),
        ({"file_ids": ["file-x"], "files": [{"file_id": "file-y"}]}, "files", "Only one of"),
        ({"file_ids": ["vs_x"]}, "file_ids[0]", "Expected an ID that begins with 'file'"),
        (
            {
                "files": [
                    {
                        "file_id": "file-x",
                        "chunking_strategy": {
                            "type": "static",
                            "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51},
                        },
                    }
                ]
            },
            "files[0].chunking_strategy.static.chunk_overlap_tokens",
            "Expected a value <= 50, half of max_chunk_size_tokens, but got 51",
        ),
    ],
)
def test_a_batch_that_cannot_be_is_refused(
    one_client: OpenAI, fields: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as refused:
        one_client.vector_stores.file_batches.create("vs_x", **fields)
    assert refused.value.param == param


def test_what_is_not_there_is_told_by_its_name(one_client: OpenAI) -> None:
    store_id = one_client.vector_stores.create().id
    batches, files = one_client.vector_stores.file_batches, one_client.vector_stores.files
    missing: Sequence[tuple[Any, str]] = [
        (lambda: files.create("vs_x", file_id="file-x"), "No vector store found with id"),
        (lambda: files.create(store_id, file_id="file-x"), "No such File object: file-x"),
        (lambda: files.list("vs_x"), "No vector store found with id 'vs_x'"),
        (lambda: files.content("file-x", vector_store_id=store_id), "No file found with id"),
        (lambda: batches.retrieve("vsfb_x", vector_store_id=store_id), "file batch found with id"),
        (lambda: batches.create("vs_x", file_ids=["file-x"]), "No vector store found with id"),
        (lambda: one_client.vector_stores.create(file_ids=["file-x"]), "No such File object"),
        (lambda: one_client.vector_stores.delete("vs_x"), "No vector store found with id 'vs_x'"),
    ]
    for call, message in missing:
        with pytest.raises(openai.NotFoundError, match=message):
            call()


def test_a_store_that_is_made_twice_with_one_key_is_one(one_client: OpenAI) -> None:
    file = one_client.files.create(file=("a.txt", b"Once."), purpose="assistants")
    key = {"Idempotency-Key": f"store of {file.id}"}
    first = one_client.vector_stores.create(file_ids=[file.id], extra_headers=key)
    assert one_client.vector_stores.create(file_ids=[file.id], extra_headers=key) == first
    adding = {"Idempotency-Key": f"batch of {file.id}"}
    batches = one_client.vector_stores.file_batches
    batch = batches.create(first.id, file_ids=[file.id], extra_headers=adding)
    assert batches.create(first.id, file_ids=[file.id], extra_headers=adding).id == batch.id
