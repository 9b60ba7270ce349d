"""Images that were uploaded reach the model as data URLs, or the run says why not."""

import base64
from typing import Any, Final

import pytest
from openai import NotFoundError

from tests.sdk.clients import Scripted

IMAGES: Final = {
    "png": b"\x89PNG\r\n\x1a\n and so on",
    "jpeg": b"\xff\xd8\xff and so on",
    "gif": b"GIF89a and so on",
    "webp": b"RIFF\0\0\0\0WEBP and so on",
}


def image_part(scripted: Scripted, content: bytes, **more: str) -> Any:
    """A part of a message that shows a new file."""
    file = scripted.client.files.create(file=("an image", content), purpose="vision")
    return {"type": "image_file", "image_file": {"file_id": file.id, **more}}


def test_each_image_is_shown_as_what_its_first_bytes_say(scripted: Scripted) -> None:
    parts = [image_part(scripted, content, detail="low") for content in IMAGES.values()]
    parts.append({"type": "text", "text": "What is this?"})
    thread = scripted.client.beta.threads.create(messages=[{"role": "user", "content": parts}])
    run = scripted.client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=scripted.assistant()
    )
    assert run.status == "completed"
    *shown, text = scripted.asked()["messages"][-1]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    for part, (kind, content) in zip(shown, IMAGES.items(), strict=True):
        url = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        assert part == {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<svg/>", "is no PNG, JPEG, GIF or WebP"),
        (None, "was deleted, or never was"),
        (IMAGES["png"] + bytes(20 * 2**20), "has more than 20971520 bytes"),
    ],
)
def test_a_file_that_cannot_be_shown_fails_the_run(
    scripted: Scripted, content: bytes | None, message: str
) -> None:
    part = image_part(scripted, content or b"gone")
    file_id = part["image_file"]["file_id"]
    thread = scripted.client.beta.threads.create(messages=[{"role": "user", "content": [part]}])
    if content is None:
        scripted.client.files.delete(file_id)
    run = scripted.client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=scripted.assistant()
    )
    assert run.status == "failed"
    assert run.last_error is not None
    assert run.last_error.code == "invalid_prompt"
    assert run.last_error.message.startswith(f"The image file '{file_id}' {message}")


def test_an_image_that_is_not_there_is_refused_with_its_message(scripted: Scripted) -> None:
    threads = scripted.client.beta.threads
    missing: Any = {"type": "image_file", "image_file": {"file_id": "file-" + "x" * 22}}
    thread = threads.create()
    with pytest.raises(NotFoundError, match="No such File object: file-x"):
        threads.messages.create(thread.id, role="user", content=[missing])
    with pytest.raises(NotFoundError, match="No such File object: file-x"):
        threads.create(messages=[{"role": "user", "content": [missing]}])
    assert threads.messages.list(thread.id).data == []


def test_the_built_in_model_sees_the_image(demo: Any, one_client: Any) -> None:
    file = one_client.files.create(file=("a.png", IMAGES["png"]), purpose="vision")
    part = {"type": "image_file", "image_file": {"file_id": file.id}}
    thread = one_client.beta.threads.create(messages=[{"role": "user", "content": [part]}])
    assistant = one_client.beta.assistants.create(model="demo")
    run = one_client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id
    )
    assert run.status == "completed"
    said = one_client.beta.threads.messages.list(thread.id).data[0].content[0].text.value
    assert "I saw 1 image." in said
