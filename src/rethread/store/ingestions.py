"""Which files are to be read, and who reads them: claim, release, and how it ended.

A file is in `ingestions` from the moment it is added until it is read, or cannot be, or is not
wanted any more. As with runs (`leases.py`), a claim raises the fence, lasts as long as its server
is alive, and the fence goes with every write: one who was replaced writes nothing any more.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from rethread.contract.vector_stores import ReadingError
from rethread.store.database import Database, Statement

ANY = "SELECT 1 FROM ingestions WHERE claimed = 0 LIMIT 1"
ANY_URGENT = "SELECT 1 FROM ingestions WHERE claimed = 0 AND urgent = 1 LIMIT 1"
# A number at once: a commit for each would cost more than many a file.
CLAIM = """
UPDATE ingestions SET claimed = 1, begun = 0, fence = fence + 1, server = $1
 WHERE number IN (SELECT number FROM ingestions WHERE claimed = 0 AND urgent >= $3
                   ORDER BY urgent DESC, number LIMIT $2 {skip_locked})
RETURNING file_number, fence, crashes, urgent
"""
BEGIN = """
UPDATE ingestions SET begun = 1 WHERE file_number = $1 AND fence = $2 RETURNING file_number
"""
# A check that takes the row, so that nobody purges the file's chunks while more are added.
HOLD = """
UPDATE ingestions SET fence = fence WHERE file_number = $1 AND fence = $2 RETURNING file_number
"""
FINISH = "DELETE FROM ingestions WHERE file_number = $1 AND fence = $2 RETURNING file_number"
RELEASE = """
UPDATE ingestions SET claimed = 0, crashes = crashes + $3 WHERE file_number = $1 AND fence = $2
"""
# Which of a server's files had begun is known of those alone that a crash has met before: to write
# it down for every file would cost too much. So their first crash counts for all that it had.
AFTER_CRASH: Final = """
claimed = 0, crashes = crashes + CASE WHEN crashes = 0 OR begun = 1 THEN 1 ELSE 0 END
"""
RELEASE_ALL = f"UPDATE ingestions SET {AFTER_CRASH} WHERE claimed = 1"
COUNT = "SELECT COUNT(*) FROM ingestions"
WANTED = """
SELECT vector_store_files.number, vector_store_files.store_id, vector_store_files.file_id,
       vector_store_files.filename, vector_store_files.max_chunk_tokens,
       vector_store_files.overlap_tokens, vector_stores.embedder, files.blob_id
  FROM {pairs_of}(CAST($1 AS {json})) AS read
  JOIN vector_store_files ON vector_store_files.number = CAST(read.key AS BIGINT)
  JOIN vector_stores ON vector_stores.id = vector_store_files.store_id
  LEFT JOIN files ON files.id = vector_store_files.file_id
 WHERE vector_store_files.status = 'in_progress'
"""
COMPLETE = """
UPDATE vector_store_files SET status = 'completed', usage_bytes = $2
 WHERE number = $1 AND status = 'in_progress' RETURNING number
"""
FAIL = """
UPDATE vector_store_files SET status = 'failed', last_error = $2
 WHERE number = $1 AND status = 'in_progress' RETURNING number
"""
PURGE = "INSERT INTO purged_files (file_number) VALUES ($1) ON CONFLICT DO NOTHING"
PURGE_UNWANTED = """
INSERT INTO purged_files (file_number)
SELECT CAST($1 AS BIGINT)
 WHERE NOT EXISTS (SELECT 1 FROM vector_store_files
                    WHERE number = $1 AND status IN ('in_progress', 'completed'))
ON CONFLICT DO NOTHING
"""

TOPIC = "ingestions"


class Reading(NamedTuple):
    """The right to read a file until somebody has a higher fence.

    `crashes` counts those who had begun and did not come to give it back.
    """

    file_number: int
    fence: int
    crashes: int = 0
    is_urgent: bool = False


class Wanted(NamedTuple):
    """A file that is to be read; `blob` is None if it was deleted."""

    store_id: str
    file_id: str
    filename: str
    max_chunk_tokens: int
    overlap_tokens: int
    embedder: str
    blob: str | None


async def claim(
    db: Database, *, server: str, most: int, urgent_only: bool = False
) -> list[Reading]:
    """Some of the files whose turn it is."""
    if not await db.read(ANY_URGENT if urgent_only else ANY):
        return []
    rows = await db.write(Statement(CLAIM, server, most, int(urgent_only)))
    return [
        Reading(file_number, fence, crashes, bool(urgent))
        for file_number, fence, crashes, urgent in sorted(rows)
    ]


async def begin(db: Database, reading: Reading) -> bool:
    """Have a crash count from now on, if one has met the file before; False if it is not ours."""
    if reading.crashes == 0:
        return True
    return bool(await db.write(Statement(BEGIN, reading.file_number, reading.fence)))


async def wanted(db: Database, readings: Iterable[Reading]) -> dict[int, Wanted]:
    """What is to be read, by the files' numbers; without what nobody wants any more."""
    numbers = {str(reading.file_number): "" for reading in readings}
    rows = await db.read(WANTED, msgspec.json.encode(numbers).decode())
    return {number: Wanted(*columns) for number, *columns in rows}


def holding(reading: Reading) -> Statement:
    """The check that the reader was not replaced, and the file is still wanted."""
    return Statement(HOLD, reading.file_number, reading.fence)


async def complete(
    db: Database, reading: Reading, *, usage_bytes: int, also: Sequence[Statement]
) -> bool:
    """Have the file searched from now on, along with its last chunks; False if it is not ours."""
    return bool(
        await db.write(
            Statement(FINISH, reading.file_number, reading.fence),
            Statement(COMPLETE, reading.file_number, usage_bytes),
            *also,
        )
    )


async def fail(db: Database, reading: Reading, error: ReadingError) -> bool:
    """Have it known why the file cannot be read; False if it is not ours."""
    return bool(
        await db.write(
            Statement(FINISH, reading.file_number, reading.fence),
            Statement(FAIL, reading.file_number, msgspec.json.encode(error)),
            Statement(PURGE, reading.file_number),
        )
    )


async def drop(db: Database, reading: Reading) -> None:
    """Forget about a file that nobody wants, and about what was read of it."""
    await db.write(
        Statement(FINISH, reading.file_number, reading.fence),
        Statement(PURGE_UNWANTED, reading.file_number),
    )


async def release(db: Database, reading: Reading, *, after_crash: bool = False) -> None:
    """Give a file back unread: the next claim takes it up."""
    await db.write(Statement(RELEASE, reading.file_number, reading.fence, int(after_crash)))


async def release_all(db: Database) -> int:
    """Take every claim back; for the start of an only server. How many files wait now."""
    await db.write(Statement(RELEASE_ALL))
    return int((await db.read(COUNT))[0][0])
