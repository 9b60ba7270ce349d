"""What the code of a thread has made: paths under /mnt/data, and the files that have their bytes.

A session that is made anew gets them back. The files are the client's: they stay when the thread
goes, and a path whose file was deleted is passed over by whoever reads it.
"""

from collections.abc import Iterable, Sequence

import msgspec

from rethread.store.database import Database, Statement

OF_THREAD = "SELECT path, file_id FROM code_files WHERE thread_id = $1 ORDER BY path"
# A thread that is being deleted gets no row that nobody would clean away.
LOCK_THREAD = "SELECT id FROM threads WHERE id = $1 {share_lock}"
KEEP = """
INSERT INTO code_files (thread_id, path, file_id)
SELECT threads.id, CAST($2 AS TEXT), CAST($3 AS TEXT) FROM threads WHERE threads.id = $1
ON CONFLICT (thread_id, path) DO UPDATE SET file_id = excluded.file_id
"""
FORGET = """
DELETE FROM code_files
 WHERE thread_id = $1 AND path IN (SELECT key FROM {pairs_of}(CAST($2 AS {json})) AS gone)
"""


async def of_thread(db: Database, thread_id: str) -> dict[str, str]:
    """The files by their paths."""
    return dict(await db.read(OF_THREAD, thread_id))


def keeping(thread_id: str, path: str, file_id: str) -> list[Statement]:
    """The statements that note which file a path has now."""
    return [Statement(LOCK_THREAD, thread_id), Statement(KEEP, thread_id, path, file_id)]


async def forget(
    db: Database, thread_id: str, paths: Iterable[str], *, also: Sequence[Statement] = ()
) -> None:
    """Note that there is nothing of the code's at these paths any more."""
    gone = msgspec.json.encode(dict.fromkeys(paths, "")).decode()
    await db.write(Statement(FORGET, thread_id, gone), *also)
