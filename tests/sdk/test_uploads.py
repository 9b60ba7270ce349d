"""Uploads with the stock SDK: parts in any order, put together in the order that is named."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Upload

from rethread.contract.uploads import MAX_PART_BYTES
from tests.server import ServerProcess


def new_upload(client: OpenAI, size: int, **more: Any) -> Upload:
    """An upload of so many bytes, which waits for its parts."""
    fields: Any = {"filename": "a.bin", "mime_type": "text/plain", "purpose": "assistants", **more}
    return client.uploads.create(bytes=size, **fields)


def blobs(demo: ServerProcess) -> int:
    """How many files lie in the store that the database knows of."""
    waiting = demo.ask("SELECT COUNT(*) FROM upload_parts")[0][0]
    return int(demo.ask("SELECT COUNT(*) FROM blobs")[0][0] + waiting)


def on_disk(demo: ServerProcess) -> int:
    """How many there are."""
    return sum(path.is_file() for path in (demo.data_dir / "files").rglob("*"))


async def test_a_file_in_parts_is_the_file(client: AsyncOpenAI) -> None:
    content = os.urandom(500_000)
    upload = await client.uploads.create(
        bytes=len(content),
        filename="big.bin",
        mime_type="text/plain",
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert (upload.status, upload.expires_at) == ("pending", upload.created_at + 3600)
    assert upload.file is None
    halves = content[:300_000], content[300_000:]
    second = await client.uploads.parts.create(upload.id, data=halves[1])
    first = await client.uploads.parts.create(upload.id, data=halves[0])
    assert (first.object, first.upload_id) == ("upload.part", upload.id)
    done = await client.uploads.complete(
        upload.id, part_ids=[first.id, second.id], md5=hashlib.md5(content).hexdigest()
    )
    assert (done.status, done.id) == ("completed", upload.id)
    assert done.file is not None
    assert (done.file.filename, done.file.bytes) == ("big.bin", len(content))
    assert done.file.created_at == upload.created_at
    assert done.file.expires_at == upload.created_at + 7200
    assert await client.files.retrieve(done.file.id) == done.file
    assert (await client.files.content(done.file.id)).content == content


def test_the_helper_uploads_a_file_in_chunks(one_client: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(os.urandom(250_000))
    done = one_client.uploads.upload_file_chunked(
        file=path, mime_type="text/plain", purpose="assistants", part_size=100_000
    )
    assert done.file is not None
    assert one_client.files.content(done.file.id).content == path.read_bytes()


def test_a_part_that_is_the_whole_file_becomes_it_and_is_not_written_again(
    demo: ServerProcess, one_client: OpenAI
) -> None:
    content = os.urandom(10_000)
    for is_first in (True, False):
        upload = new_upload(one_client, len(content))
        _, part = (
            one_client.uploads.parts.create(upload.id, data=data).id for data in (b"1", content)
        )
        written = demo.ask(f"SELECT blob_id FROM upload_parts WHERE id = '{part}'")
        done = one_client.uploads.complete(upload.id, part_ids=[part])
        assert done.file is not None
        assert one_client.files.content(done.file.id).content == content
        kept = demo.ask(f"SELECT blob_id FROM files WHERE id = '{done.file.id}'")
        assert (kept == written) == is_first  # the same content is kept once
    while on_disk(demo) != blobs(demo):
        pass  # a chore takes away what no file has


def test_parts_that_come_at_once_and_unused_ones_are_cleaned_away(
    demo: ServerProcess, one_client: OpenAI
) -> None:
    pieces = [os.urandom(10_000) for _ in range(8)]
    upload = new_upload(one_client, 80_000)
    with ThreadPoolExecutor(4) as threads:
        parts = list(
            threads.map(
                lambda piece: one_client.uploads.parts.create(upload.id, data=piece).id,
                [*pieces, pieces[0]],
            )
        )
    done = one_client.uploads.complete(upload.id, part_ids=parts[:8])
    assert done.file is not None
    assert one_client.files.content(done.file.id).content == b"".join(pieces)
    cancelled = new_upload(one_client, 1)
    one_client.uploads.parts.create(cancelled.id, data=b"1")
    assert one_client.uploads.cancel(cancelled.id).status == "cancelled"
    while on_disk(demo) != blobs(demo):
        pass  # a chore takes them away


def test_an_upload_whose_time_is_over_takes_nothing_more(
    demo: ServerProcess, one_client: OpenAI
) -> None:
    upload = new_upload(one_client, 1)
    part = one_client.uploads.parts.create(upload.id, data=b"1")
    demo.ask(f"UPDATE uploads SET expires_at = {upload.created_at} WHERE id = '{upload.id}'")
    with pytest.raises(openai.BadRequestError, match="is already expired"):
        one_client.uploads.parts.create(upload.id, data=b"1")
    with pytest.raises(openai.BadRequestError, match="is already expired"):
        one_client.uploads.complete(upload.id, part_ids=[part.id])


def test_an_upload_ends_once_and_the_same_request_has_the_same_answer(one_client: OpenAI) -> None:
    upload = new_upload(one_client, 1)
    part = one_client.uploads.parts.create(upload.id, data=b"1")
    first, again = (one_client.uploads.complete(upload.id, part_ids=[part.id]) for _ in range(2))
    assert first == again
    for call in (
        lambda: one_client.uploads.cancel(upload.id),
        lambda: one_client.uploads.parts.create(upload.id, data=b"2"),
        lambda: one_client.uploads.complete(upload.id, part_ids=[part.id], md5="0" * 32),
    ):
        with pytest.raises(openai.BadRequestError, match=f"{upload.id} is already completed"):
            call()


def test_parts_that_do_not_make_up_the_file_are_refused_and_stay(one_client: OpenAI) -> None:
    upload = new_upload(one_client, 3)
    one, two = (one_client.uploads.parts.create(upload.id, data=data).id for data in (b"1", b"23"))
    strange = one_client.uploads.parts.create(new_upload(one_client, 1).id, data=b"1").id
    for part_ids, md5, message in (
        ([one], None, "The parts have 1 bytes in all, but upload .* was created with 3 bytes"),
        ([], None, "The parts have 0 bytes in all"),
        ([one, one, one], None, r"Invalid 'part_ids\[1\]': part 'part_.*' is named twice"),
        ([one, strange], None, r"Invalid 'part_ids\[1\]': part 'part_.*' is none of upload"),
        (["msg_1"], None, "Expected an ID that begins with 'part'"),
        ([one, two], "0" * 32, f"The md5 of the parts is {hashlib.md5(b'123').hexdigest()}"),
    ):
        more: Any = {} if md5 is None else {"md5": md5}
        with pytest.raises(openai.BadRequestError, match=message):
            one_client.uploads.complete(upload.id, part_ids=part_ids, **more)
    done = one_client.uploads.complete(upload.id, part_ids=[two, one])
    assert done.file is not None
    assert one_client.files.content(done.file.id).content == b"231"


def test_what_is_too_large_is_refused(one_client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=f"Expected a value <= {8 * 2**30}"):
        new_upload(one_client, 8 * 2**30 + 1)
    upload = new_upload(one_client, MAX_PART_BYTES + 1)
    with pytest.raises(openai.APIStatusError, match=f"{MAX_PART_BYTES} bytes at most") as refused:
        one_client.uploads.parts.create(upload.id, data=bytes(MAX_PART_BYTES + 1))
    assert refused.value.status_code == 413
    with pytest.raises(openai.NotFoundError, match="No upload found with id 'upload_x'"):
        one_client.uploads.parts.create("upload_x", data=b"1")
