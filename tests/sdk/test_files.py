"""Files with the stock SDK: uploaded, listed, downloaded as they were, and gone when deleted."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import FileObject

from tests.sdk.clients import sync_client
from tests.server import ServerProcess

NAME: Final = 'Über "uns", 関係.txt'


async def test_a_file_comes_back_byte_for_byte_under_its_name(client: AsyncOpenAI) -> None:
    content = os.urandom(3_000_000)
    file = await client.files.create(file=(NAME, content), purpose="assistants")
    assert (file.filename, file.bytes, file.purpose) == (NAME, len(content), "assistants")
    assert (file.status, file.expires_at) == ("processed", None)
    assert file.id.startswith("file-")
    assert await client.files.retrieve(file.id) == file
    assert await client.files.wait_for_processing(file.id) == file
    assert (await client.files.content(file.id)).content == content


async def test_an_empty_file_is_a_file(client: AsyncOpenAI) -> None:
    file = await client.files.create(file=("empty.txt", b""), purpose="user_data")
    assert file.bytes == 0
    assert (await client.files.content(file.id)).content == b""


async def test_files_are_listed_by_purpose_and_page_by_page(client: AsyncOpenAI) -> None:
    made = [
        await client.files.create(file=("a.jsonl", b"{}"), purpose=purpose)
        for purpose in ("fine-tune", "batch", "fine-tune")
    ]
    listed = [
        file.id async for file in client.files.list(purpose="fine-tune", limit=1, order="asc")
    ]
    assert listed == [made[0].id, made[2].id]
    newest = await client.files.list(limit=2)
    assert [file.id for file in newest.data] == [made[2].id, made[1].id]
    assert newest.has_more


async def test_a_deleted_file_is_gone(client: AsyncOpenAI) -> None:
    file = await client.files.create(file=("a.txt", b"gone"), purpose="assistants")
    deleted = await client.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}") as gone:
            await call(file.id)
        assert gone.value.param == "id"


async def test_a_file_is_deleted_when_its_time_is_over(
    demo: ServerProcess, one_client: OpenAI
) -> None:
    file = one_client.files.create(
        file=("a.txt", b"for an hour"),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert file.expires_at == file.created_at + 3600
    demo.ask(f"UPDATE files SET expires_at = {file.created_at} WHERE id = '{file.id}'")
    while file.id in [each.id for each in one_client.files.list()]:
        pass  # a chore looks every few seconds
    with pytest.raises(openai.NotFoundError):
        one_client.files.retrieve(file.id)


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("page.html", "application/octet-stream"),
        ("drawing.svg", "application/octet-stream"),
        ("photo.PNG", "image/png"),
    ],
)
def test_a_download_is_nothing_that_a_browser_would_run(
    one_client: OpenAI, filename: str, content_type: str
) -> None:
    file = one_client.files.create(file=(filename, b"<script>"), purpose="vision")
    headers = one_client.files.content(file.id).response.headers
    assert headers["content-type"] == content_type
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"].startswith(f'attachment; filename="{filename}"')


def test_what_cannot_be_downloaded_is_refused_in_words(
    demo: ServerProcess, one_client: OpenAI
) -> None:
    file = one_client.files.create(file=("lost.txt", os.urandom(9)), purpose="assistants")
    [(blob,)] = demo.ask(f"SELECT blob_id FROM files WHERE id = '{file.id}'")
    (demo.data_dir / "files" / blob[:2] / blob).unlink()
    impatient = one_client.with_options(max_retries=0)
    with pytest.raises(openai.InternalServerError, match="is not where the server keeps it"):
        impatient.files.content(file.id)
    one_client.files.delete(file.id)


@pytest.mark.parametrize(
    "filename", ["../../../etc/passwd", "C:\\a\\b.txt", "a\r\nx: y", ".", "\0"]
)
def test_a_name_is_data_and_never_a_path(
    demo: ServerProcess, one_client: OpenAI, filename: str
) -> None:
    file = one_client.files.create(file=(filename, b"harmless"), purpose="assistants")
    response = one_client.files.content(file.id)
    assert response.content == b"harmless"
    told = response.response.headers["content-disposition"]
    assert not set("/\\\r\n\0") & set(told.split("filename=")[1].split(";")[0])
    kept = {path.name for path in Path(demo.data_dir).rglob("*") if path.is_file()}
    assert kept.isdisjoint({"passwd", "b.txt", file.filename})


@pytest.mark.parametrize(
    ("fields", "message", "code"),
    [
        ({"purpose": "cats"}, "'cats' is not one of ['fine-tune', 'assistants',", None),
        ({}, "Missing required parameter: 'purpose'.", "missing_required_parameter"),
        ({"purpose": "vision", "foo": "1"}, "Unknown parameter: 'foo'.", "unknown_parameter"),
        (
            {"purpose": "vision", "expires_after[anchor]": "created_at"},
            "Missing required parameter: 'expires_after.seconds'.",
            "missing_required_parameter",
        ),
        (
            {
                "purpose": "vision",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "60",
            },
            "Invalid 'expires_after.seconds': integer below minimum value. Expected a value >= 36",
            "integer_below_min_value",
        ),
        (
            {
                "purpose": "vision",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "soon",
            },
            "Invalid type for 'expires_after.seconds': expected an integer, but got a string",
            "invalid_type",
        ),
    ],
)
@pytest.mark.parametrize("order", ["fields first", "file first"])
def test_a_form_that_cannot_be_is_refused_and_leaves_nothing(
    demo: ServerProcess,
    fields: dict[str, str],
    message: str,
    code: str | None,
    order: Literal["fields first", "file first"],
) -> None:
    file = ("file", ("a.txt", b"x" * 100))
    parts: list[Any] = [(name, (None, value.encode())) for name, value in fields.items()]
    parts = [*parts, file] if order == "fields first" else [file, *parts]
    before = demo.ask("SELECT COUNT(*) FROM files")
    answer = httpx2.post(f"{demo.url}/files", files=parts)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert answer.json()["error"]["message"].startswith(message)
    assert demo.ask("SELECT COUNT(*) FROM files") == before
    assert demo.ask("SELECT COUNT(*) FROM blob_trash WHERE due_at > 0") == [(0,)]


VISION: Final = ("purpose", (None, b"vision"))


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({"json": {"purpose": "vision"}}, "Invalid Content-Type header: expected 'multipart/form-"),
        ({"files": [VISION, ("file", ("x" * 256, b""))]}, "Invalid 'file': string too long."),
        ({"files": [VISION, ("file", (None, b"text"))]}, "Invalid type for 'file': expected a fil"),
        ({"files": [VISION, *[("file", ("a", b""))] * 2]}, "Duplicate parameter: 'file'."),
        ({"files": [VISION, VISION]}, "Duplicate parameter: 'purpose'."),
        ({"files": [VISION]}, "Missing required parameter: 'file'."),
        ({"files": [("purpose", (None, b"\xff"))]}, "A field in the form of your request is not"),
        ({"files": [("purpose", (None, b"x" * 70_000))]}, "Invalid 'purpose': a field of the"),
        ({"files": [(f"p{n}", (None, b"")) for n in range(40)]}, "We could not parse the"),
    ],
)
def test_what_is_no_good_form_is_refused(
    demo: ServerProcess, request_fields: dict[str, Any], message: str
) -> None:
    answer = httpx2.post(f"{demo.url}/files", **request_fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


def test_a_form_that_ends_too_early_is_refused(demo: ServerProcess) -> None:
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhalf'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    for content in (head, b"", b"garbage"):
        answer = httpx2.post(f"{demo.url}/files", content=content, headers=headers)
        assert answer.status_code == 400
        assert "could not parse the multipart form" in answer.json()["error"]["message"]
    assert demo.ask("SELECT COUNT(*) FROM blob_trash WHERE due_at > 0") == [(0,)]


def test_a_file_sent_again_with_its_key_is_made_once_also_at_the_same_time(
    demo: ServerProcess,
) -> None:
    with sync_client(demo) as client, ThreadPoolExecutor(4) as threads:
        headers = {"Idempotency-Key": "one file"}
        content = os.urandom(100_000)

        def create(_: int) -> FileObject:
            return client.files.create(
                file=("a.txt", content), purpose="vision", extra_headers=headers
            )

        first, *others = [*threads.map(create, range(4)), create(4)]
        assert others == [first] * 4
        with pytest.raises(openai.ConflictError, match="used before with another request"):
            client.files.create(file=("a.txt", b"2"), purpose="vision", extra_headers=headers)
