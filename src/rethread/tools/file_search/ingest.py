"""Reads one file for a vector store: the reading as a list of steps you can read aloud.

    look what is wanted → read it into chunks → embed and write them, some at a time → let go

Every write is a reader's who was not replaced; the last one makes the file `completed` and is
the one with which its chunks are found. What may pass is tried again, from where it got to.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Final, NamedTuple

from rethread.blobs import Blobs
from rethread.contract.vector_stores import ReadingError
from rethread.errors import Missing, ModelError, Raced, Unavailable
from rethread.providers.embeddings import Embedder
from rethread.store import chunks, ingestions, vector_store_files
from rethread.store.chunks import IndexedChunk
from rethread.store.database import Database
from rethread.store.ingestions import Reading, Wanted
from rethread.store.vector_store_files import ingested_topic
from rethread.tools.file_search.gathering import Gathering
from rethread.tools.file_search.reader import Chunk, Reader, Unreadable

logger = logging.getLogger("rethread.files")

MOST_ATTEMPTS: Final = 4  # a file whose server goes away that often may be why it does
PAUSE_SECONDS: Final = 1.0  # before the second attempt; each time twice as long
CHUNKS_A_WRITE: Final = 256  # some calls of an embeddings' server at once
# PostgreSQL takes milliseconds for each vector's place in the index. Short writes, one at a time,
# leave it free for everybody else's; all at once they would hold those up for too long.
VECTORS_A_WRITE: Final = 64
CHUNKS_ON_LOOP: Final = 32  # to make the statements of more takes too long for it
PASSING_REASONS: Final = ("unreachable", "stalled", "cut", "no answer", "status 429")
LET_GO: Final = (
    "The server stopped several times while it read this file: the file may be why it did."
)
NO_CONTENT: Final = "The content of this file is not where the server keeps it."


class Library(NamedTuple):
    """What every reading needs; without an embedder, stores are searched by words alone.

    `indexing` is held by the one who writes what takes the database long; those whose files take
    it little come together in `gathering` first.
    """

    db: Database
    blobs: Blobs
    reader: Reader
    embedder: Embedder | None
    indexing: asyncio.Lock
    gathering: Gathering


class Outcome(NamedTuple):
    """How a reading ended: with how many chunks, or why not."""

    chunks: int = 0
    error: ReadingError | None = None


class Replaced(Exception):
    """Somebody else reads this file now, or nobody wants it any more."""


class Passing(Exception):
    """What stood in the way may have gone when the file is read again."""

    def __init__(self, error: ReadingError, *, reason: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.reason = reason  # a few words of ours, for the log


async def ingest(
    library: Library, reading: Reading, looking: "asyncio.Task[dict[int, Wanted]] | None" = None
) -> None:
    """Bring the file to rest, or back into the queue for another attempt.

    `looking` is who finds out what is wanted of it, along with others.
    """
    began = time.monotonic()
    looking = looking or asyncio.create_task(ingestions.wanted(library.db, [reading]))
    wanted = (await asyncio.shield(looking)).get(reading.file_number)
    if wanted is None or wanted.blob is None:
        await _drop(library.db, reading, wanted)
        return
    try:
        with library.gathering.taking_part():
            outcome = await _outcome(library, reading, wanted, wanted.blob)
    except Replaced:
        await ingestions.drop(library.db, reading)  # if it is still ours, nobody wants it
        return
    except Passing as problem:
        wanted = (await ingestions.wanted(library.db, [reading])).get(reading.file_number)
        if wanted is None or wanted.blob is None:  # it was deleted, which is why it is not there
            await _drop(library.db, reading, wanted)
        else:
            await _try_again(library.db, reading, wanted, problem, began)
        return
    _tell(library.db, wanted, outcome, began)


async def _outcome(library: Library, reading: Reading, wanted: Wanted, blob: str) -> Outcome:
    """The file at rest, and how it got there; Replaced, or Passing."""
    try:
        if reading.crashes >= MOST_ATTEMPTS:
            raise Unreadable("server_error", LET_GO)
        embedder = _embedder(library, wanted)
        found = await _read(library, reading, wanted, blob)
        done = await _done(library.db, reading, wanted, found) if reading.fence > 1 else 0
        await _index(library, reading, wanted, found, embedder=embedder, done=done)
    except Unreadable as problem:
        error = ReadingError(problem.code, problem.message)
        if not await ingestions.fail(library.db, reading, error):
            raise Replaced from None
        return Outcome(error=error)
    return Outcome(chunks=len(found))


async def _read(library: Library, reading: Reading, wanted: Wanted, blob: str) -> list[Chunk]:
    """The file's chunks."""

    async def begin() -> None:
        if not await ingestions.begin(library.db, reading):
            raise Replaced

    try:
        async with library.blobs.local(blob) as path:
            return await library.reader.read(
                path,
                wanted.filename,
                max_tokens=wanted.max_chunk_tokens,
                overlap_tokens=wanted.overlap_tokens,
                store_id=wanted.store_id,
                is_urgent=reading.is_urgent,
                before=begin,
            )
    except Missing:
        raise Unreadable("server_error", NO_CONTENT) from None
    except Unavailable as problem:
        reason = problem.reason or "files unavailable"
        raise Passing(ReadingError("server_error", problem.message), reason=reason) from problem
    except Unreadable as problem:
        if problem.code == "server_error":
            error = ReadingError(problem.code, problem.message)
            raise Passing(error, reason="no process") from problem
        raise


