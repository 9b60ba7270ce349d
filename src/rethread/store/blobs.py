"""What the blob store holds: each content once, and what there is to be taken away.

A name stands in the trash before its bytes are written and comes out in the write that refers to
it; with the last one who refers to it, it goes in again. So whatever is cut off, and wherever,
nothing is left behind, and nothing goes that somebody needs.
"""

import secrets
from collections.abc import Iterable
from typing import Final

from rethread.store.database import Database, Statement

RESERVE = "INSERT INTO blob_trash (id, due_at) VALUES ($1, $2)"
RENEW = "UPDATE blob_trash SET due_at = $2 WHERE id = $1 AND due_at > 0 RETURNING id"
GIVE_UP = "UPDATE blob_trash SET due_at = 0 WHERE id = $1"
# The check that an upload was not so long silent that its name is being taken away.
TAKE_OUT = "DELETE FROM blob_trash WHERE id = $1 AND due_at > 0 RETURNING id"
# DO UPDATE rather than NOTHING: it locks the row, so that what is found does not go meanwhile.
KEEP = """
INSERT INTO blobs (id, hash, size) VALUES ($1, $2, $3)
ON CONFLICT (hash) DO UPDATE SET size = excluded.size
"""
THROW_DOUBLE = """
INSERT INTO blob_trash (id, due_at)
SELECT CAST($1 AS TEXT), 0 WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE id = $1)
"""
LOCK = "SELECT id FROM blobs WHERE id = $1 {row_lock}"
FORGET_UNUSED = """
DELETE FROM blobs WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM files WHERE blob_id = $1)
"""
# Set to 0 before anything is taken away: then the upload that is late is refused.
CLAIM_DUE = "UPDATE blob_trash SET due_at = 0 WHERE due_at > 0 AND due_at <= $1"
# Below 0 is what could not be taken away, until when it is left alone: others go on before it.
POSTPONE = "UPDATE blob_trash SET due_at = $2 WHERE id = $1 AND due_at <= 0"
ANY_DUE = "SELECT 1 FROM blob_trash WHERE due_at BETWEEN -CAST($1 AS BIGINT) AND $1 LIMIT 1"
DUE = """
SELECT id FROM blob_trash WHERE due_at BETWEEN -CAST($1 AS BIGINT) AND 0
 ORDER BY due_at DESC LIMIT 100
"""
TAKEN_AWAY = "DELETE FROM blob_trash WHERE id = $1 AND due_at <= 0"
ABANDON_ALL = "UPDATE blob_trash SET due_at = 0"

LEASE_SECONDS: Final = 15 * 60  # how long an upload may be silent that no server gives up
RENEW_SECONDS: Final = 60.0
POSTPONED_SECONDS: Final = 10 * 60


async def reserve(db: Database) -> str:
    """A new name, for bytes that are about to be written."""
    name = secrets.token_hex(16)
    await db.write(Statement(RESERVE, name, _lease(db)))
    return name


async def renew(db: Database, name: str) -> bool:
    """Whether the name is still held for its bytes; it is, for as long again."""
    return bool(await db.write(Statement(RENEW, name, _lease(db))))


async def give_up(db: Database, name: str) -> None:
    """Have what is under the name taken away soon, if nothing refers to it."""
    await db.write(Statement(GIVE_UP, name))


def taking_out(name: str) -> Statement:
    """The check that makes what was written under the name stay."""
    return Statement(TAKE_OUT, name)


def keeping(name: str, content_hash: bytes, size: int) -> list[Statement]:
    """Has the content once: under this name, or under the one that has it already.

    The first one is a check; what follows in its write finds the content by its hash.
    """
    return [
        taking_out(name),
        Statement(KEEP, name, content_hash, size),
        Statement(THROW_DOUBLE, name),
    ]


def locking(name: str) -> Statement:
    """Stands in front of the deletion of a file: nobody else refers to the blob meanwhile."""
    return Statement(LOCK, name)


def forgetting_unused(name: str) -> list[Statement]:
    """Stands behind it: what no file refers to any more goes to the trash."""
    return [Statement(FORGET_UNUSED, name), Statement(THROW_DOUBLE, name)]


async def due(db: Database) -> list[str]:
    """Some of the names that are to be taken away now; nobody can come to refer to them."""
    now = int(db.now())
    if not await db.read(ANY_DUE, now):
        return []
    await db.write(Statement(CLAIM_DUE, now))
    return [row[0] for row in await db.read(DUE, now)]


async def taken_away(db: Database, names: Iterable[str]) -> None:
    """Forget names behind which nothing stands any more."""
    for name in names:
        await db.write(Statement(TAKEN_AWAY, name))


async def postpone(db: Database, names: Iterable[str]) -> None:
    """Have names that could not be taken away tried again in a while, behind all others."""
    until = int(db.now()) + POSTPONED_SECONDS
    for name in names:
        await db.write(Statement(POSTPONE, name, -until))


async def abandon_all(db: Database) -> None:
    """Give up every upload under way: they were another process's, and that has ended."""
    await db.write(Statement(ABANDON_ALL))


def _lease(db: Database) -> int:
    return int(db.now()) + LEASE_SECONDS
