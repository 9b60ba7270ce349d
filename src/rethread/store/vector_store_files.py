"""The files of vector stores at rest: how far each is, and what it was given along.

A file stands in a store once. Added again it stays as it is, unless it is to be read in another
way or was not read: then it is a new row with a new number, and what was read before goes.
Whoever takes a row away stops its reading first: the reader's next write is then refused, so no
chunk comes after the purge.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from rethread.contract.vector_stores import (
    DAY_SECONDS,
    MAX_FILES_A_STORE,
    ChunkSizes,
    FileStatus,
    ReadingError,
    ShownChunking,
    VectorStoreFile,
    attribute_rows,
)
from rethread.errors import Conflict, NotInStore, Raced
from rethread.store import files, vector_stores
from rethread.store.database import Database, Row, Statement
from rethread.store.files import StoredFile
from rethread.store.pages import (
    Found,
    Listing,
    PageRequest,
    bury,
    ordered,
    page_of,
    window_of,
)

Attributes = dict[str, str | int | float | bool]

LOCK_STORE = "SELECT id FROM vector_stores WHERE id = $1 {row_lock}"
# Behind the lock, so that two who add at once count one after the other.
TAKE_IN = f"""
UPDATE vector_stores SET last_active_at = $2, expires_at = $2 + expires_after * {DAY_SECONDS}
 WHERE id = $1 AND {vector_stores.IS_USABLE}
   AND (SELECT COUNT(*) FROM vector_store_files WHERE store_id = $1)
     + (SELECT COUNT(*) FROM {{pairs_of}}(CAST($3 AS {{json}})) AS added
         WHERE NOT EXISTS (SELECT 1 FROM vector_store_files
                            WHERE store_id = $1 AND file_id = added.key))
    <= {MAX_FILES_A_STORE}
RETURNING number
"""
THESE: Final = """
 store_id = $1 AND file_id IN (SELECT added.key FROM {pairs_of}(CAST($2 AS {json})) AS added)
"""
STALE: Final = f"""
{THESE} AND (status IN ('failed', 'cancelled') OR max_chunk_tokens <> $3 OR overlap_tokens <> $4)
"""
OF_STALE: Final = f"(SELECT number FROM vector_store_files WHERE {STALE})"
STOP_STALE = f"DELETE FROM ingestions WHERE file_number IN {OF_STALE}"
PURGE_STALE = f"""
INSERT INTO purged_files (file_number) SELECT number FROM vector_store_files WHERE {STALE}
ON CONFLICT DO NOTHING
"""
UNLABEL_THESE = f"""
DELETE FROM file_attributes
 WHERE file_number IN (SELECT number FROM vector_store_files WHERE {THESE})
"""
DELETE_STALE = f"DELETE FROM vector_store_files WHERE {STALE}"
RELABEL_THESE = f"UPDATE vector_store_files SET attributes = $3 WHERE {THESE}"
# A file that was deleted meanwhile is not added: nobody would take it out again. Nor is it deleted
# meanwhile by one who does not see it here yet.
LOCK_FILES = """
SELECT files.id FROM files
 WHERE files.id IN (SELECT added.key FROM {pairs_of}(CAST($1 AS {json})) AS added) {share_lock}
"""
ADD = """
INSERT INTO vector_store_files (store_id, file_id, status, created_at, filename,
                                max_chunk_tokens, overlap_tokens, attributes)
SELECT CAST($1 AS TEXT), added.key, 'in_progress', CAST($3 AS BIGINT), added.value,
       CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS {bytes})
  FROM {pairs_of}(CAST($2 AS {json})) AS added
 WHERE EXISTS (SELECT 1 FROM files WHERE files.id = added.key)
ON CONFLICT (store_id, file_id) DO NOTHING
"""
# $2 holds, by the files' ids, their attributes of one kind, each an object.
LABEL: Final = """
INSERT INTO file_attributes (file_number, key, store_id, kind, text_value, number_value)
SELECT number, attributes.key, store_id, %s
  FROM {pairs_of}(CAST($2 AS {json})) AS labelled
 CROSS JOIN vector_store_files
 CROSS JOIN {pairs_of}(CAST(labelled.value AS {json})) AS attributes
 WHERE store_id = $1 AND file_id = labelled.key
