"""The servers that share a database: who is alive, and what becomes of a dead one's runs.

A server that is alive says so every other second; that renews its claims, all at once. One that
has been silent for too long has lost them: others drive its runs on, with a higher fence, so it
could write no more if it came back. Time is the database's.
"""

from typing import Final, NamedTuple

from rethread.store.database import Database, Statement

BEAT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 8.0  # three beats missed, and a slow one

BEAT = """
INSERT INTO servers (id, home, seen_at) VALUES ($1, $2, {now})
ON CONFLICT (id) DO UPDATE SET seen_at = {now}, home = excluded.home
"""
IS_ALIVE = f"servers.seen_at > {{now}} - {int(SILENCE_SECONDS * 1000)}"
LEFT_ALONE = f"""
SELECT 1 FROM servers WHERE NOT {IS_ALIVE}
 UNION ALL
SELECT 1 FROM work WHERE claimed = 1
   AND NOT EXISTS (SELECT 1 FROM servers WHERE servers.id = work.server AND {IS_ALIVE})
 LIMIT 1
"""
TAKE_BACK = f"""
UPDATE work SET claimed = 0, crashes = crashes + 1
 WHERE claimed = 1
   AND NOT EXISTS (SELECT 1 FROM servers WHERE servers.id = work.server AND {IS_ALIVE})
RETURNING run_id
"""
FORGET = f"DELETE FROM servers WHERE NOT {IS_ALIVE}"
EVICT = "DELETE FROM servers WHERE home = $1 AND id <> $2 RETURNING id"
TAKE_FROM = """
UPDATE work SET claimed = 0, crashes = crashes + 1 WHERE claimed = 1 AND server = $1
RETURNING run_id
"""
GIVE_BACK = "UPDATE work SET claimed = 0 WHERE claimed = 1 AND server = $1"
LEAVE = "DELETE FROM servers WHERE id = $1"
OTHERS = f"SELECT 1 FROM servers WHERE id <> $1 AND home <> id AND {IS_ALIVE} LIMIT 1"
URGENT = "SELECT run_id FROM work WHERE claimed = 1 AND urgent = 1 AND server = $1"


class Server(NamedTuple):
    """One process: `id` is its own; `home` is the place that it shares with none alive."""

    id: str
    home: str

    @property
    def leaving(self) -> "Server":
        """The same while it stops: another that begins at its place takes nothing from it."""
        return self._replace(home=self.id)


async def join(db: Database, server: Server) -> list[str]:
    """Be one server more; the runs of one that was in the same place, which are free now.

    Only of that one: after the database was away, others may be about to be heard again.
    """
    await db.write(Statement(BEAT, *server))
    evicted = await db.write(Statement(EVICT, server.home, server.id))
    taken = [await db.write(Statement(TAKE_FROM, row[0])) for row in evicted]
    return [row[0] for rows in taken for row in rows]


async def beat(db: Database, server: Server) -> None:
    """Say that the server is alive."""
    await db.write(Statement(BEAT, *server))


async def take_back(db: Database) -> list[str]:
    """Put the runs of dead servers back into the queue; which these are."""
    if not await db.read(LEFT_ALONE):
        return []
    taken = await db.write(Statement(TAKE_BACK))
    await db.write(Statement(FORGET))
    return [row[0] for row in taken]


async def are_others_staying(db: Database, server: Server) -> bool:
    """Whether there is another one that is alive and does not stop just now."""
    return bool(await db.read(OTHERS, server.id))


async def leave(db: Database, server: Server) -> None:
    """Be one server less, at once; nothing that it had claimed waits for its silence."""
    await db.write(Statement(GIVE_BACK, server.id), Statement(LEAVE, server.id))


async def urgent_runs(db: Database, server: Server) -> list[str]:
    """Runs that this server drives and that somebody has interrupted."""
    return [row[0] for row in await db.read(URGENT, server.id)]
