"""Threads at rest. The thread's row is the lock: `active_run_id` names the run that holds it.

A thread's metadata also stands in `thread_metadata`, for lists that are filtered by it: who
writes a thread's body writes `labelling` along.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from rethread.errors import NotFound, Raced
from rethread.store import search
from rethread.store.database import Database, Statement
from rethread.store.pages import Found, Listing, PageRequest, bury, read_page

COUNTED_PAIRS: Final = 1000  # of a pair of metadata, to know which is the rarest

ADD = """
INSERT INTO threads (id, project, active_run_id, created_at, body)
VALUES ($1, $2, $3, $4, $5) RETURNING id
"""
GET = "SELECT body FROM threads WHERE id = $1 AND project = $2"
OF_RUN = "SELECT project, body FROM threads WHERE id = $1"
REPLACE = """
UPDATE threads SET body = $4 WHERE id = $1 AND project = $2 AND body = $3 RETURNING id
"""
# The row alone makes the thread invisible; what hangs on it may be 100,000 rows, which are
# cleaned away in small writes afterwards.
DELETE = "DELETE FROM threads WHERE id = $1 AND project = $2 RETURNING active_run_id"
STOP_DRIVING = "DELETE FROM work WHERE thread_id = $1"
END_SESSION = "DELETE FROM code_sessions WHERE thread_id = $1"
UNLABEL = "DELETE FROM thread_metadata WHERE thread_id = $1"
REMEMBER_TO_PURGE = "INSERT INTO purges (thread_id) VALUES ($1)"
NUMBER = "SELECT number FROM threads WHERE project = $1 AND id = $2"

LABEL = """
INSERT INTO thread_metadata (thread_id, key, value, project, number)
SELECT id, CAST($2 AS TEXT), CAST($3 AS TEXT), project, number FROM threads WHERE id = $1
ON CONFLICT DO NOTHING
"""
# Only the beginning of a value is in the index. With a bare `value = $3`, SQLite would put $3
# in the place of the value everywhere, and not know the index's term any more.
LABELLED = """
  FROM thread_metadata AS pairs
 WHERE project = $1 AND key = $2
   AND substr(value, 1, 100) = substr(CAST($3 AS TEXT), 1, 100)
   AND CAST(value AS TEXT) = $3
"""
COUNT = f"SELECT COUNT(*) FROM (SELECT 1 {LABELLED} LIMIT {COUNTED_PAIRS}) AS counted"
ALSO_LABELLED = """
   AND EXISTS (SELECT 1 FROM thread_metadata AS another
                WHERE another.thread_id = pairs.thread_id
                  AND another.key = ${key} AND another.value = ${value})
"""
LISTING = Listing(
    noun="thread",
    prefix="thread",
    select="SELECT id, body FROM threads WHERE project = $1",
    number=NUMBER,
    is_cursor_filtered=False,
)

TO_PURGE = "SELECT thread_id FROM purges LIMIT 1"
PURGED = "DELETE FROM purges WHERE thread_id = $1"
PURGE = tuple(
    f"DELETE FROM {table} WHERE thread_id = $1 AND ({key}) IN "
    f"(SELECT {key} FROM {table} WHERE thread_id = $1 LIMIT 500)"
    for table, key in (
        ("messages", "number"),
        ("steps", "run_id, number"),
        ("events", "run_id, first"),
        ("runs", "number"),
        ("code_files", "path"),
    )
)
REMAINS = """
SELECT 1 WHERE EXISTS (SELECT 1 FROM messages WHERE thread_id = $1)
            OR EXISTS (SELECT 1 FROM steps WHERE thread_id = $1)
            OR EXISTS (SELECT 1 FROM events WHERE thread_id = $1)
            OR EXISTS (SELECT 1 FROM runs WHERE thread_id = $1)
            OR EXISTS (SELECT 1 FROM message_texts WHERE thread_id = $1)
            OR EXISTS (SELECT 1 FROM code_files WHERE thread_id = $1)
