"""The files of vector stores, over HTTP."""

from rethread.contract import check_id
from rethread.contract.vector_stores import (
    CreateVectorStoreFile,
    FileContent,
    FileToAdd,
    ListVectorStoreFiles,
    ModifyVectorStoreFile,
    TextContent,
    VectorStoreFile,
)
from rethread.errors import Conflict
from rethread.http.codec import (
    decode,
    deleted_reply,
    encode,
    fitted,
    page_reply,
    page_request,
    query_values,
    reply,
)
from rethread.http.polling import POLL_AFTER, held
from rethread.http.request import Reply, Request, Response
from rethread.http.vector_stores import store_id_of
from rethread.store import chunks, ingestions, vector_store_files, vector_stores
from rethread.store.vector_store_files import StoredVectorStoreFile, ingested_topic
from rethread.tools.file_search.stores import adding_files, text_of


async def create(request: Request) -> Response:
    """POST /vector_stores/{vector_store_id}/files"""
    asked = decode(request, CreateVectorStoreFile)
    store_id = store_id_of(request)
    file = FileToAdd(
        file_id=asked.file_id,
        attributes=asked.attributes,
        chunking_strategy=asked.chunking_strategy,
    )
    (shown,) = await predicted(request, store_id, [file])
    body = encode(shown)
    statements = await adding_files(request.db, request.project, store_id, [file], now=request.now)
    if not await request.db.write(*statements, *request.also(body)):
        raise await vector_store_files.refusal(
            request.db, request.project, store_id, adding=1, now=request.now
        )
    request.db.notify(ingestions.TOPIC)
    return _file_reply(shown)


async def list_page(request: Request) -> Response:
    """GET /vector_stores/{vector_store_id}/files"""
    store_id = store_id_of(request)
    asked = filtered(request)
    await vector_stores.get(request.db, request.project, store_id)
    return page_reply(
        await vector_store_files.page(
            request.db, store_id, page_request(request), status=asked.filter
        )
    )


async def retrieve(request: Request) -> Response:
    """GET /vector_stores/{vector_store_id}/files/{file_id}"""
    found = await held(
        request,
        ingested_topic(store_id_of(request)),
        lambda: _get(request),
        is_at_rest=lambda found: found.shown.status != "in_progress",
    )
    return _file_reply(found.shown)


async def modify(request: Request) -> Response:
    """POST /vector_stores/{vector_store_id}/files/{file_id}"""
    asked = decode(request, ModifyVectorStoreFile)
    found = await _get(request)
    shown = found.shown.with_attributes(asked.attributes or {})
    also = request.also(encode(shown))
    await vector_store_files.relabel(request.db, found, shown.attributes, also=also)
    return _file_reply(shown)


async def delete(request: Request) -> Response:
    """DELETE /vector_stores/{vector_store_id}/files/{file_id}"""
    found = await _get(request)
    await vector_store_files.remove(request.db, found, now=request.now)
    request.db.notify(ingested_topic(found.shown.vector_store_id))
    return deleted_reply(found.shown.id, "vector_store.file.deleted")


async def content(request: Request) -> Response:
    """GET /vector_stores/{vector_store_id}/files/{file_id}/content"""
    found = await _get(request)
    file = found.shown
    store_id = file.vector_store_id
    await vector_stores.usable(request.db, request.project, store_id, now=request.now)
    if file.status != "completed":
        raise Conflict(f"File '{file.id}' has no content to show: its status is '{file.status}'.")
    text = text_of(await chunks.texts(request.db, found.number))
    return reply(encode(FileContent([TextContent(text)] if text else [])))


async def predicted(
    request: Request, store_id: str, files: list[FileToAdd]
) -> list[VectorStoreFile]:
    """What the files will be in the store once they are added, each once."""
    await vector_stores.usable(request.db, request.project, store_id, now=request.now)
    there = await vector_store_files.some(request.db, store_id, [file.file_id for file in files])
    first = {file.file_id: file for file in reversed(files)}
    return [
        there[file_id].added_again(file, now=request.now)
        if file_id in there
        else VectorStoreFile.new(file, store_id=store_id, now=request.now)
        for file_id, file in first.items()
    ]


def filtered(request: Request) -> ListVectorStoreFiles:
    """Which files a list shall show."""
    return fitted(query_values(request, ("filter",)), ListVectorStoreFiles)


async def _get(request: Request) -> StoredVectorStoreFile:
    file_id = check_id(request.path_params["file_id"], "file", param="file_id")
    return await vector_store_files.get(request.db, request.project, store_id_of(request), file_id)


def _file_reply(file: VectorStoreFile) -> Reply:
    return Reply(encode(file), headers=(POLL_AFTER,) if file.status == "in_progress" else ())
