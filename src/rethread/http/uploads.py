"""Uploads, over HTTP."""

import hashlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from rethread.blobs import Piece
from rethread.contract import check_id, new_id
from rethread.contract.files import File
from rethread.contract.uploads import (
    MAX_PART_BYTES,
    AddUploadPart,
    CancelUpload,
    CompleteUpload,
    CreateUpload,
    Upload,
    UploadPart,
)
from rethread.errors import Conflict, Invalid, RethreadError
from rethread.http.arrivals import arriving, storing
from rethread.http.codec import decode, encode, fitted, reply
from rethread.http.request import Request, Response
from rethread.store import files, uploads
from rethread.store.uploads import StoredPart, StoredUpload


async def create(request: Request) -> Response:
    """POST /uploads"""
    asked = decode(request, CreateUpload)
    most = request.services.options.max_upload_bytes
    if asked.bytes > most:
        raise Invalid(
            f"Invalid 'bytes': integer above maximum value. Expected a value <= {most}, but got "
            f"{asked.bytes} instead.",
            param="bytes",
            code="integer_above_max_value",
        )
    upload = Upload.new(asked, now=request.now)
    body = encode(upload)
    await uploads.add(
        request.db,
        request.project,
        upload,
        body,
        expires_after=asked.expires_after.seconds if asked.expires_after else None,
        also=request.also(body),
    )
    return reply(body)


async def add_part(request: Request) -> Response:
    """POST /uploads/{upload_id}/parts"""

    def check(fields: dict[str, Any]) -> AddUploadPart:
        ignoring = request.services.options.ignore_unknown_fields
        return fitted(fields, AddUploadPart, ignore_unknown=ignoring)

    upload = (await _get(request)).upload
    uploads.check_pending(upload)
    async with arriving(request, "data", check=check, most_bytes=MAX_PART_BYTES) as arrival:
        if first := await request.first_answer(arrival.summary):
            return first
        stored = arrival.stored
        part = StoredPart(new_id("part"), stored.blob, stored.size, stored.content)
        body = encode(UploadPart(id=part.id, created_at=request.now, upload_id=upload.id))
        most_bytes = 2 * max(upload.bytes, MAX_PART_BYTES)
        added = uploads.adding_part(
            upload, part, most_bytes=most_bytes, now=int(request.services.clock())
        )
        if not await request.db.write(*added, *request.also(body)):
            uploads.check_pending((await _get(request)).upload)
            raise Conflict(
                f"Upload {upload.id} has been sent twice as many bytes as it shall have, which is "
                f"{upload.bytes}."
            )
        stored.is_kept = True
        return reply(body)


async def complete(request: Request) -> Response:
    """POST /uploads/{upload_id}/complete"""
    asked = decode(request, CompleteUpload)
    found = await _get(request)
    if found.answered and found.answered == request.fingerprint:
        return reply(found.body)
    uploads.check_pending(found.upload)
    try:
        return await _completed(request, found, asked)
    except RethreadError as problem:
        # Its parts go with its end: the same request, sent twice, may have been quicker.
        return await _ended_by_another(request, problem)


async def _completed(request: Request, found: StoredUpload, asked: CompleteUpload) -> Response:
    parts = await _ordered(request, found.upload, asked.part_ids)
    if len(parts) == 1 and not asked.md5:
        [whole] = parts
        return await _with_file(request, found, whole.blob, whole.content, whole=whole)
    md5 = hashlib.md5(usedforsecurity=False)
    digests = [md5] if asked.md5 else []
    async with storing(
        request, _joined(request, parts), digests=digests, most_bytes=found.upload.bytes
    ) as stored:
        if asked.md5 and md5.hexdigest() != asked.md5.lower():
            raise Invalid(
                f"The md5 of the parts is {md5.hexdigest()}, not {asked.md5}.",
                param="md5",
                code="invalid_value",
            )
        response = await _with_file(request, found, stored.blob, stored.content)
        stored.is_kept = True
        return response


async def _with_file(
    request: Request,
    found: StoredUpload,
    blob: str,
    content: bytes,
    *,
    whole: StoredPart | None = None,
) -> Response:
    """The upload's end, with the file that has this blob; it may be that of a part."""
    file = _file(found)
    body = encode(found.upload.ended("completed", file=file))
    written = await request.db.write(
        *uploads.ending(
            found.upload.id, "completed", body, answered=request.fingerprint, whole=whole
        ),
        *files.adding(request.project, file, encode(file), name=blob, content=content),
        *request.also(body),
    )
    if not written:
        raise files.not_written(found.upload.id)
    return reply(body)


async def cancel(request: Request) -> Response:
    """POST /uploads/{upload_id}/cancel"""
    decode(request, CancelUpload)
    found = await _get(request)
    if found.answered and found.answered == request.fingerprint:
        return reply(found.body)
    uploads.check_pending(found.upload)
    body = encode(found.upload.ended("cancelled"))
    ended = uploads.ending(found.upload.id, "cancelled", body, answered=request.fingerprint)
    if not await request.db.write(*ended, *request.also(body)):
        return await _ended_by_another(request, files.not_written(found.upload.id))
    return reply(body)


async def _ended_by_another(request: Request, problem: RethreadError) -> Response:
    """The answer that the same request has had, or a refusal; the problem if it has not ended."""
    found = await _get(request)
    if found.answered and found.answered == request.fingerprint:
        return reply(found.body)
    uploads.check_pending(found.upload)
    raise problem


async def _get(request: Request) -> StoredUpload:
    upload_id = check_id(request.path_params["upload_id"], "upload", param="upload_id")
    return await uploads.get(request.db, request.project, upload_id)


def _file(found: StoredUpload) -> File:
    """What the upload becomes; it counts as made when the upload was."""
    upload = found.upload
    return File.new(
        filename=upload.filename,
        size=upload.bytes,
        purpose=upload.purpose,
        expires_after=found.expires_after,
        now=upload.created_at,
    )


async def _ordered(request: Request, upload: Upload, part_ids: Sequence[str]) -> list[StoredPart]:
    """The parts in the order that is asked for; Invalid where they are not those of the file."""
    there = await uploads.parts(request.db, upload.id)
    seen: set[str] = set()
    for index, part_id in enumerate(part_ids):
        if part_id not in there or part_id in seen:
            what = "is named twice" if part_id in there else f"is none of upload {upload.id}"
            raise Invalid(
                f"Invalid 'part_ids[{index}]': part '{part_id}' {what}.",
                param=f"part_ids[{index}]",
                code="invalid_value",
            )
        seen.add(part_id)
    size = sum(there[part_id].size for part_id in part_ids)
    if size != upload.bytes:
        raise Invalid(
            f"The parts have {size} bytes in all, but upload {upload.id} was created with "
            f"{upload.bytes} bytes.",
            param="part_ids",
            code="invalid_value",
        )
    return [there[part_id] for part_id in part_ids]


async def _joined(request: Request, parts: Sequence[StoredPart]) -> AsyncGenerator[Piece]:
    for part in parts:
        async for piece in request.services.blobs.read(part.blob):
            yield piece
