"""A form with one file in it, taken in while it arrives: the file goes to the blob store at once.

What is refused is refused as early as it is known, and what has arrived of the file goes again.
"""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from msgspec import Struct

from rethread.errors import Invalid, Raced, RethreadError, TooLarge
from rethread.http.codec import duplicate
from rethread.http.multipart import Form, Part
from rethread.http.request import Request
from rethread.store import blobs

MEMBER: Final = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]\Z")
NUMBER: Final = re.compile(r"[0-9]{1,12}\Z")

Check = Callable[[dict[str, Any]], object]


class Arrival(Struct):
    """What a form held; `blob` is the name of the file's bytes, `content` their SHA-256.

    Unless `is_kept` is set, the bytes are taken away again.
    """

    fields: dict[str, Any]
    blob: str
    size: int
    content: bytes
    is_kept: bool = False

    @property
    def summary(self) -> bytes:
        """What makes a form the same form as another one."""
        return json.dumps(self.fields, sort_keys=True).encode() + self.content


@asynccontextmanager
async def arriving(
    request: Request, file_field: str, *, check: Check, most_bytes: int
) -> AsyncIterator[Arrival]:
    """The form, once all of it is there, its file in the blob store.

    `check` raises Invalid for fields that cannot be; the file's stands for its name. It is asked
    before the file is read, with what has come so far, and in the end.
    """
    name: str | None = None
    arrival: Arrival | None = None
    fields: dict[str, Any] = {}
    try:
        assert request.arriving is not None
        form = Form(request.arriving, request.header(b"content-type"))
        async for part in form:
            if part.name != file_field:
                _put(fields, part.name, await form.text(part.name))
            elif name is not None:
                raise duplicate(file_field)
            else:
                fields[file_field] = _file_name(part)
                _check_so_far(check, fields)
                name = await blobs.reserve(request.db)
                arrival = await _take_in(request, form, name, fields, most_bytes=most_bytes)
        check(fields)
        assert arrival is not None
        yield arrival
    finally:
        if name is not None and (arrival is None or not arrival.is_kept):
            with suppress(RethreadError):  # a database that is away: it will be found in its time
                await blobs.give_up(request.db, name)


async def _take_in(
    request: Request, form: Form, name: str, fields: dict[str, Any], *, most_bytes: int
) -> Arrival:
    digest = hashlib.sha256()
    size = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal size
        renewed = time.monotonic()
        async for piece in form.pieces():
            size += len(piece)
            if size > most_bytes:
                raise TooLarge(f"The file is too large: it may have {most_bytes} bytes at most.")
            if time.monotonic() - renewed > blobs.RENEW_SECONDS:
                renewed = time.monotonic()
                if not await blobs.renew(request.db, name):
                    raise Raced("The upload was silent for too long.")
            await asyncio.to_thread(digest.update, piece)
            yield piece

    await request.services.blobs.write(name, pieces())
    return Arrival(fields, name, size, digest.digest())


def _file_name(part: Part) -> str:
    if part.filename is None:
        raise Invalid(
            f"Invalid type for '{part.name}': expected a file, but got a field of the form without "
            "a filename instead.",
            param=part.name,
            code="invalid_type",
        )
    return part.filename


def _check_so_far(check: Check, fields: dict[str, Any]) -> None:
    """Refuse what is wrong already; what is missing may come behind the file."""
    try:
        check(fields)
    except Invalid as problem:
        if problem.code != "missing_required_parameter":
            raise


def _put(fields: dict[str, Any], name: str, text: str) -> None:
    """Note a field; those of an object come as `name[key]`, and numbers as text."""
    value: Any = int(text) if NUMBER.match(text) else text
    member = MEMBER.match(name)
    if member is None:
        if name in fields:
            raise duplicate(name)
        fields[name] = text
        return
    owner = fields.setdefault(member[1], {})
    if not isinstance(owner, dict) or member[2] in owner:
        raise duplicate(name)
    owner[member[2]] = value
