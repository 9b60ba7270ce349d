"""A store of blobs keeps them whole or not at all: a folder, and a bucket over the protocol."""

import asyncio
import hashlib
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from rethread.blobs import PIECE_BYTES, Blobs
from rethread.blobs.places import open_blobs
from rethread.blobs.s3 import OBJECT_BYTES
from rethread.errors import Misconfigured, Missing, Unavailable
from tests.fakes.s3_server import BUCKET, S3Server, running_s3

NAME = "ab" * 16


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Blobs, Callable[[], list[str]]]]:
    """A store, and what says what lies in it."""
    if request.param == "folder":
        blobs = open_blobs(tmp_path, None)
        yield blobs, lambda: [each.name for each in tmp_path.rglob("*") if each.is_file()]
    else:
        s3: S3Server = request.getfixturevalue("s3")
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        blobs = open_blobs(tmp_path, f"s3://{BUCKET}/a/prefix")
        yield blobs, s3.objects
    await blobs.close()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from rethread.blobs.places import open_blobs

async def pieces():
    yield b"some content"

async def copy_and_die():
    blobs = open_blobs(Path(sys.argv[1]), sys.argv[2])
    await blobs.write(sys.argv[3], pieces())
    async with blobs.local(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(copy_and_die())
"""


def copies_in(data_dir: Path) -> list[Path]:
    """The copies that lie there now, of all processes."""
    return [path for path in data_dir.glob("copies/*/*") if path.name != "lock"]


Store = tuple[Blobs, Callable[[], list[str]]]


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


async def read(blobs: Blobs, name: str) -> bytes:
    return b"".join([piece async for piece in blobs.read(name)])


@pytest.mark.parametrize("size", [0, 1, OBJECT_BYTES, 2 * OBJECT_BYTES + 1])
async def test_what_was_written_is_read_as_it_was_until_it_is_deleted(
    store: Store, size: int
) -> None:
    blobs, lying = store
    content = os.urandom(size)
    await blobs.write(NAME, pieces(content))
    assert await read(blobs, NAME) == content
    assert max([len(piece) async for piece in blobs.read(NAME)], default=0) <= PIECE_BYTES
    async with blobs.local(NAME) as path:
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
    await blobs.delete(NAME)
    await blobs.delete(NAME)
    assert lying() == []
    with pytest.raises(Missing):
        await read(blobs, NAME)
    with pytest.raises(Missing):
        async with blobs.local(NAME):
            pass


async def test_what_was_cut_short_is_not_there_and_can_be_deleted(store: Store) -> None:
    blobs, lying = store

    async def breaking() -> AsyncIterator[bytes]:
        for _ in range(2 * OBJECT_BYTES // PIECE_BYTES):
            yield bytes(PIECE_BYTES)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await blobs.write(NAME, breaking())
    with pytest.raises(Missing):
        await read(blobs, NAME)
    await blobs.delete(NAME)
    assert lying() == []


async def test_a_writer_that_is_cancelled_leaves_nothing_whole(store: Store) -> None:
    blobs, lying = store
    has_begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(OBJECT_BYTES)
        has_begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(blobs.write(NAME, endless()))
    await has_begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with pytest.raises(Missing):
        await read(blobs, NAME)
    await blobs.delete(NAME)
    assert lying() == []


async def test_copies_of_a_bucket_s_files_stay_no_longer_than_their_process(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    place = f"s3://{BUCKET}/copied"
    command = (sys.executable, "-c", KILLED, tmp_path, place, NAME)
    killed = await asyncio.create_subprocess_exec(*command)
    assert await killed.wait() == -signal.SIGKILL
    assert [path.read_bytes() for path in copies_in(tmp_path)] == [b"some content"]
    here = open_blobs(tmp_path, place)
    assert copies_in(tmp_path) == []
    async with here.local(NAME) as path:
        there = open_blobs(tmp_path, place)  # as another process does that starts
        assert copies_in(tmp_path) == [path]
        await there.close()
    assert copies_in(tmp_path) == []
    await here.close()


async def test_a_full_disk_is_said_in_words_and_leaves_no_half_a_copy(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    blobs = open_blobs(tmp_path, f"s3://{BUCKET}/full")
    await blobs.write(NAME, pieces(bytes(3 * PIECE_BYTES)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE_BYTES, limits[1]))
    try:
        with pytest.raises(Unavailable, match="cannot copy files to read them now: File too large"):
            async with blobs.local(NAME):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert copies_in(tmp_path) == []
    await blobs.close()


async def test_a_bucket_that_is_not_there_says_so(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    blobs = open_blobs(tmp_path, "s3://no-such-bucket")
    with pytest.raises(Unavailable, match="status 404"):
        await blobs.check()
    with pytest.raises(Unavailable, match="status 404"):
        await blobs.write(NAME, pieces(b"lost"))
    await blobs.close()


def test_a_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot use the folder"):
        open_blobs(tmp_path, str(tmp_path / "file" / "files"))
