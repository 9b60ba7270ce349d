"""Pages of a list, by key: stable while others insert, and as quick deep inside as at the top.

Every list is ordered by `number`. A cursor is an object's id; one that was deleted since
still marks its place (`tombstones`), so a client may delete while it reads page after page.
"""

from typing import Final, Literal, NamedTuple

from rethread.contract import Prefix, check_id
from rethread.errors import NotFound
from rethread.store.database import Database, Row, Statement

Order = Literal["asc", "desc"]

NOWHERE_BELOW: Final = -1
NOWHERE_ABOVE: Final = 2**62

TOMBSTONE = "SELECT number FROM tombstones WHERE scope = $1 AND id = $2"
FORGET = "DELETE FROM tombstones WHERE deleted_at <= $1"
BURY = "INSERT INTO tombstones (scope, id, number, deleted_at) VALUES ($1, $2, $3, $4)"


class PageRequest(NamedTuple):
    """Which page: at most `limit` objects, after or before the object of that id, exclusive."""

    limit: int = 20
    order: Order = "desc"
    after: str | None = None
    before: str | None = None


class Found(NamedTuple):
    """A page's objects as `(id, body)`, and whether there are more behind."""

    rows: list[tuple[str, bytes]]
    has_more: bool


class Listing(NamedTuple):
    """What a list is made of: SQL with its scope in $1 and its filters, if any, from $2 on.

    `select` ends in its WHERE clause; `number` gives the place of the id in $2 within $1, and
    within the filter in $3 if there is one. Where an object may come to match a filter, or
    cease to, cursors are not filtered: `number` then has no $3.
    """

    noun: str
    prefix: Prefix
    select: str
    number: str
    is_cursor_filtered: bool = True


class Window(NamedTuple):
    """Between which numbers a page lies, both exclusive, and in which direction it is read."""

    low: int
    high: int
    ascending: bool
    is_turned: bool  # read backwards: the page is its rows from the last to the first


async def read_page(
    db: Database, listing: Listing, asked: PageRequest, scope: str, *filters: str
) -> Found:
    """One page; NotFound for a cursor that this list never had."""
    within = (scope, *filters) if listing.is_cursor_filtered else (scope,)
    window = await window_of(db, listing, asked, *within)
    rows = await db.read(
        ordered(listing.select, window, arguments=1 + len(filters)),
        scope,
        *filters,
        window.low,
        window.high,
        asked.limit + 1,
    )
    return page_of([(row[0], row[1]) for row in rows], asked, window)


async def window_of(db: Database, listing: Listing, asked: PageRequest, *within: str) -> Window:
    """Where the page lies that is asked for; `within` is the scope and what filters cursors."""
    after = await _place(db, listing, within, asked.after, param="after")
    before = await _place(db, listing, within, asked.before, param="before")
    low, high = (after, before) if asked.order == "asc" else (before, after)
    # With `before` alone, the page is the one that ends there: read backwards, then turned.
    is_turned = before is not None and after is None
    return Window(
        NOWHERE_BELOW if low is None else low,
        NOWHERE_ABOVE if high is None else high,
        ascending=(asked.order == "asc") != is_turned,
        is_turned=is_turned,
    )


def ordered(select: str, window: Window, *, arguments: int) -> str:
    """The SQL of a page; the window's ends and how many rows to read follow the arguments."""
    low, high, limit = (f"${arguments + place}" for place in (1, 2, 3))
    direction = "ASC" if window.ascending else "DESC"
    return (
        f"{select} AND number > {low} AND number < {high} ORDER BY number {direction} LIMIT {limit}"
    )


def page_of(rows: list[tuple[str, bytes]], asked: PageRequest, window: Window) -> Found:
    """The page that rows are, of which there is one more than was asked for, if there is."""
    page = rows[: asked.limit]
    return Found(page[::-1] if window.is_turned else page, len(rows) > asked.limit)


def bury(scope: str, id: str, number: int, *, now: int) -> Statement:
    """The statement that remembers where a deleted object stood."""
    return Statement(BURY, scope, id, number, now)


async def _place(
    db: Database, listing: Listing, within: tuple[str, ...], cursor: str | None, *, param: str
) -> int | None:
    if cursor is None:
        return None
    check_id(cursor, listing.prefix, param=param)
    scope, *filters = within
    rows: list[Row] = await db.read(listing.number, scope, cursor, *filters)
    rows = rows or await db.read(TOMBSTONE, scope, cursor)
    if not rows:
        raise NotFound(listing.noun, cursor)
    return int(rows[0][0])
