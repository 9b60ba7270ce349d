"""Messages, over HTTP."""

from rethread.contract import check_id
from rethread.contract.messages import CreateMessage, Message, ModifyMessage, decode_message
from rethread.errors import Conflict
from rethread.http.codec import (
    decode,
    deleted_reply,
    encode,
    page_reply,
    page_request,
    query_values,
    reply,
)
from rethread.http.request import Request, Response
from rethread.http.threads import thread_id_of
from rethread.store import messages
from rethread.tools.file_search import resources


async def create(request: Request) -> Response:
    """POST /threads/{thread_id}/messages"""
    asked = decode(request, CreateMessage)
    message = Message.new(asked, thread_id=thread_id_of(request), now=request.now)
    body = encode(message)
    attaching = await resources.attaching(request.owner, message.thread_id, [asked])
    await messages.add(
        request.db,
        request.project,
        message,
        body,
        fingerprint=request.mark,
        also=[*attaching, *request.also(body)],
    )
    resources.announce(request.db, attaching)
    return reply(body)


async def list_page(request: Request) -> Response:
    """GET /threads/{thread_id}/messages"""
    run_id = query_values(request, ("run_id",)).get("run_id")
    if run_id is not None:
        check_id(run_id, "run", param="run_id")
    found = await messages.page(
        request.db,
        request.project,
        thread_id_of(request),
        page_request(request),
        run_id=run_id,
    )
    return page_reply(found)


async def retrieve(request: Request) -> Response:
    """GET /threads/{thread_id}/messages/{message_id}"""
    return reply(await messages.get(request.db, request.project, *_ids(request)))


async def modify(request: Request) -> Response:
    """POST /threads/{thread_id}/messages/{message_id}: not while a run is writing it."""
    asked = decode(request, ModifyMessage)
    thread_id, message_id = _ids(request)
    old = await messages.get(request.db, request.project, thread_id, message_id)
    message = decode_message(old)
    if message.status == "in_progress":
        raise Conflict("Cannot update message with status 'in_progress'.")
    body = encode(message.modified(asked))
    await messages.replace(
        request.db, thread_id, message_id, old=old, new=body, also=request.also(body)
    )
    return reply(body)


async def delete(request: Request) -> Response:
    """DELETE /threads/{thread_id}/messages/{message_id}"""
    thread_id, message_id = _ids(request)
    await messages.delete(request.db, request.project, thread_id, message_id, now=request.now)
    return deleted_reply(message_id, "thread.message.deleted")


def _ids(request: Request) -> tuple[str, str]:
    message_id = check_id(request.path_params["message_id"], "msg", param="message_id")
    return thread_id_of(request), message_id
