"""Vector stores at rest: what they are called, who last used them, and what made their vectors.

What is in a store stands in `vector_store_files.py`; its counts are asked for and never kept.
A store whose time is over stays so: whatever would use it again asks first, in its own write.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import structs

from rethread.contract.vector_stores import (
    DAY_SECONDS,
    FileCounts,
    ModifyVectorStore,
    StoreBody,
    StoreExpiresAfter,
    VectorStore,
)
from rethread.errors import Conflict, NotFound, Raced
from rethread.store.database import Database, Row, Statement
from rethread.store.pages import (
    Found,
    Listing,
    PageRequest,
    bury,
    ordered,
    page_of,
    window_of,
)

ADD = """
INSERT INTO vector_stores (id, project, created_at, last_active_at, expires_after, expires_at,
                           embedder, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING number
"""
COLUMNS: Final = (
    "id, project, created_at, last_active_at, expires_after, expires_at, embedder, body"
)
GET = f"SELECT {COLUMNS} FROM vector_stores WHERE id = $1 AND project = $2"
COUNT_OF_OTHERS = "SELECT COUNT(*) FROM vector_stores WHERE embedder <> $1"
NUMBER = "SELECT number FROM vector_stores WHERE project = $1 AND id = $2"
# One row for each status that files of a store have; a store without files has none.
COUNTS = """
SELECT store_id, status, COUNT(*), CAST(SUM(usage_bytes) AS BIGINT) FROM vector_store_files
 WHERE store_id IN (SELECT key FROM {pairs_of}(CAST($1 AS {json})) AS wanted)
 GROUP BY store_id, status
"""
IS_USABLE: Final = "(expires_at IS NULL OR expires_at > $2)"
TOUCH = f"""
UPDATE vector_stores SET last_active_at = $2, expires_at = $2 + expires_after * {DAY_SECONDS}
 WHERE id = $1 AND {IS_USABLE}
"""
REPLACE = f"""
UPDATE vector_stores
   SET body = $4, expires_after = $5, expires_at = $6, last_active_at = $2
 WHERE id = $1 AND {IS_USABLE} AND body = $3 RETURNING number
"""
# Nobody finds what is in a store without the store: its row alone makes all of it invisible.
DELETE = "DELETE FROM vector_stores WHERE id = $1 AND project = $2 RETURNING number"
STOP_READING = "DELETE FROM ingestions WHERE store_id = $1"
REMEMBER_TO_PURGE = "INSERT INTO purged_stores (store_id) VALUES ($1) ON CONFLICT DO NOTHING"
OVERDUE = "SELECT id FROM vector_stores WHERE expires_at <= $1 AND emptied = 0 LIMIT 100"
EMPTY = """
UPDATE vector_stores SET emptied = 1 WHERE id = $1 AND expires_at <= $2 AND emptied = 0
RETURNING number
"""

LISTING = Listing(
    noun="vector store",
    prefix="vs",
    select=f"SELECT {COLUMNS} FROM vector_stores WHERE project = $1",
    number=NUMBER,
)

_encode: Final = msgspec.json.Encoder().encode
_bodies: Final = msgspec.json.Decoder(StoreBody)


class StoredStore(NamedTuple):
    """A store; `embedder` is what makes its vectors, or '' where it is searched by words alone.

    `expires_after` is in days.
    """

    id: str
    project: str
    created_at: int
    last_active_at: int
    expires_after: int | None
    expires_at: int | None
    embedder: str
    body: bytes

    def is_expired(self, now: int) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


class Content(NamedTuple):
    """What is in a store, or in a batch: how many files are how far, and their size."""

    counts: FileCounts = FileCounts()
    usage_bytes: int = 0


def new(
    project: str, store_id: str, body: StoreBody, *, days: int | None, embedder: str, now: int
) -> StoredStore:
    """A store that is still to be written; it expires after so many days without use."""
    expires_at = None if days is None else now + days * DAY_SECONDS
    return StoredStore(store_id, project, now, now, days, expires_at, embedder, _encode(body))


def adding(stored: StoredStore) -> Statement:
    """The check that keeps a new store."""
    return Statement(ADD, *stored)


def touching(store_id: str, now: int) -> Statement:
    """The statement that notes that a store was used; one that has expired stays so."""
    return Statement(TOUCH, store_id, now)


async def count_of_others(db: Database, embedder: str) -> int:
    """How many stores, of any project, have the vectors of another embedder, or of none."""
    return int((await db.read(COUNT_OF_OTHERS, embedder))[0][0])


async def get(db: Database, project: str, store_id: str) -> StoredStore:
    """The store, or NotFound."""
    rows = await db.read(GET, store_id, project)
    if not rows:
        raise NotFound("vector store", store_id)
    return StoredStore(*rows[0])


async def usable(db: Database, project: str, store_id: str, *, now: int) -> StoredStore:
    """The store, or NotFound; Conflict if its time is over."""
    stored = await get(db, project, store_id)
    check_usable(stored, now)
    return stored


def check_usable(stored: StoredStore, now: int) -> None:
    """Conflict if its time is over."""
    if stored.is_expired(now):
        raise Conflict(f"Vector store '{stored.id}' has expired.")


async def shown(db: Database, stored: StoredStore, *, now: int) -> VectorStore:
    """The store as clients see it."""
    contents = await contents_of(db, [stored.id])
    return show(stored, contents.get(stored.id, Content()), now=now)


def show(stored: StoredStore, content: Content, *, now: int) -> VectorStore:
    """A store with what is in it, as clients see it."""
    body = _bodies.decode(stored.body)
    is_busy = content.counts.in_progress > 0
    days = stored.expires_after
    expiry = None if days is None else StoreExpiresAfter(anchor="last_active_at", days=days)
    return VectorStore(
        id=stored.id,
        created_at=stored.created_at,
        name=body.name,
        description=body.description,
        usage_bytes=content.usage_bytes,
        file_counts=content.counts,
        status="expired" if stored.is_expired(now) else "in_progress" if is_busy else "completed",
        expires_after=expiry,
        expires_at=stored.expires_at,
        last_active_at=stored.last_active_at,
        metadata=body.metadata,
    )


async def page(db: Database, project: str, asked: PageRequest, *, now: int) -> Found:
    """A page of the project's stores, as clients see them."""
    window = await window_of(db, LISTING, asked, project)
    sql = ordered(LISTING.select, window, arguments=1)
    rows = await db.read(sql, project, window.low, window.high, asked.limit + 1)
    stores = [StoredStore(*row) for row in rows]
    contents = await contents_of(db, [stored.id for stored in stores])
    bodies = [
        (stored.id, _encode(show(stored, contents.get(stored.id, Content()), now=now)))
        for stored in stores
    ]
    return page_of(bodies, asked, window)


async def contents_of(db: Database, store_ids: Sequence[str]) -> dict[str, Content]:
    """What is in the stores; nothing of those that are empty."""
    rows = await db.read(COUNTS, _encode(dict.fromkeys(store_ids, "")).decode())
    by_store: dict[str, list[Row]] = {}
    for store_id, *counted in rows:
        by_store.setdefault(store_id, []).append(tuple(counted))
    return {store_id: content_of(counted) for store_id, counted in by_store.items()}


def content_of(rows: Iterable[Row]) -> Content:
    """Rows of a status, how many files have it, and their bytes."""
    counted = {status: (count, size) for status, count, size in rows}
    counts = {status: count for status, (count, _) in counted.items()}
    return Content(
        FileCounts(**counts, total=sum(counts.values())),
        sum(size for _, size in counted.values()),
    )


def modified(stored: StoredStore, asked: ModifyVectorStore, *, now: int) -> StoredStore:
    """The store with what was asked replaced; that is a use of it."""
    body = _bodies.decode(stored.body)
    changed = structs.replace(
        body,
        name=body.name if asked.name is None else asked.name,
        metadata=body.metadata if asked.metadata is None else asked.metadata,
    )
    days = asked.expires_after.days if asked.expires_after else stored.expires_after
    return stored._replace(
        body=_encode(changed),
        expires_after=days,
        expires_at=None if days is None else now + days * DAY_SECONDS,
        last_active_at=now,
    )


async def replace(
    db: Database, old: StoredStore, new: StoredStore, *, also: Sequence[Statement] = ()
) -> None:
    """Put a store in its new state; Raced if it was changed, or its time was over, meanwhile."""
    change = Statement(
        REPLACE, old.id, new.last_active_at, old.body, new.body, new.expires_after, new.expires_at
    )
    if not await db.write(change, *also):
        raise Raced(f"Vector store '{old.id}' was modified at the same time.")


async def delete(db: Database, project: str, store_id: str, *, now: int) -> None:
    """Delete it, or NotFound; its files stay, but what was read of them goes."""
    rows = await db.read(NUMBER, project, store_id)
    if not rows or not await db.write(
        Statement(DELETE, store_id, project),
        Statement(STOP_READING, store_id),
        Statement(REMEMBER_TO_PURGE, store_id),
        bury(project, store_id, rows[0][0], now=now),
    ):
        raise NotFound("vector store", store_id)


async def empty_expired(db: Database) -> bool:
    """Begin to clean away what was read for stores whose time is over; True for some."""
    now = int(db.now())
    overdue = [row[0] for row in await db.read(OVERDUE, now)]
    for store_id in overdue:
        await db.write(
            Statement(EMPTY, store_id, now),
            Statement(STOP_READING, store_id),
            Statement(REMEMBER_TO_PURGE, store_id),
        )
    return bool(overdue)
