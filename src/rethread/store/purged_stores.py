"""Cleans away, in small writes, what was in vector stores that were deleted or have expired.

Of one that has expired its files stay, to be seen and to be added to another; what was read of
them goes. Their chunks go by their files' numbers (`chunks.py`).
"""

from typing import Final

from rethread.store.database import Database, Statement
from rethread.store.vector_store_files import ingested_topic

AT_ONCE: Final = 200

TO_PURGE = """
SELECT store_id,
       CASE WHEN EXISTS (SELECT 1 FROM vector_stores WHERE id = purged_stores.store_id)
            THEN 1 ELSE 0 END
  FROM purged_stores LIMIT 1
"""
PURGED = "DELETE FROM purged_stores WHERE store_id = $1"

OF_STORE: Final = "FROM vector_store_files WHERE store_id = $1"
SOME: Final = f"SELECT number {OF_STORE} ORDER BY number LIMIT {AT_ONCE}"
UNREAD: Final = f"""
SELECT number {OF_STORE} AND status = 'in_progress' ORDER BY number LIMIT {AT_ONCE}
"""
READ: Final = f"""
SELECT number {OF_STORE} AND status = 'completed' AND usage_bytes > 0
 ORDER BY number LIMIT {AT_ONCE}
"""
PURGE = "INSERT INTO purged_files (file_number) %s ON CONFLICT DO NOTHING"
UNLABEL = f"DELETE FROM file_attributes WHERE file_number IN ({SOME})"
# Another server may have been quicker: then these are others than those of the statement before,
# which is asked what of them is remembered.
REMEMBERED: Final = "EXISTS (SELECT 1 FROM purged_files WHERE file_number = number)"
DELETE = f"DELETE FROM vector_store_files WHERE number IN ({SOME}) AND {REMEMBERED}"
CANCEL = f"""
UPDATE vector_store_files SET status = 'cancelled' WHERE number IN ({UNREAD}) AND {REMEMBERED}
"""
EMPTY = f"UPDATE vector_store_files SET usage_bytes = 0 WHERE number IN ({READ}) AND {REMEMBERED}"
LEFT = f"SELECT 1 {OF_STORE} LIMIT 1"
LEFT_TO_EMPTY = f"SELECT * FROM ({UNREAD}) AS unread UNION ALL SELECT * FROM ({READ}) AS read"
DELETE_BATCHED = f"""
DELETE FROM batched_files WHERE (batch_id, file_id) IN
       (SELECT batch_id, file_id FROM batched_files WHERE store_id = $1 LIMIT {AT_ONCE})
"""
LEFT_BATCHED = "SELECT 1 FROM batched_files WHERE store_id = $1 LIMIT 1"
DELETE_BATCHES = "DELETE FROM file_batches WHERE store_id = $1"


async def purge_some(db: Database) -> bool:
    """Clean away some rows of a store; True while there is more to do."""
    stores = await db.read(TO_PURGE)
    if not stores:
        return False
    store_id, is_there = stores[0]
    if is_there:
        is_done = await _empty_some(db, store_id)
    else:
        is_done = await _delete_some(db, store_id)
    if is_done:
        await db.write(Statement(PURGED, store_id))
    return True


async def _delete_some(db: Database, store_id: str) -> bool:
    """Whether nothing is left of a store that was deleted."""
    if await db.read(LEFT, store_id):
        await db.write(
            Statement(PURGE % SOME, store_id),
            Statement(UNLABEL, store_id),
            Statement(DELETE, store_id),
        )
        return False
    await db.write(Statement(DELETE_BATCHED, store_id))
    if await db.read(LEFT_BATCHED, store_id):
        return False
    await db.write(Statement(DELETE_BATCHES, store_id))
    return True


async def _empty_some(db: Database, store_id: str) -> bool:
    """Whether nothing is left that was read for a store, whose time is over."""
    if not await db.read(LEFT_TO_EMPTY, store_id):
        return True
    await db.write(
        Statement(PURGE % UNREAD, store_id),
        Statement(CANCEL, store_id),
        Statement(PURGE % READ, store_id),
        Statement(EMPTY, store_id),
    )
    db.notify(ingested_topic(store_id))
    return False
