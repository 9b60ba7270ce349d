"""Finds what an earlier process made for a request whose answer may have been lost with it.

Rows remember the fingerprint of the request that made them. Only asked in the first minutes
after a start, for a request that says it is a retry; so a look at the newest rows will do.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from rethread.store.database import Database

WITHIN_SECONDS: Final = 120

IN_THREAD = """
SELECT id, thread_id, body FROM (
    SELECT {table}.id, thread_id, {table}.body, {table}.fingerprint AS print,
           {table}.created_at AS made
      FROM {table} JOIN threads ON threads.id = {table}.thread_id
     WHERE thread_id = $1 AND threads.project = $2 ORDER BY {table}.number DESC LIMIT 200) AS newest
 WHERE print = $3 AND made >= $4 AND made <= $5 LIMIT 1
"""
IN_PROJECT = """
SELECT id, id, body FROM (
    SELECT id, body, fingerprint, created_at FROM {table} WHERE project = $1
     ORDER BY number DESC LIMIT 1000) AS newest
 WHERE fingerprint = $2 AND created_at >= $3 AND created_at <= $4 LIMIT 1
"""
RUN_OF_THREAD = "SELECT id, thread_id, body FROM runs WHERE thread_id = $1 ORDER BY number LIMIT 1"
HOLDS = "SELECT 1 FROM threads WHERE id = $1 AND active_run_id = $2"


class Repeat(NamedTuple):
    """What was made; `run_id` is there if it was a run."""

    body: bytes
    thread_id: str
    run_id: str | None


async def find(
    db: Database,
    project: str,
    path: str,
    thread_id: str,
    fingerprint: bytes,
    *,
    since: int,
    before: int,
) -> Repeat | None:
    """What the same request made between two times, or None."""
    times = (since, before)
    match path:
        case "/threads/{thread_id}/messages":
            sql = IN_THREAD.format(table="messages")
            rows = await db.read(sql, thread_id, project, fingerprint, *times)
        case "/threads/{thread_id}/runs":
            sql = IN_THREAD.format(table="runs")
            rows = await db.read(sql, thread_id, project, fingerprint, *times)
        case "/assistants":
            sql = IN_PROJECT.format(table="assistants")
            rows = await db.read(sql, project, fingerprint, *times)
        case "/threads" | "/threads/runs":
            sql = IN_PROJECT.format(table="threads")
            rows = await db.read(sql, project, fingerprint, *times)
            if rows and path == "/threads/runs":
                rows = await db.read(RUN_OF_THREAD, rows[0][0])
        case _:
            rows = []
    if not rows:
        return None
    id, thread, body = rows[0]
    return Repeat(bytes(body), thread, id if id.startswith("run_") else None)


async def holds_thread(db: Database, run_id: str, path_params: Mapping[str, str]) -> bool:
    """Whether the run still holds the thread of a path."""
    return bool(await db.read(HOLDS, path_params.get("thread_id", ""), run_id))
