"""A run's event log: append what happened, follow it from any number on.

The log is the only way from the engine to listeners. What is appended is on disk before
anyone hears it. Records are kept in memory while somebody listens, a bounded number of them;
a listener who falls behind reads the rest from the disk, so nobody waits for a slow one.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, NamedTuple

from rethread.contract.events import RESTING, rendered_name, rendered_number
from rethread.errors import Forgotten
from rethread.store.database import Database, Statement

RECORDS_READ: Final = 100  # at once, at most
BYTES_READ: Final = 256 * 1024

# A record that begins where another does is a second writer's: refused, whoever it is. So is
# one whose fence is not the newest: somebody else drives this run now. The lock makes a claim
# wait for the append's commit: whoever claims then reads the log as it was left.
APPEND = """
INSERT INTO events (thread_id, run_id, first, last, body)
SELECT $1, $2, $3, $4, $5
 WHERE EXISTS (SELECT 1 FROM work WHERE run_id = $2 AND fence = $6 {share_lock})
ON CONFLICT DO NOTHING RETURNING last
"""
APPEND_AT_REST = """
INSERT INTO events (thread_id, run_id, first, last, body) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING last
"""
# As many records as fit, and one at least: what a slow listener has read waits in memory. They
# are measured without their bodies, which a window would hold all of.
READ = f"""
SELECT events.first, events.last, events.body
  FROM (SELECT first, SUM(size) OVER (ORDER BY first) - size AS ahead
          FROM (SELECT first, LENGTH(body) AS size FROM events
                 WHERE thread_id = $1 AND run_id = $2 AND last > $3
                 ORDER BY first LIMIT {RECORDS_READ}) AS next) AS measured
  JOIN events ON events.thread_id = $1 AND events.run_id = $2 AND events.first = measured.first
 WHERE measured.ahead < {BYTES_READ} ORDER BY events.first
"""
LAST = "SELECT COALESCE(MAX(last), 0) FROM events WHERE thread_id = $1 AND run_id = $2"
# In the order of their numbers, so that of each log the first event goes first: a log that has
# it is whole, and one that has it not counts as gone.
FORGET = """
DELETE FROM events WHERE (thread_id, run_id, first) IN (
    SELECT events.thread_id, events.run_id, events.first
      FROM (SELECT thread_id, id FROM runs WHERE rested_at < $1 ORDER BY rested_at LIMIT 10) AS old
      JOIN events ON events.thread_id = old.thread_id AND events.run_id = old.id
     ORDER BY events.first LIMIT 500)
RETURNING run_id
"""
# Runs whose log is gone are not looked at again: there are ever more of them.
FORGOTTEN = """
UPDATE runs SET rested_at = NULL
 WHERE (thread_id, number) IN (
       SELECT thread_id, number FROM runs WHERE rested_at < $1 ORDER BY rested_at LIMIT 50)
   AND NOT EXISTS (SELECT 1 FROM events
                    WHERE events.thread_id = runs.thread_id AND events.run_id = runs.id)
RETURNING id
"""
IS_FORGOTTEN = """
SELECT 1 FROM threads
 WHERE id = $1
   AND NOT EXISTS (SELECT 1 FROM events WHERE thread_id = $1 AND run_id = $2 AND first = 1)
"""
GOES_ON = """
SELECT 1 FROM runs WHERE thread_id = $1 AND id = $2
   AND status IN ('queued', 'in_progress', 'cancelling')
   AND EXISTS (SELECT 1 FROM threads WHERE id = $1)
