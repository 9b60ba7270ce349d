"""Runs at rest, numbered within their thread.

A run's body is replaced only where the one that was read still stands, so of two who move a
run at once one is refused. `work` holds the runs that somebody has to drive (`leases.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from rethread.contract.runs import Run
from rethread.errors import NotFound, Raced, ThreadLocked
from rethread.store.database import Database, Statement
from rethread.store.pages import Found, Listing, PageRequest, read_page

TAKE_THREAD = """
UPDATE threads SET active_run_id = $3
 WHERE id = $1 AND project = $2 AND active_run_id IS NULL RETURNING id
"""
FREE_THREAD = "UPDATE threads SET active_run_id = NULL WHERE id = $1 AND active_run_id = $2"
ADD = """
INSERT INTO runs (thread_id, number, id, project, status, created_at, expires_at,
                  additional_instructions, fingerprint, body)
SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9
  FROM runs WHERE thread_id = $1
"""
# The status of a run whose thread was deleted is nobody's: no row, so the write is refused.
REPLACE = """
UPDATE runs SET status = $4, body = $5, rested_at = COALESCE($6, rested_at)
 WHERE thread_id = $1 AND id = $2 AND body = $3
   AND EXISTS (SELECT 1 FROM threads WHERE id = $1) RETURNING id
"""
GET = """
SELECT body FROM runs
 WHERE thread_id = $1 AND id = $2
   AND EXISTS (SELECT 1 FROM threads WHERE id = $1 AND project = $3)
"""
TO_DRIVE = """
SELECT body, additional_instructions,
       (SELECT COALESCE(MAX(last), 0) FROM events WHERE thread_id = $1 AND run_id = $2)
  FROM runs
 WHERE thread_id = $1 AND id = $2 AND EXISTS (SELECT 1 FROM threads WHERE id = $1)
"""
NUMBER = "SELECT number FROM runs WHERE thread_id = $1 AND id = $2"
THREAD = "SELECT active_run_id FROM threads WHERE id = $1 AND project = $2"
# Nobody watches over the time of a run that is in progress but waits for a driver again, as
# after a restart. Those that are urgent already are claimed next.
OVERDUE = """
SELECT thread_id, id, expires_at FROM runs
 WHERE status IN ('queued', 'requires_action') AND expires_at <= $1
 UNION ALL
SELECT runs.thread_id, runs.id, runs.expires_at
  FROM work JOIN runs ON runs.thread_id = work.thread_id AND runs.id = work.run_id
 WHERE work.claimed = 0 AND work.urgent = 0
   AND runs.status = 'in_progress' AND runs.expires_at <= $1
 ORDER BY 3 LIMIT 100
"""

LISTING = Listing(
    noun="run",
    prefix="run",
    select="SELECT id, body FROM runs WHERE thread_id = $1",
    number=NUMBER,
)


class StoredRun(NamedTuple):
    """A run's body, and what it does not show."""

    body: bytes
    additional_instructions: str | None
    last_event: int


def taking_thread(project: str, thread_id: str, run_id: str) -> Statement:
    """The check that locks the thread for a run."""
    return Statement(TAKE_THREAD, thread_id, project, run_id)


def freeing_thread(thread_id: str, run_id: str) -> Statement:
    """The statement that gives the thread back."""
    return Statement(FREE_THREAD, thread_id, run_id)


def adding(
    project: str,
    run: Run,
    body: bytes,
    *,
    expires_at: int,
    additional_instructions: str | None = None,
    fingerprint: bytes | None = None,
) -> Statement:
    """The statement that keeps a new run."""
    additional = None if additional_instructions is None else additional_instructions.encode()
    return Statement(
        ADD,
        run.thread_id,
        run.id,
        project,
        run.status,
        run.created_at,
        expires_at,
        additional,
        fingerprint,
        body,
    )


def replacing(run: Run, *, old: bytes, new: bytes, rested_at: int | None = None) -> Statement:
    """The check that puts a run in its new state, if nobody has moved it since it was read."""
    return Statement(REPLACE, run.thread_id, run.id, old, run.status, new, rested_at)


async def create(db: Database, project: str, run: Run, statements: Sequence[Statement]) -> None:
    """Write a new run with all that belongs to it: NotFound, or ThreadLocked, or all of it."""
    if not await db.write(*statements):
        raise await refusal(db, project, run.thread_id)


async def refusal(db: Database, project: str, thread_id: str) -> Exception:
    """Why a run could not be created."""
    rows = await db.read(THREAD, thread_id, project)
    if not rows:
        return NotFound("thread", thread_id)
    if run_id := rows[0][0]:
        return ThreadLocked(
            f"Thread {thread_id} already has an active run {run_id}.", run_id=run_id
        )
    return Raced(f"Thread '{thread_id}' was busy and is free again.")


async def get(db: Database, project: str, thread_id: str, run_id: str) -> bytes:
    """The run's body, or NotFound."""
    rows = await db.read(GET, thread_id, run_id, project)
    if rows:
        return bytes(rows[0][0])
    if not await db.read(THREAD, thread_id, project):
        raise NotFound("thread", thread_id)
    raise NotFound("run", run_id)


async def to_drive(db: Database, thread_id: str, run_id: str) -> StoredRun | None:
    """A run as whoever drives it needs it; None when its thread was deleted."""
    rows = await db.read(TO_DRIVE, thread_id, run_id)
    if not rows:
        return None
    body, additional, last_event = rows[0]
    told = None if additional is None else bytes(additional).decode()
    return StoredRun(bytes(body), told, last_event)


async def page(db: Database, project: str, thread_id: str, asked: PageRequest) -> Found:
    """A page of the thread's runs."""
    if not await db.read(THREAD, thread_id, project):
        raise NotFound("thread", thread_id)
    return await read_page(db, LISTING, asked, thread_id)


async def modify(
    db: Database, run: Run, *, old: bytes, new: bytes, also: Sequence[Statement] = ()
) -> None:
    """Put the new body in the old one's place; Raced if that is no longer there."""
    if not await db.write(replacing(run, old=old, new=new), *also):
        raise Raced(f"Run '{run.id}' was modified at the same time.")


async def overdue(db: Database, *, now: int) -> list[tuple[str, str]]:
    """`(thread_id, run_id)` of some runs that wait past their time."""
    return [(row[0], row[1]) for row in await db.read(OVERDUE, now)]
