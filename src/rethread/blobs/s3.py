"""Blobs in a bucket of an S3-compatible service, for servers on more than one machine.

A blob is a row of objects of a few megabytes, NAME/00000, NAME/00001 and so on; the last one is
called `.end`, so what was cut short is known for that. Not a multipart upload: one that was cut
short stays in the bucket unseen, costs money, and nobody can find it by its name.
Address and credentials come from the variables that all programs for S3 know (`AWS_…`).

obstore's calls are made in threads: what its own asynchronous ones leave behind for a moment can
abort a process that ends in it.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from rethread.blobs import PIECE_BYTES, Piece
from rethread.blobs.copies import Copies
from rethread.blobs.folder import write_all
from rethread.blobs.threads import done_in
from rethread.errors import Misconfigured, Missing, Unavailable

if TYPE_CHECKING:
    from obstore import BytesStream

T = TypeVar("T")

OBJECT_BYTES: Final = 8 * 1024 * 1024
THREADS: Final = 8
MOST_AT_ONCE: Final = 3  # objects on their way; a blob that is written holds one more in memory
END: Final = ".end"
RETRIES: Final = 4
RETRY_SECONDS: Final = 30
STATUS: Final = re.compile(r"status code: ([1-5]\d\d)")
CONNECT_SECONDS: Final = 5
ANSWER_SECONDS: Final = 60


class Bucket:
    """The part of a bucket below a prefix."""

    def __init__(self, bucket: str, prefix: str, *, endpoint: str | None, copies: Copies) -> None:
        self._copies = copies
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        self.place = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        is_plain = (endpoint or "").startswith("http://")  # on the machine itself, or beside it
        try:
            self._store = S3Store(
                bucket,
                prefix=prefix or None,
                client_options={
                    "allow_http": is_plain,
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                    "timeout": timedelta(seconds=ANSWER_SECONDS),
                },
                retry_config={
                    "max_retries": RETRIES,
                    "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                },
            )
        except BaseError as problem:
            raise Misconfigured(f"cannot use {self.place} for files: {problem}") from problem

    async def write(self, name: str, pieces: AsyncIterator[Piece]) -> None:
        """Keep the pieces: whole when this returns, or known not to be."""
        underway: set[asyncio.Task[None]] = set()
        try:
            count = 0
            waiting: bytes | None = None
            async for content in _gathered(pieces):
                if waiting is not None:
                    await _make_room(underway)
                    underway.add(asyncio.create_task(self._put(f"{name}/{count:05}", waiting)))
                    count += 1
                waiting = content
            await asyncio.gather(*underway)
            await self._put(f"{name}/{count:05}{END}", waiting or b"")
        finally:
            # Whatever has happened: one that arrived later would be of nobody.
            await asyncio.gather(*underway, return_exceptions=True)

    async def read(self, name: str) -> AsyncGenerator[bytes]:
        """The bytes, piece by piece."""
        for path in await self._objects(name):
            chunks = await self._do(partial(self._opened, path))
            while chunk := await self._do(partial(next, chunks, None)):
                content = memoryview(chunk)
                for start in range(0, len(content), PIECE_BYTES):
                    yield bytes(content[start : start + PIECE_BYTES])

    @asynccontextmanager
    async def local(self, name: str) -> AsyncGenerator[Path]:
        """A copy, for as long as it is needed."""
        path = self._copies.new()
        try:
            await self._copy(name, path)
            yield path
        finally:
            with suppress(OSError):  # what stays goes at the next start
                await done_in(self._threads, partial(path.unlink, missing_ok=True))

    async def delete(self, name: str) -> None:
        """Have nothing under that name."""
        while paths := await self._do(partial(self._list, name)):
            await self._do(partial(obstore.delete, self._store, paths))

    async def close(self) -> None:
        """End the threads, and leave no copies."""
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._copies.close)

    async def check(self) -> None:
        """Unavailable if the bucket does not answer, or not to us."""
        await self._do(partial(self._list, "-"), is_there=False)

    async def _copy(self, name: str, path: Path) -> None:
        """Write it into a file, or Unavailable: the disk may have room again in a while."""
        try:
            with FileIO(path, "xb") as copy:
                async for piece in self.read(name):
                    await done_in(self._threads, partial(write_all, copy, piece))
        except OSError as problem:
            raise Unavailable(
                f"The server cannot copy files to read them now: {problem.strerror}.",
                reason="no room for a copy",
            ) from problem

    async def _put(self, path: str, content: bytes) -> None:
        put = partial(obstore.put, self._store, path, content, use_multipart=False)
        await self._do(put, is_there=False)

    async def _objects(self, name: str) -> list[str]:
        """What the blob is made of, in order; Missing if it is not whole."""
        paths = sorted(await self._do(partial(self._list, name)))
        last = len(paths) - 1
        if not paths or not paths[-1].endswith(f"/{last:05}{END}"):
            raise _missing()
        return paths

    def _list(self, name: str) -> list[str]:
        return [each["path"] for each in obstore.list(self._store, prefix=name).collect()]

    def _opened(self, path: str) -> "BytesStream":
        return obstore.get(self._store, path).stream(min_chunk_size=PIECE_BYTES)

    async def _do(self, work: Callable[[], T], *, is_there: bool = True) -> T:
        """Do it in a thread, its errors in our words; what is not found should be there."""
        try:
            return await done_in(self._threads, work)
        except (BaseError, OSError) as problem:
            if is_there and isinstance(problem, NotFoundError | FileNotFoundError):
                raise _missing() from problem
            told = _told(problem)
            raise Unavailable(
                f"The store of files does not answer: {told}.", reason=told
            ) from problem


def bucket_at(url: str, *, endpoint: str | None, copies: Copies) -> Bucket:
    """The place that s3://bucket/prefix names."""
    name, _, prefix = url.removeprefix("s3://").partition("/")
    return Bucket(name, prefix.strip("/"), endpoint=endpoint, copies=copies)


async def _gathered(pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    """The same in pieces as large as an object."""
    content = bytearray()
    async for piece in pieces:
        content += piece
        if len(content) >= OBJECT_BYTES:
            yield bytes(content)
            content.clear()
    if content:
        yield bytes(content)


async def _make_room(underway: set[asyncio.Task[None]]) -> None:
    """Wait until one more may be on its way; what has gone wrong is raised."""
    if len(underway) < MOST_AT_ONCE:
        return
    done, _ = await asyncio.wait(underway, return_when=asyncio.FIRST_COMPLETED)
    underway -= done
    for task in done:
        task.result()


def _missing() -> Missing:
    return Missing("The content of this file is not where the server keeps it.")


def _told(problem: Exception) -> str:
    """What went wrong, without the rest, which quotes addresses."""
    found = STATUS.search(str(problem))
    return f"status {found[1]}" if found else "unreachable"