async def _done(db: Database, reading: Reading, wanted: Wanted, found: Sequence[Chunk]) -> int:
    """How many chunks an earlier reader got to; none if a newer program reads the file anew."""
    count = await chunks.count(db, reading.file_number)
    if count == 0:
        return 0
    texts = await chunks.texts(db, reading.file_number)
    if texts == [(chunk.start, chunk.text) for chunk in found[:count]]:
        return count
    mine = ingestions.holding(reading)
    try:
        await chunks.forget_file(db, wanted.store_id, reading.file_number, check=mine)
    except Raced:
        raise Replaced from None
    return 0


async def _index(
    library: Library,
    reading: Reading,
    wanted: Wanted,
    found: Sequence[Chunk],
    *,
    embedder: Embedder | None,
    done: int,
) -> None:
    """Write the chunks, some at a time, from the first that is not written yet."""
    db = library.db
    is_slow = embedder is not None and db.dialect == "postgresql"
    at_once = VECTORS_A_WRITE if is_slow else CHUNKS_A_WRITE
    size = sum(len(chunk.text.encode()) for chunk in found)
    while True:
        some = found[done : done + at_once]
        indexed = await _embedded(some, embedder)
        adding = partial(chunks.adding, db, wanted.store_id, reading.file_number, done, indexed)
        also = adding() if len(some) <= CHUNKS_ON_LOOP else await asyncio.to_thread(adding)
        done += len(some)
        is_last = done >= len(found)
        vectors = len(found) * len(indexed[-1].vector or b"") if indexed else 0
        if is_last and not is_slow:
            await library.gathering.come_together()
        async with library.indexing if is_slow else nullcontext():
            if is_last:
                usage_bytes = size + vectors
                kept = await ingestions.complete(db, reading, usage_bytes=usage_bytes, also=also)
            else:
                kept = bool(await db.write(ingestions.holding(reading), *also))
        if not kept:
            raise Replaced
        if is_last:
            return


async def _embedded(some: Sequence[Chunk], embedder: Embedder | None) -> list[IndexedChunk]:
    """The chunks with their vectors, if there is somebody who makes them."""
    vectors: Sequence[bytes | None] = [None] * len(some)
    if embedder is not None and some:
        try:
            vectors = await embedder.embed([chunk.text for chunk in some])
        except ModelError as problem:
            error = ReadingError("server_error", f"No embeddings: {problem.message}")
            if _may_pass(problem):
                raise Passing(error, reason=problem.reason) from problem
            raise Unreadable(error.code, error.message) from problem
    return [
        IndexedChunk(chunk.text, chunk.start, chunk.page, chunk.words, vector, is_entry=True)
        for chunk, vector in zip(some, vectors, strict=True)
    ]


def _may_pass(problem: ModelError) -> bool:
    """Whether the embeddings' server may say something else in a while."""
    return problem.reason in PASSING_REASONS or problem.reason.startswith("status 5")


def _embedder(library: Library, wanted: Wanted) -> Embedder | None:
    """Who makes the store's vectors; Unreadable where that is not who the server has."""
    if not wanted.embedder:
        return None
    mine = library.embedder
    if mine is None or mine.name != wanted.embedder:
        now = f"uses {mine.name}" if mine else "makes none"
        raise Unreadable(
            "server_error",
            f"This vector store's embeddings were made by {wanted.embedder}, and the server {now} "
            "now. Run `rethread reindex`, then add the file again.",
        )
    return mine


async def _try_again(
    db: Database, reading: Reading, wanted: Wanted, problem: Passing, began: float
) -> None:
    """Give the file back after a pause; fail it where that was tried often enough."""
    if reading.crashes + 1 >= MOST_ATTEMPTS:
        if await ingestions.fail(db, reading, problem.error):
            _tell(db, wanted, Outcome(error=problem.error), began)
        return
    fields = {
        "store": wanted.store_id,
        "file": wanted.file_id,
        "attempt": reading.crashes + 1,
        "reason": problem.reason,
    }
    logger.warning("file not read yet", extra={"fields": fields})
    await asyncio.sleep(PAUSE_SECONDS * 2**reading.crashes)
    await ingestions.release(db, reading, after_crash=True)
    db.notify(ingestions.TOPIC)


async def _drop(db: Database, reading: Reading, wanted: Wanted | None) -> None:
    """Let go of a file that nobody wants, or that was deleted while it was being added."""
    await ingestions.drop(db, reading)
    if wanted is not None:
        await db.write(*vector_store_files.forgetting_file(wanted.file_id, now=int(db.now())))
        db.notify(ingested_topic(wanted.store_id))


def _tell(db: Database, wanted: Wanted, outcome: Outcome, began: float) -> None:
    """Wake those who wait for the file, and write its line in the log: never its name."""
    db.notify(ingested_topic(wanted.store_id))
    fields: dict[str, str | int] = {
        "store": wanted.store_id,
        "file": wanted.file_id,
        "status": "failed" if outcome.error else "completed",
        "milliseconds": round((time.monotonic() - began) * 1000),
        "chunks": outcome.chunks,
    }
    if outcome.error:
        fields["code"] = outcome.error.code
    logger.info("file read", extra={"fields": fields})
