"""Messages at rest, numbered within their thread."""

from collections.abc import Sequence

from rethread.contract.messages import Message
from rethread.contract.threads import MESSAGES_LIMIT
from rethread.errors import Conflict, NotFound, Raced, ThreadLocked
from rethread.store import search
from rethread.store.database import Database, Statement
from rethread.store.pages import Found, Listing, PageRequest, bury, read_page

# The thread's row is the lock. A plain NOT EXISTS (…runs…) would let PostgreSQL start a run
# between the check and the insert; and a number that is read before the lock is had, in the
# same statement, may be another's by then: a statement sees what was there when it began.
HOLD = "SELECT id FROM threads WHERE id = $1 {row_lock}"
# The exact count is asked for only once the numbers have passed the limit (some may be gone).
ADD = f"""
INSERT INTO messages (thread_id, number, id, run_id, created_at, fingerprint, body)
SELECT free.id, CASE WHEN free.top > free.buried THEN free.top ELSE free.buried END + 1,
       $3, NULL, $4, $5, $6
  FROM (SELECT id, buried,
               (SELECT COALESCE(MAX(number), 0) FROM messages WHERE thread_id = $1) AS top
          FROM threads WHERE id = $1 AND project = $2 AND active_run_id IS NULL) AS free
 WHERE free.top < {MESSAGES_LIMIT}
    OR (SELECT COUNT(*) FROM messages WHERE thread_id = $1) < {MESSAGES_LIMIT}
RETURNING number
"""
# For those who hold the thread: its own run, or whoever has just made it.
APPEND = """
INSERT INTO messages (thread_id, number, id, run_id, created_at, body)
SELECT $1, CASE WHEN held.top > held.buried THEN held.top ELSE held.buried END + 1,
       $2, $3, $4, $5
  FROM (SELECT buried,
               (SELECT COALESCE(MAX(number), 0) FROM messages WHERE thread_id = $1) AS top
          FROM threads WHERE id = $1) AS held
"""
GET = """
SELECT body FROM messages
 WHERE thread_id = $1 AND id = $2
   AND EXISTS (SELECT 1 FROM threads WHERE id = $1 AND project = $3)
"""
OF_THREAD = "SELECT body FROM messages WHERE thread_id = $1 AND id = $2"
NUMBER = "SELECT number FROM messages WHERE thread_id = $1 AND id = $2"
REPLACE = (
    "UPDATE messages SET body = $4 WHERE thread_id = $1 AND id = $2 AND body = $3 RETURNING id"
)
FINISH = "UPDATE messages SET body = $3 WHERE thread_id = $1 AND id = $2"
DELETE = "DELETE FROM messages WHERE thread_id = $1 AND id = $2 RETURNING number"
# Cursors and steps hold on to numbers, so that of the newest message must not come again.
BURIED = "UPDATE threads SET buried = $2 WHERE id = $1 AND buried < $2"
THREAD = "SELECT active_run_id FROM threads WHERE id = $1 AND project = $2"
TOP = "SELECT COALESCE(MAX(number), 0) FROM messages WHERE thread_id = $1"
COUNT = "SELECT COUNT(*) FROM messages WHERE thread_id = $1"
ANY = "SELECT 1 FROM messages WHERE thread_id = $1 LIMIT 1"
OLDEST = "SELECT body FROM messages WHERE thread_id = $1 ORDER BY number LIMIT 1"
OLDER = """
SELECT number, body FROM messages WHERE thread_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3
"""

LISTING = Listing(
    noun="message",
    prefix="msg",
    select="SELECT id, body FROM messages WHERE thread_id = $1",
    number=NUMBER,
)
LISTING_OF_RUN = LISTING._replace(
    select="SELECT id, body FROM messages WHERE thread_id = $1 AND run_id = $2",
    number=f"{NUMBER} AND run_id = $3",
)


async def add(
    db: Database,
    project: str,
    message: Message,
    body: bytes,
    *,
    fingerprint: bytes | None = None,
    also: Sequence[Statement] = (),
) -> None:
    """Append to a thread: NotFound without it, ThreadLocked while a run holds it."""
    insertion = Statement(
        ADD, message.thread_id, project, message.id, message.created_at, fingerprint, body
    )
    queuing = search.queuing(message.thread_id, message.id)
    if not await db.write(Statement(HOLD, message.thread_id), insertion, queuing, *also):
        raise await refusal(db, project, message.thread_id)


