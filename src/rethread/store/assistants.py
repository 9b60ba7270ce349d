"""Assistants at rest."""

from collections.abc import Sequence

from rethread.errors import NotFound, Raced
from rethread.store.database import Database, Statement
from rethread.store.pages import Found, Listing, PageRequest, bury, read_page

ADD = """
INSERT INTO assistants (id, project, created_at, body) VALUES ($1, $2, $3, $4)
RETURNING id
"""
GET = "SELECT body FROM assistants WHERE id = $1 AND project = $2"
NUMBER = "SELECT number FROM assistants WHERE project = $1 AND id = $2"
# Two who modify at once must not lose each other's change: the body read is the condition.
REPLACE = """
UPDATE assistants SET body = $4 WHERE id = $1 AND project = $2 AND body = $3 RETURNING id
"""
DELETE = "DELETE FROM assistants WHERE id = $1 AND project = $2 RETURNING number"

LISTING = Listing(
    noun="assistant",
    prefix="asst",
    select="SELECT id, body FROM assistants WHERE project = $1",
    number=NUMBER,
)


async def add(
    db: Database,
    project: str,
    assistant_id: str,
    body: bytes,
    *,
    now: int,
    also: Sequence[Statement] = (),
) -> None:
    """Keep a new assistant; `also` is written with it, or nothing is and it has Raced."""
    if not await db.write(Statement(ADD, assistant_id, project, now, body), *also):
        raise Raced(f"Assistant '{assistant_id}' was not written.")


async def get(db: Database, project: str, assistant_id: str) -> bytes:
    """The assistant's body, or NotFound."""
    rows = await db.read(GET, assistant_id, project)
    if not rows:
        raise NotFound("assistant", assistant_id)
    return bytes(rows[0][0])


async def page(db: Database, project: str, asked: PageRequest) -> Found:
    """A page of the project's assistants."""
    return await read_page(db, LISTING, asked, project)


async def replace(
    db: Database,
    project: str,
    assistant_id: str,
    *,
    old: bytes,
    new: bytes,
    also: Sequence[Statement] = (),
) -> None:
    """Put the new body in the old one's place; Raced if that is no longer there."""
    replacement = Statement(REPLACE, assistant_id, project, old, new)
    if not await db.write(replacement, *also):
        raise Raced(f"Assistant '{assistant_id}' was modified at the same time.")


async def delete(db: Database, project: str, assistant_id: str, *, now: int) -> None:
    """Delete it, or NotFound. Runs that it has made hold copies of what they need."""
    rows = await db.read(NUMBER, project, assistant_id)
    deletion = Statement(DELETE, assistant_id, project)
    if not rows or not await db.write(deletion, bury(project, assistant_id, rows[0][0], now=now)):
        raise NotFound("assistant", assistant_id)
