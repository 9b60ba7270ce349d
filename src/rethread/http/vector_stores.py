"""Vector stores, over HTTP."""

from rethread.contract import check_id
from rethread.contract.vector_stores import CreateVectorStore, ModifyVectorStore
from rethread.errors import Raced
from rethread.http.codec import decode, deleted_reply, encode, page_reply, page_request, reply
from rethread.http.request import Request, Response
from rethread.store import ingestions, vector_stores
from rethread.store.vector_store_files import ingested_topic
from rethread.tools.file_search.stores import new_store


async def create(request: Request) -> Response:
    """POST /vector_stores"""
    asked = decode(request, CreateVectorStore)
    embedder = request.services.embedder
    new = await new_store(request.db, request.project, asked, embedder=embedder, now=request.now)
    body = encode(new.shown)
    if not await request.db.write(*new.statements, *request.also(body)):
        raise Raced(f"Vector store '{new.id}' was not written.")
    request.db.notify(ingestions.TOPIC)
    return reply(body)


async def list_page(request: Request) -> Response:
    """GET /vector_stores"""
    asked = page_request(request)
    return page_reply(await vector_stores.page(request.db, request.project, asked, now=request.now))


async def retrieve(request: Request) -> Response:
    """GET /vector_stores/{vector_store_id}"""
    stored = await vector_stores.get(request.db, request.project, store_id_of(request))
    return reply(encode(await vector_stores.shown(request.db, stored, now=request.now)))


async def modify(request: Request) -> Response:
    """POST /vector_stores/{vector_store_id}"""
    asked = decode(request, ModifyVectorStore)
    now = request.now
    old = await vector_stores.usable(request.db, request.project, store_id_of(request), now=now)
    new = vector_stores.modified(old, asked, now=now)
    body = encode(await vector_stores.shown(request.db, new, now=now))
    await vector_stores.replace(request.db, old, new, also=request.also(body))
    return reply(body)


async def delete(request: Request) -> Response:
    """DELETE /vector_stores/{vector_store_id}"""
    store_id = store_id_of(request)
    await vector_stores.delete(request.db, request.project, store_id, now=request.now)
    request.db.notify(ingested_topic(store_id))
    return deleted_reply(store_id, "vector_store.deleted")


def store_id_of(request: Request) -> str:
    """The store that a path names."""
    return check_id(request.path_params["vector_store_id"], "vs", param="vector_store_id")
