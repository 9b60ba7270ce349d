"""Vector stores with files in them, written past ingestion: what the search benchmarks look at."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from rethread.contract.vector_stores import StoreBody
from rethread.store import chunks, vector_stores
from rethread.store.chunks import IndexedChunk
from rethread.store.database import Database, Statement

PROJECT: Final = "default"
ADD_FILE: Final = """
INSERT INTO vector_store_files (store_id, file_id, status, created_at, filename,
                                max_chunk_tokens, overlap_tokens, attributes)
VALUES ($1, $2, 'completed', 0, $3, 800, 400, $4) RETURNING number
"""


async def new_store(db: Database, store_id: str, *, embedder: str) -> None:
    """An empty store."""
    stored = vector_stores.new(
        PROJECT, store_id, StoreBody(), days=None, embedder=embedder, now=int(time.time())
    )
    await db.write(vector_stores.adding(stored))


async def add_file(db: Database, store_id: str, name: str, pieces: Sequence[IndexedChunk]) -> int:
    """A file with these chunks; its number."""
    rows = await db.write(Statement(ADD_FILE, store_id, f"file-{name}", name, b"{}"))
    number: int = rows[0][0]
    statements = await asyncio.to_thread(chunks.adding, db, store_id, number, 0, pieces)
    await db.write(*statements)
    return number
