"""Images that were uploaded as files, put into a request as data URLs just before it is sent.

Not images by URL: those go to the model server as they are, and nothing is fetched from here.
"""

import asyncio
import base64
from typing import Any, Final

from msgspec import structs

from rethread.blobs import Blobs
from rethread.contract.chat import ChatMessage, ChatRequest
from rethread.contract.image_kinds import kind_of
from rethread.errors import Missing, ModelError
from rethread.store import files, threads
from rethread.store.database import Database
from rethread.store.files import StoredFile

MOST_BYTES: Final = 20 * 1024 * 1024  # of one image; OpenAI's limit
MOST_BYTES_IN_ALL: Final = 50 * 1024 * 1024  # of one request; OpenAI's limit, too


async def put_in(db: Database, blobs: Blobs, thread_id: str, request: ChatRequest) -> ChatRequest:
    """The request with the files' contents in the place of their ids; ModelError if one can't be.

    `thread_id` says whose files they must be.
    """
    asked = [part["image_file"]["file_id"] for part in _file_parts(request)]
    thread = await threads.of_run(db, thread_id) if asked else None
    if thread is None:
        return request
    found = await files.many(db, thread[0], asked)
    for file_id in asked:
        _check(file_id, found.get(file_id))
    if sum(found[file_id].bytes for file_id in asked) > MOST_BYTES_IN_ALL:
        raise _refused(f"have more than {MOST_BYTES_IN_ALL} bytes in all", "The thread's images")
    urls = {file_id: await _data_url(blobs, file) for file_id, file in found.items()}
    return structs.replace(request, messages=[_shown(each, urls) for each in request.messages])


def _file_parts(request: ChatRequest) -> list[dict[str, Any]]:
    return [
        part
        for message in request.messages
        if isinstance(message.content, list)
        for part in message.content
        if part["type"] == "image_file"
    ]


def _shown(message: ChatMessage, urls: dict[str, str]) -> ChatMessage:
    if not isinstance(message.content, list):
        return message
    return structs.replace(message, content=[_shown_part(part, urls) for part in message.content])


def _shown_part(part: dict[str, Any], urls: dict[str, str]) -> dict[str, Any]:
    if part["type"] != "image_file":
        return part
    image = part["image_file"]
    url = urls[image["file_id"]]
    return {"type": "image_url", "image_url": {"url": url, "detail": image["detail"]}}


def _check(file_id: str, file: StoredFile | None) -> None:
    if file is None:
        raise _refused("was deleted, or never was", f"The image file '{file_id}'")
    if file.bytes > MOST_BYTES:
        raise _refused(f"has more than {MOST_BYTES} bytes", f"The image file '{file_id}'")


async def _data_url(blobs: Blobs, file: StoredFile) -> str:
    try:
        content = b"".join([piece async for piece in blobs.read(file.blob)])
    except Missing as problem:
        raise _refused("has just been deleted", f"The image file '{file.id}'") from problem
    kind = kind_of(content)
    if kind is None:
        raise _refused("is no PNG, JPEG, GIF or WebP", f"The image file '{file.id}'")
    encoded = await asyncio.to_thread(base64.b64encode, content)
    return f"data:image/{kind};base64,{encoded.decode('ascii')}"


def _refused(why: str, what: str) -> ModelError:
    return ModelError(
        f"{what} {why}; the model cannot be shown the messages with it.",
        code="invalid_prompt",
        reason="image file",
    )
