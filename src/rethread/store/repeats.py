"""Finds what another process made for a request whose answer was lost with it, or on its way.

Rows remember the fingerprint of the request that made them, and the process. Only asked for a
request that says it is a retry, and only within a thread: the same words there, by a process
that cannot be asked, with nothing behind them since, are what the retry repeats. Threads and
assistants are never found so: two users may well begin with the same words.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from rethread.store.database import Database

WITHIN_SECONDS: Final = 120
FINGERPRINT_BYTES: Final = 16  # the rest of what a row has names the process

MESSAGE = """
SELECT id, thread_id, body, fingerprint FROM messages
 WHERE thread_id = $1 AND created_at >= $2
   AND EXISTS (SELECT 1 FROM threads WHERE id = $1 AND project = $3)
 ORDER BY number DESC LIMIT 1
"""
# A message that a client has added since shows that it knew of the run.
RUN = """
SELECT id, thread_id, body, fingerprint FROM runs
 WHERE thread_id = $1 AND created_at >= $2
   AND EXISTS (SELECT 1 FROM threads WHERE id = $1 AND project = $3)
   AND NOT EXISTS (SELECT 1 FROM messages
                    WHERE messages.thread_id = $1 AND messages.fingerprint IS NOT NULL
                      AND messages.created_at > runs.created_at)
 ORDER BY number DESC LIMIT 1
"""
HOLDS = "SELECT 1 FROM threads WHERE id = $1 AND active_run_id = $2"

NEWEST: Final[Mapping[str, str]] = {
    "/threads/{thread_id}/messages": MESSAGE,
    "/threads/{thread_id}/runs": RUN,
}


class Repeat(NamedTuple):
    """What was made; `run_id` is there if it was a run."""

    body: bytes
    thread_id: str
    run_id: str | None


async def find(
    db: Database, project: str, path: str, thread_id: str, mark: bytes, *, now: int
) -> Repeat | None:
    """What the same request made in another process, or None.

    `mark` is the request's fingerprint with the name of the process behind it.
    """
    if path not in NEWEST:
        return None
    rows = await db.read(NEWEST[path], thread_id, now - WITHIN_SECONDS, project)
    if not rows:
        return None
    id, thread, body, found = rows[0]
    if found is None or found == mark or found[:FINGERPRINT_BYTES] != mark[:FINGERPRINT_BYTES]:
        return None
    return Repeat(bytes(body), thread, id if id.startswith("run_") else None)


async def holds_thread(db: Database, run_id: str, path_params: Mapping[str, str]) -> bool:
    """Whether the run still holds the thread of a path."""
    return bool(await db.read(HOLDS, path_params.get("thread_id", ""), run_id))
