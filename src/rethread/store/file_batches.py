"""Batches of files at rest. What became of a batch is what became of its files, counted."""

from collections.abc import Iterable
from typing import Final

import msgspec

from rethread.contract.vector_stores import FileBatch, batch_status
from rethread.errors import NotFound
from rethread.store import vector_stores
from rethread.store.database import Database, Statement
from rethread.store.vector_stores import content_of

ADD = "INSERT INTO file_batches (id, store_id, created_at) VALUES ($1, $2, $3)"
ADD_FILES = """
INSERT INTO batched_files (batch_id, file_id, store_id)
SELECT CAST($1 AS TEXT), added.key, CAST($2 AS TEXT)
  FROM {pairs_of}(CAST($3 AS {json})) AS added
"""
GET = "SELECT created_at, cancelled FROM file_batches WHERE id = $1 AND store_id = $2"
FILES: Final = """
  FROM batched_files
  JOIN vector_store_files ON vector_store_files.store_id = batched_files.store_id
                         AND vector_store_files.file_id = batched_files.file_id
 WHERE batched_files.batch_id = $1
"""
COUNTS = f"""
SELECT status, COUNT(*), CAST(SUM(usage_bytes) AS BIGINT) {FILES} GROUP BY status
"""
UNREAD: Final = f"(SELECT vector_store_files.number {FILES} AND status = 'in_progress')"
# Who adds files takes the same lock: none comes or is begun anew between the statements.
LOCK_STORE = """
SELECT id FROM vector_stores
 WHERE id = (SELECT store_id FROM file_batches WHERE id = $1) {row_lock}
"""
CANCEL = f"""
UPDATE file_batches SET cancelled = 1 WHERE id = $1 AND EXISTS {UNREAD} RETURNING id
"""
# Its reading is stopped first: what a reader has under way is refused from then on.
STOP_READING = f"DELETE FROM ingestions WHERE file_number IN {UNREAD}"
PURGE_UNREAD = f"""
INSERT INTO purged_files (file_number) SELECT number FROM vector_store_files
 WHERE number IN {UNREAD} ON CONFLICT DO NOTHING
"""
CANCEL_FILES = f"UPDATE vector_store_files SET status = 'cancelled' WHERE number IN {UNREAD}"


def adding(batch: FileBatch, file_ids: Iterable[str]) -> list[Statement]:
    """The statements that remember which files came together."""
    names = msgspec.json.encode(dict.fromkeys(file_ids, "")).decode()
    return [
        Statement(ADD, batch.id, batch.vector_store_id, batch.created_at),
        Statement(ADD_FILES, batch.id, batch.vector_store_id, names),
    ]


async def get(db: Database, project: str, store_id: str, batch_id: str) -> FileBatch:
    """The batch as clients see it, or NotFound."""
    await vector_stores.get(db, project, store_id)
    rows = await db.read(GET, batch_id, store_id)
    if not rows:
        raise NotFound("vector store file batch", batch_id)
    created_at, is_cancelled = rows[0]
    counts = content_of(await db.read(COUNTS, batch_id)).counts
    return FileBatch(
        id=batch_id,
        created_at=created_at,
        vector_store_id=store_id,
        status=batch_status(counts, is_cancelled=bool(is_cancelled)),
        file_counts=counts,
    )


async def cancel(db: Database, batch_id: str) -> None:
    """Have no more of its files read; one that is at rest stays as it is."""
    await db.write(
        Statement(LOCK_STORE, batch_id),
        Statement(CANCEL, batch_id),
        Statement(STOP_READING, batch_id),
        Statement(PURGE_UNREAD, batch_id),
        Statement(CANCEL_FILES, batch_id),
    )
