"""The servers that share a database: who is alive, and what becomes of a dead one's claims.

A server that is alive says so every other second; that renews its claims, of runs and of files to
be read, all at once. One that has been silent for too long has lost them: others drive its runs on
and read its files, with a higher fence, so it could write no more if it came back. Time is the
database's.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from rethread.store.database import Database, Statement
from rethread.store.ingestions import AFTER_CRASH

BEAT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 8.0  # three beats missed, and a slow one

BEAT = """
INSERT INTO servers (id, home, seen_at) VALUES ($1, $2, {now})
ON CONFLICT (id) DO UPDATE SET seen_at = {now}, home = excluded.home
"""
IS_ALIVE = f"servers.seen_at > {{now}} - {int(SILENCE_SECONDS * 1000)}"
IS_STAYING = f"servers.home <> servers.id AND {IS_ALIVE}"  # see `Server.leaving`
OF_THE_DEAD: Final = f"""
claimed = 1
   AND NOT EXISTS (SELECT 1 FROM servers WHERE servers.id = server AND {IS_ALIVE})
"""
LEFT_ALONE = f"""
SELECT 1 FROM servers WHERE NOT {IS_ALIVE}
 UNION ALL
SELECT 1 FROM work WHERE {OF_THE_DEAD}
 UNION ALL
SELECT 1 FROM ingestions WHERE {OF_THE_DEAD}
 LIMIT 1
"""
TAKE_RUNS = "UPDATE work SET claimed = 0, crashes = crashes + 1 WHERE"
TAKE_FILES = f"UPDATE ingestions SET {AFTER_CRASH} WHERE"
TAKE_BACK = (
    f"{TAKE_RUNS} {OF_THE_DEAD} RETURNING run_id",
    f"{TAKE_FILES} {OF_THE_DEAD} RETURNING file_number",
)
FORGET = f"DELETE FROM servers WHERE NOT {IS_ALIVE}"
EVICT = "DELETE FROM servers WHERE home = $1 AND id <> $2 RETURNING id"
TAKE_FROM = (
    f"{TAKE_RUNS} claimed = 1 AND server = $1 RETURNING run_id",
    f"{TAKE_FILES} claimed = 1 AND server = $1 RETURNING file_number",
)
GIVE_BACK = (
    "UPDATE work SET claimed = 0, kept_until = NULL WHERE server = $1",
    "UPDATE ingestions SET claimed = 0 WHERE claimed = 1 AND server = $1",
)
KEEP_NO_MORE = "UPDATE work SET kept_until = NULL WHERE claimed = 0 AND server = $1"
LEAVE = "DELETE FROM servers WHERE id = $1"
OTHERS = f"SELECT 1 FROM servers WHERE id <> $1 AND {IS_STAYING} LIMIT 1"
URGENT = "SELECT run_id FROM work WHERE claimed = 1 AND urgent = 1 AND server = $1"


class Server(NamedTuple):
    """One process: `id` is its own; `home` is the place that it shares with none alive."""

    id: str
    home: str

    @property
    def leaving(self) -> "Server":
        """The same while it stops: another that begins at its place takes nothing from it."""
        return self._replace(home=self.id)


class Taken(NamedTuple):
    """How many claims came free."""

    runs: int
    files: int


async def join(db: Database, server: Server) -> Taken:
    """Be one server more; what was claimed by one that was in the same place, and is free now.

    Only by that one: after the database was away, others may be about to be heard again.
    """
    await db.write(Statement(BEAT, *server))
    taken = Taken(0, 0)
    for row in await db.write(Statement(EVICT, server.home, server.id)):
        runs, files = await _take(db, TAKE_FROM, row[0])
        taken = Taken(taken.runs + runs, taken.files + files)
    return taken


async def beat(db: Database, server: Server) -> None:
    """Say that the server is alive."""
    await db.write(Statement(BEAT, *server))


async def begin_to_leave(db: Database, server: Server) -> None:
    """Say that the server stops: what waits for it is anybody's."""
    await db.write(Statement(BEAT, *server.leaving), Statement(KEEP_NO_MORE, server.id))


async def take_back(db: Database) -> Taken:
    """Put what dead servers had claimed back into the queues."""
    if not await db.read(LEFT_ALONE):
        return Taken(0, 0)
    taken = await _take(db, TAKE_BACK)
    await db.write(Statement(FORGET))
    return taken


async def are_others_staying(db: Database, server: Server) -> bool:
    """Whether there is another one that is alive and does not stop just now."""
    return bool(await db.read(OTHERS, server.id))


async def leave(db: Database, server: Server) -> None:
    """Be one server less, at once; nothing that it had claimed waits for its silence."""
    given_back = [Statement(sql, server.id) for sql in GIVE_BACK]
    await db.write(*given_back, Statement(LEAVE, server.id))


async def urgent_runs(db: Database, server: Server) -> list[str]:
    """Runs that this server drives and that somebody has interrupted."""
    return [row[0] for row in await db.read(URGENT, server.id)]


async def _take(db: Database, both: Sequence[str], *arguments: str) -> Taken:
    runs, files = [len(await db.write(Statement(sql, *arguments))) for sql in both]
    return Taken(runs, files)
