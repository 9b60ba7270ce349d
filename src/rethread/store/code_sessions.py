"""Which server has the session of a thread, in which its code runs.

A session lives in one process. Its row says where, and outlives it: a server that has gone has
no sessions, and whoever makes one anew sees by the row that there was one before.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from rethread.store.database import Database, Statement
from rethread.store.servers import IS_STAYING

NO_SERVER: Final = ""

HOLDER = f"""
SELECT servers.id
  FROM code_sessions JOIN servers ON servers.id = code_sessions.server
 WHERE code_sessions.thread_id = $1 AND {IS_STAYING}
"""

FIND = "SELECT id FROM code_sessions WHERE thread_id = $1"
# A thread that is being deleted gets no row that nobody would clean away.
LOCK_THREAD = "SELECT id FROM threads WHERE id = $1 {share_lock}"
BEGIN = """
INSERT INTO code_sessions (thread_id, id, server, used_at)
SELECT threads.id, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT)
  FROM threads WHERE threads.id = $1
ON CONFLICT (thread_id) DO UPDATE
   SET id = excluded.id, server = excluded.server, used_at = excluded.used_at
"""
TOUCH = "UPDATE code_sessions SET used_at = $3 WHERE thread_id = $1 AND id = $2"
# A check, as a fence is: a server that was silent for too long may come back with what code has
# made in a session that the thread has no more.
HOLD = "UPDATE code_sessions SET used_at = used_at WHERE thread_id = $1 AND id = $2 RETURNING id"
END = "UPDATE code_sessions SET id = '', server = '' WHERE thread_id = $1 AND id = $2"
END_ALL = "UPDATE code_sessions SET id = '', server = '' WHERE server = $1"
CURRENT = """
SELECT thread_id, id FROM code_sessions
 WHERE thread_id IN (SELECT key FROM {pairs_of}(CAST($1 AS {json})) AS asked)
"""


async def begin(db: Database, thread_id: str, session_id: str, *, server: str) -> bool:
    """Have the thread's session here, and nowhere else; whether there was one before."""
    was_there = bool(await db.read(FIND, thread_id))
    now = int(db.now())
    await db.write(
        Statement(LOCK_THREAD, thread_id), Statement(BEGIN, thread_id, session_id, server, now)
    )
    return was_there


async def current(db: Database, thread_ids: Iterable[str]) -> dict[str, str]:
    """The ids of the threads' sessions; none where the thread has gone, '' where its is over."""
    asked = msgspec.json.encode(dict.fromkeys(thread_ids, "")).decode()
    return dict(await db.read(CURRENT, asked))


async def touch(db: Database, thread_id: str, session_id: str) -> None:
    """Note that the session is in use."""
    await db.write(Statement(TOUCH, thread_id, session_id, int(db.now())))


def holding(thread_id: str, session_id: str) -> Statement:
    """The check that the thread has this session, and no newer one until the write is done."""
    return Statement(HOLD, thread_id, session_id)


async def end(db: Database, thread_id: str, session_id: str) -> None:
    """Note that the session is over, unless there is another one by now."""
    await db.write(Statement(END, thread_id, session_id))


async def end_all(db: Database, server: str) -> None:
    """The same of all that a server had."""
    await db.write(Statement(END_ALL, server))


async def holder(db: Database, thread_id: str) -> str:
    """The server that has the thread's session and stays, or NO_SERVER."""
    rows = await db.read(HOLDER, thread_id)
    return rows[0][0] if rows else NO_SERVER
