"""What code has made becomes files of the client's: images, and what lies in its folder."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from msgspec.json import encode

from rethread.blobs import Blobs
from rethread.contract.files import File
from rethread.errors import RethreadError
from rethread.store import blobs as names
from rethread.store import files
from rethread.store.database import Database, Statement
from rethread.tools.code_interpreter.files import Reading

Pieces = AsyncGenerator[bytes]
Also = Callable[[str], list[Statement]]


async def keep(
    db: Database,
    blobs: Blobs,
    project: str,
    filename: str,
    pieces: Pieces,
    *,
    also: Also = lambda _: [],
) -> str:
    """The id of a new file with that content; what `also` makes of it is written along."""
    name = await names.reserve(db)
    try:
        content, size = hashlib.sha256(), 0

        async def hashed() -> Pieces:
            nonlocal size
            async for piece in pieces:
                await asyncio.to_thread(content.update, piece)
                size += len(piece)
                yield piece

        await blobs.write(name, hashed())
        file = File.made(filename=filename, size=size, now=int(db.now()))
        adding = files.adding(project, file, encode(file), name=name, content=content.digest())
        if not await db.write(*adding, *also(file.id)):
            raise files.not_written(file.id)
    except BaseException:
        with suppress(RethreadError):  # a database that is away: it is found in its time
            await names.give_up(db, name)
        raise
    return file.id


async def keep_image(db: Database, blobs: Blobs, project: str, content: bytes, *, kind: str) -> str:
    """The id of a new file with that image."""

    async def whole() -> Pieces:
        yield content

    filename = f"image-{secrets.token_hex(4)}.{kind}"
    return await keep(db, blobs, project, filename, whole())


async def pieces_of(reading: Reading) -> Pieces:
    """What a file of the code's has, read in a thread."""
    while piece := await asyncio.to_thread(reading.piece):
        yield piece
