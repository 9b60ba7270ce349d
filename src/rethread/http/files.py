"""Files, over HTTP."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from rethread.contract import ID_CHARACTERS
from rethread.contract.files import CreateFile, File, ListFiles
from rethread.errors import Missing, NoSuchFile
from rethread.http.arrivals import arriving
from rethread.http.codec import (
    deleted_reply,
    encode,
    fitted,
    page_reply,
    page_request,
    query_values,
    reply,
)
from rethread.http.request import Download, Request, Response
from rethread.store import files, vector_store_files

MOST_FILES: Final = 10_000  # on a page; it is also how many there are unless it says otherwise
# What a browser may show without running anything; the rest is bytes to it.
SHOWN_TYPES: Final = {
    "gif": b"image/gif",
    "jpeg": b"image/jpeg",
    "jpg": b"image/jpeg",
    "png": b"image/png",
    "webp": b"image/webp",
}
ANY_TYPE: Final = b"application/octet-stream"
CONTENT_TYPES: Final = (ANY_TYPE, *sorted(set(SHOWN_TYPES.values())))


async def create(request: Request) -> Response:
    """POST /files"""

    def asked(fields: dict[str, Any]) -> CreateFile:
        ignoring = request.services.options.ignore_unknown_fields
        form = fitted(fields, CreateFile, ignore_unknown=ignoring)
        form.check()
        return form

    most_bytes = request.services.options.max_file_bytes
    async with arriving(request, "file", check=asked, most_bytes=most_bytes) as arrival:
        if first := await request.first_answer(arrival.summary):
            return first
        form, stored = asked(arrival.fields), arrival.stored
        file = File.new(
            filename=form.file,
            size=stored.size,
            purpose=form.purpose,
            expires_after=form.expires_after.seconds if form.expires_after else None,
            now=request.now,
        )
        body = encode(file)
        added = files.adding(request.project, file, body, name=stored.blob, content=stored.content)
        if not await request.db.write(*added, *request.also(body)):
            raise files.not_written(file.id)
        stored.is_kept = True
        return reply(body)


async def list_page(request: Request) -> Response:
    """GET /files"""
    asked = fitted(query_values(request, ("purpose",)), ListFiles)
    paging = page_request(request, default_limit=MOST_FILES, max_limit=MOST_FILES)
    return page_reply(await files.page(request.db, request.project, paging, purpose=asked.purpose))


async def retrieve(request: Request) -> Response:
    """GET /files/{file_id}"""
    return reply((await files.get(request.db, request.project, file_id_of(request))).body)


async def delete(request: Request) -> Response:
    """DELETE /files/{file_id}"""
    file_id = file_id_of(request)
    await vector_store_files.delete_file(request.db, request.project, file_id, now=request.now)
    return deleted_reply(file_id, "file")


async def content(request: Request) -> Response:
    """GET /files/{file_id}/content"""
    file = await files.get(request.db, request.project, file_id_of(request))
    extension = file.filename.rpartition(".")[2].lower()
    try:
        pieces = await _begun(request.services.blobs.read(file.blob))
    except Missing:
        # One that was deleted at this moment is no file any more.
        await files.get(request.db, request.project, file.id)
        raise
    return Download(
        pieces=pieces,
        size=file.bytes,
        headers=(
            (b"content-disposition", _disposition(file.filename)),
            (b"x-content-type-options", b"nosniff"),
        ),
        content_type=SHOWN_TYPES.get(extension, ANY_TYPE),
    )


def file_id_of(request: Request) -> str:
    """The file that a path names; what cannot be an id is no file's."""
    file_id = request.path_params["file_id"]
    if not ID_CHARACTERS.match(file_id):
        raise NoSuchFile(file_id)
    return file_id


async def _begun(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same, the first one read already: what cannot be had is refused, not broken off."""
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncGenerator[bytes]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return all_pieces()


def _disposition(filename: str) -> bytes:
    """To be saved under its name, which is a name there and never a path (RFC 6266, RFC 8187)."""
    name = filename.replace("\\", "/").rpartition("/")[2] or "file"
    plain = "".join(each if each.isascii() and each.isprintable() else "_" for each in name)
    plain = plain.replace('"', "_").replace("%", "_")
    extended = quote(name.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}".encode()
