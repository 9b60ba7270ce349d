"""Run steps at rest, numbered within their run."""

from rethread.contract.steps import Step
from rethread.errors import NotFound
from rethread.store.database import Database, Statement
from rethread.store.pages import Found, Listing, PageRequest, read_page

# The position is found where the row is written: the thread is held, so nothing comes between.
# It is the highest number ever given, so that a deletion puts no calls in front of earlier ones.
ADD = """
INSERT INTO steps (thread_id, run_id, number, id, position, body)
SELECT $1, $2,
       (SELECT COALESCE(MAX(number), 0) + 1 FROM steps WHERE thread_id = $1 AND run_id = $2),
       $3,
       CASE WHEN $4 = 1
            THEN (SELECT CASE WHEN held.top > held.buried THEN held.top ELSE held.buried END
                    FROM (SELECT buried, (SELECT COALESCE(MAX(number), 0) FROM messages
                                           WHERE thread_id = $1) AS top
                            FROM threads WHERE id = $1) AS held) END,
       $5
"""
REPLACE = "UPDATE steps SET body = $3 WHERE thread_id = $1 AND id = $2"
GET = """
SELECT body FROM steps
 WHERE thread_id = $1 AND run_id = $2 AND id = $3
   AND EXISTS (SELECT 1 FROM threads WHERE id = $1 AND project = $4)
"""
OF_THREAD = "SELECT body FROM steps WHERE thread_id = $1 AND id = $2"
ALL = "SELECT body FROM steps WHERE thread_id = $1 AND run_id = $2 ORDER BY number"
# A run that ended without a message leaves its calls where the next run's stand, too.
BETWEEN = """
SELECT position, body FROM steps
 WHERE thread_id = $1 AND position >= $2 AND position < $3
 ORDER BY position DESC,
          (SELECT number FROM runs WHERE runs.thread_id = $1 AND runs.id = steps.run_id) DESC,
          number DESC
"""

LISTING = Listing(
    noun="run step",
    prefix="step",
    select="SELECT id, body FROM steps WHERE thread_id = $1 AND run_id = $2",
    number="SELECT number FROM steps WHERE thread_id = $1 AND id = $2 AND run_id = $3",
)


def adding(step: Step, body: bytes) -> Statement:
    """The statement that keeps a new step; a step that calls tools remembers its position."""
    calls_tools = int(step.type == "tool_calls")
    return Statement(ADD, step.thread_id, step.run_id, step.id, calls_tools, body)


def replacing(step: Step, body: bytes) -> Statement:
    """The statement that puts a step in its new state."""
    return Statement(REPLACE, step.thread_id, step.id, body)


async def get(db: Database, project: str, thread_id: str, run_id: str, step_id: str) -> bytes:
    """The step's body, or NotFound."""
    rows = await db.read(GET, thread_id, run_id, step_id, project)
    if not rows:
        raise NotFound("run step", step_id)
    return bytes(rows[0][0])


async def of_thread(db: Database, thread_id: str, step_id: str) -> bytes | None:
    """A step's body, for whoever reads the log of its run."""
    rows = await db.read(OF_THREAD, thread_id, step_id)
    return bytes(rows[0][0]) if rows else None


async def page(db: Database, thread_id: str, run_id: str, asked: PageRequest) -> Found:
    """A page of a run's steps."""
    return await read_page(db, LISTING, asked, thread_id, run_id)


async def of_run(db: Database, thread_id: str, run_id: str) -> list[bytes]:
    """All of a run's steps, in order."""
    return [bytes(row[0]) for row in await db.read(ALL, thread_id, run_id)]


async def between(
    db: Database, thread_id: str, *, first: int, before: int
) -> list[tuple[int, bytes]]:
    """`(position, body)` of the steps that called tools after the messages of that range."""
    return [(row[0], row[1]) for row in await db.read(BETWEEN, thread_id, first, before)]
