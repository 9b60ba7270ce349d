"""Which server has the session of a thread, in which its code runs.

A session lives in one process. Its row says where, and outlives it: a server that has gone has
no sessions, and whoever makes one anew sees by the row that there was one before.
"""

from typing import Final

from rethread.store.database import Database
from rethread.store.servers import IS_STAYING

NO_SERVER: Final = ""

HOLDER = f"""
SELECT servers.id
  FROM code_sessions JOIN servers ON servers.id = code_sessions.server
 WHERE code_sessions.thread_id = $1 AND {IS_STAYING}
"""


async def holder(db: Database, thread_id: str) -> str:
    """The server that has the thread's session and stays, or NO_SERVER."""
    rows = await db.read(HOLDER, thread_id)
    return rows[0][0] if rows else NO_SERVER
