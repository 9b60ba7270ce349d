"""Files at rest: each content is kept once, and what nobody refers to is taken away."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from rethread.blobs.folder import Folder
from rethread.contract.files import File
from rethread.errors import Missing, NoSuchFile
from rethread.store import blobs, files
from rethread.store.database import Database

PROJECT = "project"


class Scene:
    """A database and a folder of blobs."""

    def __init__(self, db: Database, folder: Folder, path: Path) -> None:
        self.db = db
        self.folder = folder
        self.path = path

    async def add(self, content: bytes, *, name: str | None = None) -> str | None:
        """The id of a new file, or None where its write was refused."""
        name = name or await blobs.reserve(self.db)
        await self.folder.write(name, _pieces(content))
        file = File.new(
            filename="a.txt", size=len(content), purpose="assistants", expires_after=None, now=1
        )
        digest = hashlib.sha256(content).digest()
        body = msgspec.json.encode(file)
        added = files.adding(PROJECT, file, body, name=name, content=digest)
        return file.id if await self.db.write(*added) else None

    async def take_away(self) -> None:
        """What the chore does."""
        for name in await blobs.due(self.db):
            await self.folder.delete(name)
            await blobs.taken_away(self.db, [name])

    def contents(self) -> list[bytes]:
        """What lies in the folder."""
        return sorted(path.read_bytes() for path in self.path.rglob("*") if path.is_file())


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 3):
        yield content[start : start + 3]


@pytest.fixture
async def scene(db: Database, tmp_path: Path) -> AsyncIterator[Scene]:
    folder = Folder(tmp_path / "files")
    yield Scene(db, folder, tmp_path / "files")
    await folder.close()


async def test_the_same_content_is_kept_once_until_its_last_file_goes(scene: Scene) -> None:
    one, other, _ = [await scene.add(each) for each in (b"same", b"same", b"another")]
    await scene.take_away()
    assert scene.contents() == [b"another", b"same"]
    assert one
    assert other
    first, second = [await files.get(scene.db, PROJECT, each) for each in (one, other)]
    assert first.blob == second.blob
    await files.delete(scene.db, PROJECT, one)
    await scene.take_away()
    assert [piece async for piece in scene.folder.read(second.blob)] == [b"same"]
    await files.delete(scene.db, PROJECT, other)
    await scene.take_away()
    assert scene.contents() == [b"another"]
    assert await scene.db.read("SELECT id FROM blob_trash") == []
    with pytest.raises(Missing):
        await anext(scene.folder.read(second.blob))


async def test_uploads_and_deletions_of_one_content_at_once_never_lose_it(scene: Scene) -> None:
    async def come_and_go() -> None:
        for _ in range(8):
            file_id = await scene.add(b"same")
            assert file_id
            stored = await files.get(scene.db, PROJECT, file_id)
            assert [piece async for piece in scene.folder.read(stored.blob)] == [b"same"]
            await files.delete(scene.db, PROJECT, file_id)
            await scene.take_away()

    await asyncio.gather(*(come_and_go() for _ in range(4)))
    assert scene.contents() == []
    assert await scene.db.read("SELECT id FROM blobs") == []


async def test_an_upload_that_was_given_up_makes_no_file(scene: Scene) -> None:
    name = await blobs.reserve(scene.db)
    await blobs.give_up(scene.db, name)
    assert not await blobs.renew(scene.db, name)
    assert await scene.add(b"late", name=name) is None
    await scene.take_away()
    assert (scene.contents(), await scene.db.read("SELECT id FROM blobs")) == ([], [])


async def test_a_write_that_breaks_leaves_nothing(scene: Scene) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await scene.folder.write("ab" * 16, breaking())
    assert scene.contents() == []


async def test_files_are_found_in_their_project_only(scene: Scene) -> None:
    ids = [await scene.add(os.urandom(8)) for _ in range(files.MANY + 3)]
    known = [each for each in ids if each]
    found = await files.many(scene.db, PROJECT, [*known, "file-unknown"])
    assert sorted(found) == sorted(known)
    assert await files.many(scene.db, "other", known) == {}
    with pytest.raises(NoSuchFile, match=f"No such File object: {known[0]}"):
        await files.get(scene.db, "other", known[0])
