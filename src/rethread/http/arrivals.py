"""A form with one file in it, taken in while it arrives: the file goes to the blob store at once.

What is refused is refused as early as it is known, and what has arrived of the file goes again.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from rethread.blobs import Piece
from rethread.errors import Invalid, RethreadError, TooLarge
from rethread.http.codec import duplicate
from rethread.http.multipart import Form, Part
from rethread.http.request import Request
from rethread.store import blobs

MEMBER: Final = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]\Z")
NUMBER: Final = re.compile(r"[0-9]{1,12}\Z")

Check = Callable[[dict[str, Any]], object]


class Digest(Protocol):
    """A hash of `hashlib`."""

    def update(self, piece: Piece, /) -> None:
        """Take more in."""


class Stored(Struct):
    """What has been written to the blob store; `content` is its SHA-256.

    Unless `is_kept` is set, it is taken away again.
    """

    blob: str
    size: int = 0
    content: bytes = b""
    is_kept: bool = False


class Arrival(NamedTuple):
    """What a form held; among the fields, the file stands for its name."""

    fields: dict[str, Any]
    stored: Stored

    @property
    def summary(self) -> bytes:
        """What makes a form the same form as another one."""
        return json.dumps(self.fields, sort_keys=True).encode() + self.stored.content


@asynccontextmanager
async def arriving(
    request: Request, file_field: str, *, check: Check, most_bytes: int
) -> AsyncIterator[Arrival]:
    """The form, once all of it is there, its file in the blob store.

    `check` raises Invalid for fields that cannot be. It is asked before the file is read, with
    what has come so far, and in the end.
    """
    assert request.arriving is not None
    form = Form(request.arriving, request.header(b"content-type"))
    fields: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        stored: Stored | None = None
        async for part in form:
            if part.name != file_field:
                _put(fields, part.name, await form.text(part.name))
            elif stored is not None:
                raise duplicate(file_field)
            else:
                fields[file_field] = _file_name(part)
                _check_so_far(check, fields)
                storage = storing(request, form.pieces(), most_bytes=most_bytes)
                stored = await stack.enter_async_context(storage)
        check(fields)
        assert stored is not None
        yield Arrival(fields, stored)


@asynccontextmanager
async def storing(
    request: Request,
    pieces: AsyncGenerator[Piece],
    *,
    most_bytes: int,
    digests: Sequence[Digest] = (),
) -> AsyncIterator[Stored]:
    """The pieces in the blob store; each is also put into the digests."""
    stored = Stored(await blobs.reserve(request.db))
    holding = asyncio.create_task(_hold(request, stored.blob))
    try:
        content = hashlib.sha256()
        async with aclosing(_counted(stored, pieces, [content, *digests], most_bytes)) as counted:
            await request.services.blobs.write(stored.blob, counted)
        stored.content = content.digest()
        yield stored
    finally:
        holding.cancel()
        if not stored.is_kept:
            with suppress(RethreadError):  # a database that is away: it is found in its time
                await blobs.give_up(request.db, stored.blob)


async def _hold(request: Request, blob: str) -> None:
    """Keep the name from being given up as that of an upload which nobody goes on with."""
    while True:
        await asyncio.sleep(blobs.RENEW_SECONDS)
        with suppress(RethreadError):  # the next one may do; without any, the file is refused
            await blobs.renew(request.db, blob)


async def _counted(
    stored: Stored, pieces: AsyncGenerator[Piece], digests: Sequence[Digest], most_bytes: int
) -> AsyncGenerator[Piece]:
    async with aclosing(_ahead(pieces)) as ahead:
        async for piece in ahead:
            stored.size += len(piece)
            if stored.size > most_bytes:
                raise TooLarge(f"The file is too large: it may have {most_bytes} bytes at most.")
            # In a thread, and while the piece is written by another one.
            hashing = [asyncio.to_thread(digest.update, piece) for digest in digests]
            hashed = asyncio.gather(*hashing)
            try:
                yield piece
            finally:
                await hashed


async def _ahead(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    """The same; the next one is read while the last one is at work with."""
    coming = asyncio.ensure_future(anext(pieces, None))
    try:
        while (piece := await coming) is not None:
            coming = asyncio.ensure_future(anext(pieces, None))
            yield piece
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await pieces.aclose()


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
