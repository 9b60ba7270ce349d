"""Threads at rest. The thread's row is the lock: `active_run_id` names the run that holds it."""

from collections.abc import Sequence

from rethread.errors import NotFound, Raced
from rethread.store.database import Database, Statement

ADD = """
INSERT INTO threads (id, project, active_run_id, created_at, fingerprint, body)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING id
"""
GET = "SELECT body FROM threads WHERE id = $1 AND project = $2"
REPLACE = """
UPDATE threads SET body = $4 WHERE id = $1 AND project = $2 AND body = $3 RETURNING id
"""
# The row alone makes the thread invisible; what hangs on it may be 100,000 rows, which are
# cleaned away in small writes afterwards.
DELETE = "DELETE FROM threads WHERE id = $1 AND project = $2 RETURNING active_run_id"
STOP_DRIVING = "DELETE FROM work WHERE thread_id = $1"
REMEMBER_TO_PURGE = "INSERT INTO purges (thread_id) VALUES ($1)"

TO_PURGE = "SELECT thread_id FROM purges LIMIT 1"
PURGED = "DELETE FROM purges WHERE thread_id = $1"
# differs: PostgreSQL has no rowid; there it is ctid.
PURGE = tuple(
    f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE thread_id = $1 LIMIT 500)"
    for table in ("messages", "steps", "events", "runs")
)
REMAINS = """
SELECT 1 WHERE EXISTS (SELECT 1 FROM messages WHERE thread_id = $1)
            OR EXISTS (SELECT 1 FROM steps WHERE thread_id = $1)
            OR EXISTS (SELECT 1 FROM events WHERE thread_id = $1)
            OR EXISTS (SELECT 1 FROM runs WHERE thread_id = $1)
"""


def adding(
    project: str,
    thread_id: str,
    body: bytes,
    *,
    now: int,
    active_run_id: str | None = None,
    fingerprint: bytes | None = None,
) -> Statement:
    """The statement that keeps a new thread, held by a run from the start or by none."""
    return Statement(ADD, thread_id, project, active_run_id, now, fingerprint, body)


async def get(db: Database, project: str, thread_id: str) -> bytes:
    """The thread's body, or NotFound."""
    rows = await db.read(GET, thread_id, project)
    if not rows:
        raise NotFound("thread", thread_id)
    return bytes(rows[0][0])


async def replace(
    db: Database,
    project: str,
    thread_id: str,
    *,
    old: bytes,
    new: bytes,
    also: Sequence[Statement] = (),
) -> None:
    """Put the new body in the old one's place; Raced if that is no longer there."""
    if not await db.write(Statement(REPLACE, thread_id, project, old, new), *also):
        raise Raced(f"Thread '{thread_id}' was modified at the same time.")


async def delete(db: Database, project: str, thread_id: str) -> str | None:
    """Delete it with all that hangs on it, or NotFound; the id of the run that held it."""
    deleted = await db.write(
        Statement(DELETE, thread_id, project),
        Statement(STOP_DRIVING, thread_id),
        Statement(REMEMBER_TO_PURGE, thread_id),
    )
    if not deleted:
        raise NotFound("thread", thread_id)
    run_id: str | None = deleted[0][0]
    return run_id


async def purge_some(db: Database) -> bool:
    """Clean away a few rows of deleted threads; True while there is more to do."""
    rows = await db.read(TO_PURGE)
    if not rows:
        return False
    thread_id = rows[0][0]
    await db.write(*(Statement(sql, thread_id) for sql in PURGE))
    if not await db.read(REMAINS, thread_id):
        await db.write(Statement(PURGED, thread_id))
    return True
