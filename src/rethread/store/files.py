"""Files at rest: whose they are, and which blob has their bytes."""

import builtins
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from rethread.contract.files import File
from rethread.errors import NoSuchFile, Raced
from rethread.store import blobs
from rethread.store.database import Database, Row, Statement
from rethread.store.pages import Found, Listing, PageRequest, bury, read_page

ADD = """
INSERT INTO files (id, project, purpose, blob_id, expires_at, body)
SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), blobs.id, CAST($4 AS BIGINT),
       CAST($5 AS {bytes})
  FROM blobs WHERE blobs.hash = $6
RETURNING id
"""
GET = "SELECT id, blob_id, body FROM files WHERE project = $1 AND id = $2"
MANY: Final = 50
SOME = f"""
SELECT id, blob_id, body FROM files
 WHERE project = $1 AND id IN ({", ".join(f"${place}" for place in range(2, MANY + 2))})
"""
NUMBER = "SELECT number FROM files WHERE project = $1 AND id = $2"
PLACE = "SELECT number, blob_id FROM files WHERE project = $1 AND id = $2"
DELETE = "DELETE FROM files WHERE id = $1 AND project = $2 RETURNING number"
EXPIRED = "SELECT project, id FROM files WHERE expires_at <= $1 ORDER BY expires_at LIMIT 100"

LISTING = Listing(
    noun="file",
    prefix="file",
    select="SELECT id, body FROM files WHERE project = $1",
    number=NUMBER,
)
LISTING_OF_PURPOSE = LISTING._replace(
    select="SELECT id, body FROM files WHERE project = $1 AND purpose = $2",
    is_cursor_filtered=False,
)


class StoredFile(NamedTuple):
    """A file; `blob` is the name of its bytes in the blob store."""

    id: str
    filename: str
    bytes: int
    purpose: str
    blob: str
    body: builtins.bytes


def adding(project: str, file: File, body: bytes, *, name: str, content: bytes) -> list[Statement]:
    """The file, its content written under a name that was reserved; `content` is its SHA-256."""
    return [
        *blobs.keeping(name, content, file.bytes),
        Statement(ADD, file.id, project, file.purpose, file.expires_at, body, content),
    ]


async def get(db: Database, project: str, file_id: str) -> StoredFile:
    """The file, or NoSuchFile."""
    rows = await db.read(GET, project, file_id)
    if not rows:
        raise NoSuchFile(file_id)
    return _stored(rows[0])


async def many(db: Database, project: str, file_ids: Sequence[str]) -> dict[str, StoredFile]:
    """Those of the files that there are, by id."""
    found: dict[str, StoredFile] = {}
    for some in _batches(sorted(set(file_ids))):
        for row in await db.read(SOME, project, *some):
            found[row[0]] = _stored(row)
    return found


async def page(db: Database, project: str, asked: PageRequest, *, purpose: str | None) -> Found:
    """A page of the project's files."""
    if purpose is None:
        return await read_page(db, LISTING, asked, project)
    return await read_page(db, LISTING_OF_PURPOSE, asked, project, purpose)


async def delete(
    db: Database, project: str, file_id: str, *, also: Sequence[Statement] = ()
) -> None:
    """Delete it, or NoSuchFile; its bytes go with the last file that has them."""
    rows = await db.read(PLACE, project, file_id)
    if not rows:
        raise NoSuchFile(file_id)
    number, blob = rows[0]
    if not await db.write(
        blobs.locking(blob),
        Statement(DELETE, file_id, project),
        *blobs.forgetting_unused(blob),
        bury(project, file_id, number, now=int(db.now())),
        *also,
    ):
        raise NoSuchFile(file_id)


async def expired(db: Database) -> list[tuple[str, str]]:
    """`(project, id)` of some of the files whose time is over."""
    return [(row[0], row[1]) for row in await db.read(EXPIRED, int(db.now()))]


def not_written(file_id: str) -> Raced:
    """What to raise where the write that adds a file was refused: its upload took too long."""
    return Raced(f"File '{file_id}' was not written.")


def _stored(row: Row) -> StoredFile:
    id, blob, body = row
    file = msgspec.json.decode(body, type=File)
    return StoredFile(id, file.filename, file.bytes, file.purpose, blob, bytes(body))


def _batches(file_ids: Sequence[str]) -> Iterator[list[str]]:
    """Always so many, the last one again and again: one text of SQL for any number."""
    for start in range(0, len(file_ids), MANY):
        some = list(file_ids[start : start + MANY])
        yield some + some[-1:] * (MANY - len(some))