ON CONFLICT DO NOTHING
"""
LABELS: Final = {
    "text": LABEL % "'text', attributes.value, NULL",
    "number": LABEL % "'number', NULL, CAST(attributes.value AS DOUBLE PRECISION)",
    "boolean": LABEL % "'boolean', NULL, CAST(attributes.value AS DOUBLE PRECISION)",
}
ENQUEUE = f"""
INSERT INTO ingestions (file_number, store_id, urgent)
SELECT number, store_id, CAST($3 AS BIGINT) FROM vector_store_files
 WHERE {THESE} AND status = 'in_progress'
ON CONFLICT (file_number) DO UPDATE
   SET urgent = CASE WHEN excluded.urgent = 1 THEN 1 ELSE ingestions.urgent END
"""
COLUMNS: Final = (
    "number, store_id, file_id, status, usage_bytes, created_at, max_chunk_tokens, "
    "overlap_tokens, attributes, last_error"
)
GET = f"SELECT {COLUMNS} FROM vector_store_files WHERE store_id = $1 AND file_id = $2"
SOME = f"SELECT {COLUMNS} FROM vector_store_files WHERE {THESE}"
NUMBER = "SELECT number FROM vector_store_files WHERE store_id = $1 AND file_id = $2"
UNFINISHED = """
SELECT COUNT(*) FROM vector_store_files
 WHERE store_id IN (SELECT key FROM {pairs_of}(CAST($1 AS {json})) AS wanted)
   AND status = 'in_progress'
"""
# Where a file stood, for cursors. One that comes and goes again has another place each time.
BURY_ALL = """
INSERT INTO tombstones (scope, id, number, deleted_at)
SELECT store_id, file_id, number, CAST($2 AS BIGINT) FROM vector_store_files WHERE file_id = $1
ON CONFLICT (scope, id) DO UPDATE SET number = excluded.number, deleted_at = excluded.deleted_at
"""
OF_FILE = "SELECT store_id FROM vector_store_files WHERE file_id = $1"
UNBURY = "DELETE FROM tombstones WHERE scope = $1 AND id = $2"
LEAVE: Final = (
    """
DELETE FROM ingestions
 WHERE file_number IN (SELECT number FROM vector_store_files WHERE {which})
""",
    """
INSERT INTO purged_files (file_number) SELECT number FROM vector_store_files WHERE {which}
ON CONFLICT DO NOTHING
""",
    """
DELETE FROM file_attributes
 WHERE file_number IN (SELECT number FROM vector_store_files WHERE {which})
""",
    """
DELETE FROM batched_files
 WHERE (store_id, file_id) IN (SELECT store_id, file_id FROM vector_store_files WHERE {which})
""",
)
RELABEL = "UPDATE vector_store_files SET attributes = $2 WHERE number = $1 RETURNING number"
REMOVE = "DELETE FROM vector_store_files WHERE number = $1 RETURNING number"

LISTING = Listing(
    noun="file",
    prefix="file",
    select=f"SELECT {COLUMNS} FROM vector_store_files WHERE store_id = $1",
    number=NUMBER,
    is_cursor_filtered=False,
)
OF_STATUS: Final = " AND status = $2"
OF_BATCH: Final = " AND file_id IN (SELECT file_id FROM batched_files WHERE batch_id = $2)"

_encode: Final = msgspec.json.Encoder().encode
_attributes: Final = msgspec.json.Decoder(Attributes)
_errors: Final = msgspec.json.Decoder(ReadingError)


class StoredVectorStoreFile(NamedTuple):
    """A file in a store; `number` is that of its chunks."""

    number: int
    shown: VectorStoreFile


class Group(NamedTuple):
    """Files that are added to be divided in the same way; `attributes` by the files' ids."""

    files: Sequence[StoredFile]
    sizes: ChunkSizes
    attributes: Mapping[str, Attributes]

    @property
    def names(self) -> str:
        """The files' names by their ids, as JSON. PostgreSQL's text has no place for a NUL."""
        return _json({file.id: file.filename.replace("\0", "\ufffd") for file in self.files})


