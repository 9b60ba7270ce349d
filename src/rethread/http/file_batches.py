"""Batches of files for vector stores, over HTTP."""

from rethread.contract import check_id
from rethread.contract.vector_stores import (
    CancelFileBatch,
    CreateFileBatch,
    FileBatch,
    counts_of,
)
from rethread.http.codec import decode, encode, page_reply, page_request
from rethread.http.polling import POLL_AFTER, held
from rethread.http.request import Reply, Request, Response
from rethread.http.vector_store_files import filtered, predicted
from rethread.http.vector_stores import store_id_of
from rethread.store import file_batches, ingestions, vector_store_files
from rethread.store.vector_store_files import ingested_topic
from rethread.tools.file_search.stores import adding_files


async def create(request: Request) -> Response:
    """POST /vector_stores/{vector_store_id}/file_batches"""
    asked = decode(request, CreateFileBatch)
    store_id = store_id_of(request)
    files = await predicted(request, store_id, asked.to_add)
    batch = FileBatch.new(
        counts_of(file.status for file in files), store_id=store_id, now=request.now
    )
    body = encode(batch)
    if not await request.db.write(
        *await adding_files(request.db, request.project, store_id, asked.to_add, now=request.now),
        *file_batches.adding(batch, [file.id for file in files]),
        *request.also(body),
    ):
        raise await vector_store_files.refusal(
            request.db, request.project, store_id, adding=len(files), now=request.now
        )
    request.db.notify(ingestions.TOPIC)
    return _batch_reply(batch)


async def retrieve(request: Request) -> Response:
    """GET /vector_stores/{vector_store_id}/file_batches/{batch_id}"""
    found = await held(
        request,
        ingested_topic(store_id_of(request)),
        lambda: _get(request),
        is_at_rest=lambda batch: not batch.file_counts.in_progress,
    )
    return _batch_reply(found)


async def cancel(request: Request) -> Response:
    """POST /vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel"""
    decode(request, CancelFileBatch)
    batch = await _get(request)
    await file_batches.cancel(request.db, batch.id)
    request.db.notify(ingested_topic(batch.vector_store_id))
    return _batch_reply(await _get(request))


async def list_files(request: Request) -> Response:
    """GET /vector_stores/{vector_store_id}/file_batches/{batch_id}/files"""
    asked = filtered(request)
    batch = await _get(request)
    return page_reply(
        await vector_store_files.page(
            request.db,
            batch.vector_store_id,
            page_request(request),
            status=asked.filter,
            batch_id=batch.id,
        )
    )


async def _get(request: Request) -> FileBatch:
    batch_id = check_id(request.path_params["batch_id"], "vsfb", param="batch_id")
    return await file_batches.get(request.db, request.project, store_id_of(request), batch_id)


def _batch_reply(batch: FileBatch) -> Reply:
    is_busy = batch.file_counts.in_progress > 0
    return Reply(encode(batch), headers=(POLL_AFTER,) if is_busy else ())