"""


def adding(
    project: str,
    thread_id: str,
    body: bytes,
    *,
    now: int,
    active_run_id: str | None = None,
) -> Statement:
    """The statement that keeps a new thread, held by a run from the start or by none."""
    return Statement(ADD, thread_id, project, active_run_id, now, body)


def labelling(
    thread_id: str, metadata: Mapping[str, str], *, anew: bool = False
) -> list[Statement]:
    """The statements that keep a thread's metadata for lists; `anew` in the place of earlier."""
    pairs = (Statement(LABEL, thread_id, *_kept(key, value)) for key, value in metadata.items())
    return [*([Statement(UNLABEL, thread_id)] if anew else []), *pairs]


async def page(
    db: Database, project: str, asked: PageRequest, *, metadata: Mapping[str, str] | None = None
) -> Found:
    """A page of the project's threads, or of those that have all these pairs of metadata."""
    if not metadata:
        return await read_page(db, LISTING, asked, project)
    pairs = [_kept(*pair) for pair in metadata.items()]
    if len(pairs) > 1:  # the rarest is followed, and the others are looked up
        counts = [(await db.read(COUNT, project, *pair))[0][0] for pair in pairs]
        pairs = [pair for _, pair in sorted(zip(counts, pairs, strict=True))]
    listing = LISTING._replace(select=_labelled(len(pairs)))
    return await read_page(db, listing, asked, project, *(text for pair in pairs for text in pair))


async def get(db: Database, project: str, thread_id: str) -> bytes:
    """The thread's body, or NotFound."""
    rows = await db.read(GET, thread_id, project)
    if not rows:
        raise NotFound("thread", thread_id)
    return bytes(rows[0][0])


async def of_run(db: Database, thread_id: str) -> tuple[str, bytes] | None:
    """A thread's project and body, for whoever drives its run."""
    rows = await db.read(OF_RUN, thread_id)
    return (rows[0][0], bytes(rows[0][1])) if rows else None


def replacing(project: str, thread_id: str, *, old: bytes, new: bytes) -> Statement:
    """The check that puts the new body in the old one's place."""
    return Statement(REPLACE, thread_id, project, old, new)


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
    if not await db.write(replacing(project, thread_id, old=old, new=new), *also):
        raise Raced(f"Thread '{thread_id}' was modified at the same time.")


async def delete(db: Database, project: str, thread_id: str) -> str | None:
    """Delete it with all that hangs on it, or NotFound; the id of the run that held it."""
    rows = await db.read(NUMBER, project, thread_id)
    if not rows:
        raise NotFound("thread", thread_id)
    deleted = await db.write(
        Statement(DELETE, thread_id, project),
        Statement(STOP_DRIVING, thread_id),
        Statement(END_SESSION, thread_id),
        Statement(UNLABEL, thread_id),
        Statement(REMEMBER_TO_PURGE, thread_id),
        bury(project, thread_id, rows[0][0], now=int(db.now())),
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
    await search.forget_some(db, thread_id)
    await db.write(*(Statement(sql, thread_id) for sql in PURGE))
    if not await db.read(REMAINS, thread_id):
        await db.write(Statement(PURGED, thread_id))
    return True


def _labelled(pairs: int) -> str:
    """SQL for the threads that have so many pairs: $2 and $3 are the first."""
    others = "".join(
        ALSO_LABELLED.format(key=place, value=place + 1) for place in range(4, 2 * pairs + 2, 2)
    )
    body = "(SELECT body FROM threads WHERE threads.id = pairs.thread_id)"
    return f"SELECT thread_id, {body} {LABELLED} {others}"


def _kept(key: str, value: str) -> tuple[str, str]:
    """A pair as it is kept: PostgreSQL's text has no place for a NUL."""
    return key.replace("\0", "\ufffd"), value.replace("\0", "\ufffd")
