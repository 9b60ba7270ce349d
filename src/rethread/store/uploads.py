"""Uploads at rest, and their parts, until each comes to its end."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from rethread.contract.uploads import Upload, UploadStatus
from rethread.errors import Conflict, NotFound, Raced
from rethread.store import blobs
from rethread.store.database import Database, Statement

ADD = """
INSERT INTO uploads (id, project, status, expires_at, expires_after, body)
VALUES ($1, $2, 'pending', $3, $4, $5) RETURNING id
"""
GET = """
SELECT status, expires_at, expires_after, answered, body FROM uploads
 WHERE id = $1 AND project = $2
"""
# The lock keeps the upload from its end until the part is there, to be cleaned away with the rest.
# A part whose answer was lost is sent again, so there may be more than make up the file.
ADD_PART = """
INSERT INTO upload_parts (upload_id, id, blob_id, size, hash)
SELECT pending.id, $2, $3, $4, $7
  FROM (SELECT id FROM uploads
         WHERE id = $1 AND status = 'pending' AND expires_at > $5 {share_lock}) AS pending
 WHERE $6 >= CAST($4 AS BIGINT)
     + (SELECT COALESCE(SUM(size), 0) FROM upload_parts WHERE upload_id = $1)
RETURNING id
"""
PARTS = "SELECT id, blob_id, size, hash FROM upload_parts WHERE upload_id = $1"
END = """
UPDATE uploads SET status = $2, answered = $3, body = $4
 WHERE id = $1 AND status = 'pending' RETURNING id
"""
# The blob goes to where what is being uploaded is: the file takes it from there in the same write.
GIVE_PART = """
INSERT INTO blob_trash (id, due_at)
SELECT blob_id, 1 FROM upload_parts WHERE upload_id = $1 AND id = $2
"""
FORGET_PART = "DELETE FROM upload_parts WHERE upload_id = $1 AND id = $2 RETURNING id"
THROW_PARTS = """
INSERT INTO blob_trash (id, due_at) SELECT blob_id, 0 FROM upload_parts WHERE upload_id = $1
"""
FORGET_PARTS = "DELETE FROM upload_parts WHERE upload_id = $1"
OVERDUE = "SELECT id, body FROM uploads WHERE status = 'pending' AND expires_at <= $1 LIMIT 100"
FORGET = "DELETE FROM uploads WHERE status <> 'pending' AND expires_at <= $1"

KEPT_SECONDS: Final = 24 * 60 * 60  # behind its time, for those who ask what has become of it


class StoredUpload(NamedTuple):
    """An upload; `expires_after` is its file's, in seconds."""

    upload: Upload
    expires_after: int | None
    answered: bytes | None
    body: bytes


class StoredPart(NamedTuple):
    """A part; `blob` is the name of its bytes in the blob store, `content` their SHA-256."""

    id: str
    blob: str
    size: int
    content: bytes


async def add(
    db: Database,
    project: str,
    upload: Upload,
    body: bytes,
    *,
    expires_after: int | None,
    also: Sequence[Statement] = (),
) -> None:
    """Keep a new upload; `also` is written with it, or nothing is and it has Raced."""
    added = Statement(ADD, upload.id, project, upload.expires_at, expires_after, body)
    if not await db.write(added, *also):
        raise Raced(f"Upload '{upload.id}' was not written.")


async def get(db: Database, project: str, upload_id: str) -> StoredUpload:
    """The upload, or NotFound. Its time may be over before anybody has written that down."""
    rows = await db.read(GET, upload_id, project)
    if not rows:
        raise NotFound("upload", upload_id)
    status, expires_at, expires_after, answered, body = rows[0]
    upload = msgspec.json.decode(body, type=Upload)
    if status == "pending" and expires_at <= db.now():
        upload = upload.ended("expired")
    return StoredUpload(upload, expires_after, answered and bytes(answered), bytes(body))


def check_pending(upload: Upload) -> None:
    """Conflict for an upload that has come to its end."""
    if upload.status != "pending":
        raise Conflict(f"Upload {upload.id} is already {upload.status}.")


def adding_part(upload: Upload, part: StoredPart, *, most_bytes: int, now: int) -> list[Statement]:
    """The part, written under a name that was reserved; refused if the upload has ended.

    Also if all its parts would have more than `most_bytes`.
    """
    return [
        blobs.taking_out(part.blob),
        Statement(
            ADD_PART, upload.id, part.id, part.blob, part.size, now, most_bytes, part.content
        ),
    ]


async def parts(db: Database, upload_id: str) -> dict[str, StoredPart]:
    """What has arrived of an upload, by id."""
    return {
        id: StoredPart(id, blob, size, bytes(content))
        for id, blob, size, content in await db.read(PARTS, upload_id)
    }


def ending(
    upload_id: str,
    status: UploadStatus,
    body: bytes,
    *,
    answered: bytes | None,
    whole: StoredPart | None = None,
) -> list[Statement]:
    """The upload's end, refused if it has had one; its parts go.

    But for the one that is the `whole` file: its blob is free to be that of the file.
    """
    kept = (
        [Statement(sql, upload_id, whole.id) for sql in (GIVE_PART, FORGET_PART)] if whole else []
    )
    return [
        Statement(END, upload_id, status, answered, body),
        *kept,
        Statement(THROW_PARTS, upload_id),
        Statement(FORGET_PARTS, upload_id),
    ]


async def expire(db: Database) -> bool:
    """Whether there were some whose time was over; old ones are forgotten."""
    now = int(db.now())
    overdue = await db.read(OVERDUE, now)
    for upload_id, body in overdue:
        upload = msgspec.json.decode(body, type=Upload).ended("expired")
        ended = ending(upload_id, "expired", msgspec.json.encode(upload), answered=None)
        await db.write(*ended)
    await db.write(Statement(FORGET, now - KEPT_SECONDS))
    return bool(overdue)