def appending(message: Message, body: bytes) -> list[Statement]:
    """The statements that append to a thread which the caller holds."""
    place = message.thread_id, message.id
    append = Statement(APPEND, *place, message.run_id, message.created_at, body)
    if message.status == "in_progress":
        return [append]
    return [append, search.queuing(*place)]


def finishing(message: Message, body: bytes) -> list[Statement]:
    """The statements that put a run's message in its final state."""
    place = message.thread_id, message.id
    return [Statement(FINISH, *place, body), search.queuing(*place)]


async def refusal(db: Database, project: str, thread_id: str) -> Exception:
    """Why a message could not be added."""
    rows = await db.read(THREAD, thread_id, project)
    if not rows:
        return NotFound("thread", thread_id)
    if run_id := rows[0][0]:
        return ThreadLocked(
            f"Can't add messages to {thread_id} while a run {run_id} is active.", run_id=run_id
        )
    if (await db.read(COUNT, thread_id))[0][0] >= MESSAGES_LIMIT:
        return _full(thread_id)
    return Raced(f"Thread '{thread_id}' was busy and is free again.")


async def check_room(db: Database, thread_id: str, *, added: int) -> None:
    """Conflict where a thread cannot take that many messages more."""
    top = (await db.read(TOP, thread_id))[0][0]
    if top + added <= MESSAGES_LIMIT:
        return  # some numbers may be of messages that are gone, but it fits even so
    if (await db.read(COUNT, thread_id))[0][0] + added > MESSAGES_LIMIT:
        raise _full(thread_id)


async def get(db: Database, project: str, thread_id: str, message_id: str) -> bytes:
    """The message's body, or NotFound."""
    rows = await db.read(GET, thread_id, message_id, project)
    if not rows:
        raise await _missing(db, project, thread_id, message_id)
    return bytes(rows[0][0])


async def of_thread(db: Database, thread_id: str, message_id: str) -> bytes | None:
    """A message's body, for whoever drives the thread's run."""
    rows = await db.read(OF_THREAD, thread_id, message_id)
    return bytes(rows[0][0]) if rows else None


async def page(
    db: Database, project: str, thread_id: str, asked: PageRequest, *, run_id: str | None = None
) -> Found:
    """A page of the thread's messages, or of those that one run wrote."""
    if not await db.read(THREAD, thread_id, project):
        raise NotFound("thread", thread_id)
    if run_id is not None:
        return await read_page(db, LISTING_OF_RUN, asked, thread_id, run_id)
    return await read_page(db, LISTING, asked, thread_id)


async def replace(
    db: Database,
    thread_id: str,
    message_id: str,
    *,
    old: bytes,
    new: bytes,
    also: Sequence[Statement] = (),
) -> None:
    """Put the new body in the old one's place; Raced if that is no longer there."""
    if not await db.write(Statement(REPLACE, thread_id, message_id, old, new), *also):
        raise Raced(f"Message '{message_id}' was modified at the same time.")


async def delete(db: Database, project: str, thread_id: str, message_id: str, *, now: int) -> None:
    """Delete it, or NotFound."""
    await get(db, project, thread_id, message_id)
    rows = await db.read(NUMBER, thread_id, message_id)
    if not rows or not await db.write(
        Statement(DELETE, thread_id, message_id),
        Statement(BURIED, thread_id, rows[0][0]),
        bury(thread_id, message_id, rows[0][0], now=now),
        search.queuing(thread_id, message_id),
    ):
        raise NotFound("message", message_id)


async def any_in(db: Database, thread_id: str) -> bool:
    """Whether the thread has a message."""
    return bool(await db.read(ANY, thread_id))


async def older(
    db: Database, thread_id: str, *, before: int, limit: int
) -> list[tuple[int, bytes]]:
    """`(number, body)` of the newest messages in front of a number, newest first."""
    return [(row[0], row[1]) for row in await db.read(OLDER, thread_id, before, limit)]


async def oldest(db: Database, thread_id: str) -> bytes:
    """The body of the first message of a thread that has one."""
    return bytes((await db.read(OLDEST, thread_id))[0][0])


def _full(thread_id: str) -> Conflict:
    return Conflict(f"Thread {thread_id} already has {MESSAGES_LIMIT} messages.")


async def _missing(db: Database, project: str, thread_id: str, message_id: str) -> NotFound:
    if not await db.read(THREAD, thread_id, project):
        return NotFound("thread", thread_id)
    return NotFound("message", message_id)