def ingested_topic(store_id: str) -> str:
    """What is notified when a file of the store comes to rest: read, failed, or gone."""
    return f"ingested:{store_id}"


def taking_in(store_id: str, groups: Iterable[Group], *, now: int) -> list[Statement]:
    """The check that a store is in use and has room for the files; it is a use of the store."""
    file_ids = {file.id: "" for group in groups for file in group.files}
    return [
        Statement(LOCK_STORE, store_id),
        Statement(TAKE_IN, store_id, now, _json(file_ids)),
    ]


def adding(
    store_id: str, group: Group, *, now: int, is_new: bool = False, is_urgent: bool = False
) -> list[Statement]:
    """The statements that put files into a store, to be read soon; `is_new` is the store."""
    names = group.names
    sizes = (group.sizes.max_chunk_size_tokens, group.sizes.chunk_overlap_tokens)
    instead = [
        Statement(STOP_STALE, store_id, names, *sizes),
        Statement(PURGE_STALE, store_id, names, *sizes),
        Statement(UNLABEL_THESE, store_id, names),
        Statement(DELETE_STALE, store_id, names, *sizes),
    ]
    return [
        Statement(LOCK_FILES, names),
        *([] if is_new else instead),
        Statement(ADD, store_id, names, now, *sizes, b"{}"),
        *_relabelling(store_id, group),
        *_labelling(store_id, group.attributes),
        Statement(ENQUEUE, store_id, names, int(is_urgent)),
    ]


async def refusal(db: Database, project: str, store_id: str, *, adding: int, now: int) -> Exception:
    """Why files could not be added."""
    stored = await vector_stores.usable(db, project, store_id, now=now)
    content = (await vector_stores.contents_of(db, [store_id])).get(store_id)
    total = content.counts.total if content else 0
    if total + adding <= MAX_FILES_A_STORE:
        return Raced(f"Vector store '{stored.id}' was busy.")
    return Conflict(
        f"Vector store '{stored.id}' has {total} files: with {adding} more it would have more "
        f"than {MAX_FILES_A_STORE}, which are the most."
    )


async def get(db: Database, project: str, store_id: str, file_id: str) -> StoredVectorStoreFile:
    """The file in the store; NotFound without the store, NotInStore without the file."""
    await vector_stores.get(db, project, store_id)
    rows = await db.read(GET, store_id, file_id)
    if not rows:
        raise NotInStore(file_id, store_id)
    return _stored(rows[0])


async def some(db: Database, store_id: str, file_ids: Iterable[str]) -> dict[str, VectorStoreFile]:
    """Those of the files that are in the store, by their ids."""
    rows = await db.read(SOME, store_id, _json(dict.fromkeys(file_ids, "")))
    shown = (_stored(row).shown for row in rows)
    return {file.id: file for file in shown}


async def page(
    db: Database,
    store_id: str,
    asked: PageRequest,
    *,
    status: FileStatus | None = None,
    batch_id: str | None = None,
) -> Found:
    """A page of the files in a store, or of those that came in one batch."""
    filters = [each for each in (batch_id, status) if each is not None]
    select = LISTING.select + (OF_BATCH if batch_id else "")
    select += OF_STATUS.replace("$2", f"${1 + len(filters)}") if status else ""
    window = await window_of(db, LISTING, asked, store_id)
    rows = await db.read(
        ordered(select, window, arguments=1 + len(filters)),
        store_id,
        *filters,
        window.low,
        window.high,
        asked.limit + 1,
    )
    shown = [_stored(row).shown for row in rows]
    return page_of([(file.id, _encode(file)) for file in shown], asked, window)


async def unfinished(db: Database, store_ids: Sequence[str]) -> int:
    """How many files of these stores are still being read, or wait for it."""
    rows = await db.read(UNFINISHED, _json(dict.fromkeys(store_ids, "")))
    return int(rows[0][0])


