"""Assistants, over HTTP."""

import msgspec

from rethread.contract import check_id
from rethread.contract.assistants import Assistant, CreateAssistant, ModifyAssistant
from rethread.http.codec import decode, deleted_reply, encode, page_reply, page_request, reply
from rethread.http.request import Request, Response
from rethread.store import assistants


async def create(request: Request) -> Response:
    """POST /assistants"""
    assistant = Assistant.new(decode(request, CreateAssistant), now=request.now)
    body = encode(assistant)
    await assistants.add(
        request.db,
        request.project,
        assistant.id,
        body,
        now=request.now,
        also=request.also(body),
    )
    return reply(body)


async def list_page(request: Request) -> Response:
    """GET /assistants"""
    return page_reply(await assistants.page(request.db, request.project, page_request(request)))


async def retrieve(request: Request) -> Response:
    """GET /assistants/{assistant_id}"""
    return reply(await assistants.get(request.db, request.project, _id(request)))


async def modify(request: Request) -> Response:
    """POST /assistants/{assistant_id}"""
    asked = decode(request, ModifyAssistant)
    old = await assistants.get(request.db, request.project, _id(request))
    assistant = msgspec.json.decode(old, type=Assistant).modified(asked)
    body = encode(assistant)
    await assistants.replace(
        request.db, request.project, assistant.id, old=old, new=body, also=request.also(body)
    )
    return reply(body)


async def delete(request: Request) -> Response:
    """DELETE /assistants/{assistant_id}"""
    assistant_id = _id(request)
    await assistants.delete(request.db, request.project, assistant_id, now=request.now)
    return deleted_reply(assistant_id, "assistant.deleted")


def _id(request: Request) -> str:
    return check_id(request.path_params["assistant_id"], "asst", param="assistant_id")
