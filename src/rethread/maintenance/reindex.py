"""Makes what files are searched by anew: vectors for another embedder, or the index of words.

How far it has come is written with each batch, so it goes on where it was broken off. A store
cannot be searched while it is worked on; the others can.
"""

import asyncio
from typing import NamedTuple

from rethread.maintenance.progress import Progress
from rethread.providers.embeddings import Embedder
from rethread.store import reindexing
from rethread.store.database import Database


class Reindexed(NamedTuple):
    """What was done: so many stores belong to this embedder now."""

    stores: int
    chunks: int
    embedder: str

    def __str__(self) -> str:
        by = f"the embedder '{self.embedder}'" if self.embedder else "words alone"
        if not self.stores:
            return f"Nothing to do: all vector stores are searched by {by} already."
        return f"{self.stores:,} vector stores are searched by {by} now ({self.chunks:,} chunks)."


async def reindex(
    db: Database, embedder: Embedder | None, *, everything: bool = False
) -> Reindexed:
    """Make the vectors of stores that have those of another embedder, or none.

    With `everything` those of all stores, and the index of words.
    """
    name = embedder.name if embedder else ""
    progress = Progress()
    try:
        if everything:
            await index_words(db, progress)
        stores = await reindexing.stores(db, name, also_its_own=everything)
        done = 0
        for store in stores:
            done += await _reindex_store(db, store, embedder, progress)
    except BaseException:
        progress.break_off()
        raise
    return Reindexed(len(stores), done, name)


async def index_words(db: Database, progress: Progress) -> None:
    """Make the index of words anew, from the chunks' texts."""
    progress.begin("words", await reindexing.count(db), unit="chunks")
    reached = await reindexing.begin_words(db)
    while batch := await reindexing.next_batch(db, reindexing.ALL_WORDS, reached):
        await reindexing.keep_words(db, batch)
        reached = batch.numbers[-1]
        progress.add(len(batch.numbers))
    await reindexing.end_words(db)
    progress.end()


async def _reindex_store(
    db: Database, store: reindexing.Store, embedder: Embedder | None, progress: Progress
) -> int:
    name = embedder.name if embedder else ""
    progress.begin(store.id, store.chunks, unit="chunks")
    reached = await reindexing.begin(db, store.id, name)
    done = 0
    reading = asyncio.create_task(reindexing.next_batch(db, store.id, reached))
    try:
        while batch := await reading:
            # The next ones are read while these are embedded.
            reading = asyncio.create_task(reindexing.next_batch(db, store.id, batch.numbers[-1]))
            vectors = await embedder.embed(batch.texts) if embedder else []
            await reindexing.keep_vectors(db, batch, vectors)
            done += len(batch.numbers)
            progress.add(len(batch.numbers))
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    await reindexing.end(db, store.id, name)
    progress.end()
    return done