async def relabel(
    db: Database,
    stored: StoredVectorStoreFile,
    attributes: Attributes,
    *,
    also: Sequence[Statement] = (),
) -> None:
    """Give the file these attributes in the place of others; NotInStore if it has gone."""
    store_id, file_id = stored.shown.vector_store_id, stored.shown.id
    names = _json({file_id: ""})
    if not await db.write(
        Statement(RELABEL, stored.number, _encode(attributes)),
        Statement(UNLABEL_THESE, store_id, names),
        *_labelling(store_id, {file_id: attributes}),
        *also,
    ):
        raise NotInStore(file_id, store_id)


async def remove(db: Database, stored: StoredVectorStoreFile, *, now: int) -> None:
    """Take a file out of a store, or NotInStore; the file itself stays."""
    store_id, file_id = stored.shown.vector_store_id, stored.shown.id
    if not await db.write(
        *_leaving("store_id = $1 AND file_id = $2", store_id, file_id),
        Statement(REMOVE, stored.number),
        Statement(UNBURY, store_id, file_id),
        bury(store_id, file_id, stored.number, now=now),
    ):
        raise NotInStore(file_id, store_id)


def forgetting_file(file_id: str, *, now: int) -> list[Statement]:
    """The statements that take a file out of every store that it is in."""
    return [
        *_leaving("file_id = $1", file_id),
        Statement(BURY_ALL, file_id, now),
        Statement("DELETE FROM vector_store_files WHERE file_id = $1", file_id),
    ]


async def delete_file(db: Database, project: str, file_id: str, *, now: int) -> None:
    """Delete a file, which then is in no store any more; NoSuchFile if there is none."""
    store_ids = [row[0] for row in await db.read(OF_FILE, file_id)]
    await files.delete(db, project, file_id, also=forgetting_file(file_id, now=now))
    for store_id in store_ids:
        db.notify(ingested_topic(store_id))


def _leaving(which: str, *arguments: str) -> list[Statement]:
    """What goes before such rows do: their reading, their chunks, what hangs on them."""
    return [Statement(sql.replace("{which}", which), *arguments) for sql in LEAVE]


def _relabelling(store_id: str, group: Group) -> list[Statement]:
    """The statements that give files their attributes, those together that have the same ones."""
    alike: dict[bytes, list[str]] = {}
    for file in group.files:
        alike.setdefault(_encode(group.attributes.get(file.id, {})), []).append(file.id)
    return [
        Statement(RELABEL_THESE, store_id, _json(dict.fromkeys(file_ids, "")), attributes)
        for attributes, file_ids in alike.items()
    ]


def _labelling(store_id: str, attributes: Mapping[str, Attributes]) -> list[Statement]:
    """The statements that keep attributes for filters: one for each kind that there is."""
    by_kind: dict[str, dict[str, dict[str, str | float | None]]] = {}
    for file_id, labels in attributes.items():
        for row in attribute_rows(labels):
            kept = by_kind.setdefault(row.kind, {}).setdefault(file_id, {})
            kept[row.key] = row.text if row.kind == "text" else row.number
    return [
        Statement(sql, store_id, _json(by_kind[kind]))
        for kind, sql in LABELS.items()
        if kind in by_kind
    ]


def _json(value: object) -> str:
    return _encode(value).decode()


def _stored(row: Row) -> StoredVectorStoreFile:
    number, store_id, file_id, status, usage, created_at, most, overlap, attributes, error = row
    return StoredVectorStoreFile(
        number,
        VectorStoreFile(
            id=file_id,
            usage_bytes=usage,
            created_at=created_at,
            vector_store_id=store_id,
            status=status,
            last_error=None if error is None else _errors.decode(error),
            chunking_strategy=ShownChunking(
                ChunkSizes(max_chunk_size_tokens=most, chunk_overlap_tokens=overlap)
            ),
            attributes=_attributes.decode(attributes),
        ),
    )
