"""Who drives which run: enqueue, claim, release. A claim raises the run's fence.

A run is in `work` from the moment it is queued until it rests. The fence goes with every
write of its driver, so that one who was replaced cannot write any more. Fences begin at 1 again
after a rest; there the event's number decides, as a driver from before the rest has an old one.
A claim lasts as long as its server is alive (`servers.py`). A run that may run code is left for a
moment to the server that has its thread's session (`code_sessions.py`); then anybody claims it.
"""

from typing import Final, NamedTuple

from rethread.store.database import Database, Statement

# Long enough for a server to look again that has not heard of the run, short enough for a client
# that waits while that server has died or is busy with others.
KEPT_SECONDS: Final = 3.0

# An urgent run (a cancelled or overdue one) has nothing to wait for. One that is queued
# already stays where it is in the queue, and one that is being driven stays claimed.
ENQUEUE = """
INSERT INTO work (thread_id, run_id, urgent) VALUES ($1, $2, $3)
ON CONFLICT (run_id) DO UPDATE SET urgent = $3, kept_until = NULL
"""
# Whoever has a driver free claims the run in the write that queues it, and saves a commit.
ENQUEUE_CLAIMED = """
INSERT INTO work (thread_id, run_id, claimed, fence, server) VALUES ($1, $2, 1, 1, $3)
ON CONFLICT (run_id) DO NOTHING RETURNING number
"""
ENQUEUE_KEPT = f"""
INSERT INTO work (thread_id, run_id, server, kept_until)
VALUES ($1, $2, $3, {{now}} + {int(KEPT_SECONDS * 1000)})
ON CONFLICT (run_id) DO NOTHING
"""
# Servers that claim at once do not wait for each other.
CLAIM = """
UPDATE work SET claimed = 1, fence = fence + 1, server = $2
 WHERE run_id = (SELECT run_id FROM work WHERE claimed = 0 AND urgent >= $1
                    AND (kept_until IS NULL OR server = $2 OR kept_until <= {now})
                  ORDER BY urgent DESC, number LIMIT 1 {skip_locked})
RETURNING thread_id, run_id, fence, crashes
"""
FINISH = "DELETE FROM work WHERE run_id = $1 AND fence = $2"
RELEASE = """
UPDATE work SET claimed = 0, kept_until = NULL, crashes = crashes + $3
 WHERE run_id = $1 AND fence = $2
"""
RELEASE_ALL = "UPDATE work SET claimed = 0, crashes = crashes + 1 WHERE claimed = 1"
COUNT = "SELECT COUNT(*) FROM work"

TOPIC = "work"


class Lease(NamedTuple):
    """The right to drive a run until somebody has a higher fence.

    `crashes` counts the drivers of this run that did not come to give it back.
    """

    thread_id: str
    run_id: str
    fence: int
    crashes: int = 0


def enqueuing(thread_id: str, run_id: str, *, urgent: bool = False) -> Statement:
    """The statement that puts a run in the queue."""
    return Statement(ENQUEUE, thread_id, run_id, int(urgent))


def enqueuing_claimed(thread_id: str, run_id: str, *, server: str) -> Statement:
    """The check that puts a run in the queue as its first driver's, whose fence is 1."""
    return Statement(ENQUEUE_CLAIMED, thread_id, run_id, server)


def enqueuing_kept(thread_id: str, run_id: str, *, server: str) -> Statement:
    """The statement that puts a run in the queue, for a moment only for that server to claim."""
    return Statement(ENQUEUE_KEPT, thread_id, run_id, server)


def finishing(lease: Lease) -> Statement:
    """The statement that takes a run out of the queue: it rests."""
    return Statement(FINISH, lease.run_id, lease.fence)


async def claim(db: Database, *, server: str = "", urgent_only: bool = False) -> Lease | None:
    """The run whose turn it is, or None."""
    rows = await db.write(Statement(CLAIM, int(urgent_only), server))
    return Lease(*rows[0]) if rows else None


async def release(db: Database, lease: Lease, *, after_crash: bool = False) -> None:
    """Give a run back unfinished: the next claim takes it up."""
    await db.write(Statement(RELEASE, lease.run_id, lease.fence, int(after_crash)))


async def release_all(db: Database) -> int:
    """Take every claim back; for the start of an only server, with no driver left from before.

    How many runs wait for a driver now: those, and what was handed back or had not begun.
    """
    await db.write(Statement(RELEASE_ALL))
    return int((await db.read(COUNT))[0][0])
