"""An upload that two requests complete at once, as one does that is sent again too soon."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec.json import decode, encode

from rethread.blobs.folder import Folder
from rethread.contract.uploads import CreateUpload, Upload
from rethread.http import uploads as handlers
from rethread.http.request import Options, Request
from rethread.store import blobs, uploads
from rethread.store.database import Database
from rethread.store.uploads import StoredPart

PIECES = (b"one", b"two")


class Interrupted(Folder):
    """Lets something else happen before the first part is read."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def read(self, name: str) -> AsyncGenerator[bytes]:
        happening, self.meanwhile = self.meanwhile, None
        if happening is not None:
            await happening()
        async for piece in super().read(name):
            yield piece


async def new_upload(db: Database, folder: Folder) -> tuple[str, list[str]]:
    """The ids of an upload and of its parts."""
    asked = CreateUpload(filename="a", purpose="vision", bytes=6, mime_type="text/plain")
    upload = Upload.new(asked, now=int(time.time()))
    await uploads.add(db, "", upload, encode(upload), expires_after=None)
    for number, piece in enumerate(PIECES):
        name = await blobs.reserve(db)

        async def once(piece: bytes = piece) -> AsyncGenerator[bytes]:
            yield piece

        await folder.write(name, once())
        part = StoredPart(f"part_{number:032x}", name, len(piece))
        added = uploads.adding_part(upload, part, most_bytes=99, now=upload.created_at)
        assert await db.write(*added)
    return upload.id, [f"part_{number:032x}" for number in range(len(PIECES))]


async def test_who_was_overtaken_has_the_same_answer(db: Database, tmp_path: Path) -> None:
    folder = Interrupted(tmp_path / "files")
    upload_id, part_ids = await new_upload(db, folder)
    services: Any = SimpleNamespace(db=db, blobs=folder, clock=time.time, options=Options())
    scope = {"headers": [], "query_string": b""}

    async def complete() -> bytes:
        request = Request(services, scope, {"upload_id": upload_id})
        request.body = encode({"part_ids": part_ids})
        request.fingerprint = b"same"
        response: Any = await handlers.complete(request)
        return bytes(response.body)

    first: list[bytes] = []

    async def overtake() -> None:
        first.append(await complete())
        for name in await blobs.due(db):  # the parts, which have gone with the upload's end
            await folder.delete(name)

    folder.meanwhile = overtake
    assert await complete() == first[0]
    assert decode(first[0])["status"] == "completed"
    assert len(await db.read("SELECT id FROM files")) == 1
    await folder.close()