"""

RECORDS_IN_MEMORY: Final = 64
RECORDS_AT_ONCE: Final = 8  # those that a slow listener keeps although all others are past them


class Record(NamedTuple):
    """Events `first` to `last` as their bytes on the wire, one after the other."""

    first: int
    last: int
    body: bytes

    @property
    def rests(self) -> bool:
        """Whether the last event leaves the run at rest; such an event always ends its record."""
        return rendered_name(self.body[self.body.rfind(b"\n\nid: ", 0, -2) + 1 :]) in RESTING

    def after(self, number: int) -> bytes:
        """The bytes of the events past a number."""
        if self.first > number:
            return self.body
        records = self.body.split(b"\n\n")[:-1]
        return b"".join(record + b"\n\n" for record in records if rendered_number(record) > number)


class EventLog:
    """The logs of all runs, as one process reads and writes them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._recent: dict[str, deque[Record]] = {}
        self._listeners: dict[str, int] = {}

    async def append(
        self,
        thread_id: str,
        run_id: str,
        record: Record,
        *also: Statement,
        fence: int | None = None,
    ) -> bool:
        """On disk with all of `also`, then heard; False if the fence is old or the number taken.

        Without a fence the run is at rest, and the number alone decides between writers.
        """
        appended = await self._db.write(appending(thread_id, run_id, record, fence=fence), *also)
        if appended:
            self.announce(run_id, record)
        return bool(appended)

    def announce(self, run_id: str, record: Record) -> None:
        """Let the listeners hear a record that is on disk."""
        recent = self._recent.get(run_id)
        if recent is not None:
            if recent and recent[-1].last + 1 != record.first:
                recent.clear()  # who appended what lies between was cancelled: it is on disk
            recent.append(record)
        self._db.notify(topic(run_id))

    async def follow(
        self,
        thread_id: str,
        run_id: str,
        *,
        after: int,
        silence_seconds: float,
        past_rests: bool = False,
    ) -> AsyncGenerator[Record | None]:
        """The records past a number, as they come, to the first that leaves the run at rest.

        `past_rests` goes on to where the run rests now. None stands for a silence of that length.
        It also ends when the thread is deleted, and where the run rests and nothing of its log
        lies past the number.
        """
        with self._db.listen(topic(run_id)) as wakeup, self._keep_recent(run_id):
            is_idle, is_last_look = True, False
            # Several records at once from the disk are the past: a stream that begins with its
            # run finds one there, and its first token shall not wait for a question.
            is_replay = False
            # Whether memory has all that was appended: another process's records it has not.
            knows_all = self._db.look_again_seconds is None
            silent_for = 0.0
            look_again = self._db.look_again_seconds or silence_seconds
            while True:
                records = self._past(run_id, after) if knows_all and not is_last_look else None
                has_more = True
                if records is None:
                    records = await read(self._db, thread_id, run_id, after=after)
                    has_more = _may_have_more(records)
                    is_replay = is_replay or len(records) > 1
                for record in records:
                    yield record._replace(body=record.after(after))
                    if record.rests and not past_rests:
                        return
                    after = record.last
                if records:
                    # What a last look finds, or ends with a rest, may not be all.
                    is_idle, is_last_look = is_last_look or records[-1].rests, False
                    silent_for = 0.0
                if records and has_more:
                    continue
                if is_last_look:
                    return
                # Only asked where a look found nothing: in a stream, a record is not a query.
                if (is_idle or is_replay) and not await self._db.read(GOES_ON, thread_id, run_id):
                    is_last_look = True  # its end may have come after we looked
                    continue
                is_idle, is_replay = True, False
                patience = min(look_again, silence_seconds - silent_for)
                is_woken = await wakeup.wait(timeout_seconds=patience)
                knows_all = is_woken and not wakeup.is_from_afar
                wakeup.is_from_afar = False
                if is_woken:
                    continue
                silent_for += patience
                if silent_for >= silence_seconds:
                    silent_for = 0.0
                    yield None

    @contextmanager
    def _keep_recent(self, run_id: str) -> Iterator[None]:
        self._listeners[run_id] = self._listeners.get(run_id, 0) + 1
        self._recent.setdefault(run_id, deque(maxlen=RECORDS_IN_MEMORY))
        try:
            yield
        finally:
            self._listeners[run_id] -= 1
            if not self._listeners[run_id]:
                del self._listeners[run_id], self._recent[run_id]

    def _past(self, run_id: str, number: int) -> list[Record] | None:
        """The records past a number, or None where memory does not reach back that far."""
        recent = self._recent[run_id]
        if not recent or recent[0].first > number + 1:
            return None
        if recent[-1].first <= number + 1:  # in step with the run, as most listeners are
            return [recent[-1]] if recent[-1].last > number else []
        past = (record for record in recent if record.last > number)
        return list(islice(past, RECORDS_AT_ONCE))


def _may_have_more(records: Sequence[Record]) -> bool:
    """Whether a look at the disk has stopped before the end of the log."""
    return len(records) == RECORDS_READ or sum(len(each.body) for each in records) >= BYTES_READ


def topic(run_id: str) -> str:
    """What is notified when something was appended to the run's log."""
    return f"run:{run_id}"


def appending(thread_id: str, run_id: str, record: Record, *, fence: int | None) -> Statement:
    """The check that appends a record: refused if the fence is old or the number is taken."""
    if fence is None:
        return Statement(APPEND_AT_REST, thread_id, run_id, *record)
    return Statement(APPEND, thread_id, run_id, *record, fence)


async def last_number(db: Database, thread_id: str, run_id: str) -> int:
    """The number of the run's last event; 0 when its log is gone."""
    rows = await db.read(LAST, thread_id, run_id)
    return int(rows[0][0])


async def check_kept(db: Database, thread_id: str, run_id: str) -> None:
    """Forgotten when the time is over that the run's log is kept; it is gone as a whole then."""
    if await db.read(IS_FORGOTTEN, thread_id, run_id):
        raise Forgotten(f"The events of run '{run_id}' are not kept any longer.")


async def read(db: Database, thread_id: str, run_id: str, *, after: int) -> list[Record]:
    """The next records with events past a number, in order; a few at a time."""
    return [Record(*row) for row in await db.read(READ, thread_id, run_id, after)]


async def read_all(db: Database, thread_id: str, run_id: str) -> AsyncIterator[Record]:
    """Every record of a run, in order."""
    after = 0
    while records := await read(db, thread_id, run_id, after=after):
        for record in records:
            yield record
        after = records[-1].last


async def forget(db: Database, *, rested_before: int) -> bool:
    """Drop a few records of runs that ended before that time; True while there are more."""
    return bool(
        await db.write(Statement(FORGET, rested_before))
        or await db.write(Statement(FORGOTTEN, rested_before))
    )
