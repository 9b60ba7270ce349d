"""An upload that two requests complete at once, as one does that is sent again too soon."""

import hashlib
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


async def new_upload(
    db: Database, folder: Folder, pieces: tuple[bytes, ...] = PIECES
) -> tuple[str, list[str]]:
    """The ids of an upload and of its parts."""
    asked = CreateUpload(filename="a", purpose="vision", bytes=6, mime_type="text/plain")
    upload = Upload.new(asked, now=int(time.time()))
    await uploads.add(db, "", upload, encode(upload), expires_after=None)
    for number, piece in enumerate(pieces):
        name = await blobs.reserve(db)

        async def once(piece: bytes = piece) -> AsyncGenerator[bytes]:
            yield piece

        await folder.write(name, once())
        content = hashlib.sha256(piece).digest()
        part = StoredPart(f"part_{number:032x}", name, len(piece), content)
        added = uploads.adding_part(upload, part, most_bytes=99, now=upload.created_at)
        assert await db.write(*added)
    return upload.id, [f"part_{number:032x}" for number in range(len(pieces))]


async def complete(db: Database, folder: Folder, upload_id: str, part_ids: list[str]) -> bytes:
    """The answer to a request that completes it."""
    services: Any = SimpleNamespace(db=db, blobs=folder, clock=time.time, options=Options())
    request = Request(services, {"headers": [], "query_string": b""}, {"upload_id": upload_id})
    request.body = encode({"part_ids": part_ids})
    request.fingerprint = b"same"
    response: Any = await handlers.complete(request)
    return bytes(response.body)


async def test_who_was_overtaken_has_the_same_answer(db: Database, tmp_path: Path) -> None:
    folder = Interrupted(tmp_path / "files")
    upload_id, part_ids = await new_upload(db, folder)
    first: list[bytes] = []

    async def overtake() -> None:
        first.append(await complete(db, folder, upload_id, part_ids))
        for name in await blobs.due(db):  # the parts, which have gone with the upload's end
            await folder.delete(name)

    folder.meanwhile = overtake
    assert await complete(db, folder, upload_id, part_ids) == first[0]
    assert decode(first[0])["status"] == "completed"
    assert len(await db.read("SELECT id FROM files")) == 1
    await folder.close()


async def test_a_part_that_is_the_whole_file_becomes_it(db: Database, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "files")
    upload_id, part_ids = await new_upload(db, folder, (b"wholly",))
    [(blob,)] = await db.read("SELECT blob_id FROM upload_parts")
    for _ in range(2):
        assert decode(await complete(db, folder, upload_id, part_ids))["status"] == "completed"
    assert await db.read("SELECT blob_id FROM files") == [(blob,)]
    assert await db.read("SELECT id FROM blobs") == [(blob,)]
    assert await blobs.due(db) == []
    again_id, part_ids = await new_upload(db, folder, (b"wholly",))
    [(double,)] = await db.read("SELECT blob_id FROM upload_parts")
    await complete(db, folder, again_id, part_ids)
    assert await db.read("SELECT blob_id FROM files") == [(blob,)] * 2
    assert await blobs.due(db) == [double]
    await folder.close()
