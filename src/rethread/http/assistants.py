"""Assistants, over HTTP."""

import msgspec
from msgspec import structs

from rethread.contract import check_id
from rethread.contract.assistants import Assistant, CreateAssistant, ModifyAssistant
from rethread.http.codec import decode, deleted_reply, encode, page_reply, page_request, reply
from rethread.http.request import Request, Response
from rethread.store import assistants
from rethread.tools.file_search import resources


async def create(request: Request) -> Response:
    """POST /assistants"""
    asked = decode(request, CreateAssistant)
    made = await resources.prepared(request.owner, asked.tool_resources)
    asked = structs.replace(asked, tool_resources=made.asked)
    assistant = Assistant.new(asked, now=request.now)
    body = encode(assistant)
    await assistants.add(
        request.db,
        request.project,
        assistant.id,
        body,
        now=request.now,
        also=[*made.statements, *request.also(body)],
    )
    resources.announce(request.db, made.statements)
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
    made = await resources.prepared(request.owner, asked.tool_resources)
    asked = structs.replace(asked, tool_resources=made.asked)
    old = await assistants.get(request.db, request.project, _id(request))
    assistant = msgspec.json.decode(old, type=Assistant).modified(asked)
    body = encode(assistant)
    also = [*made.statements, *request.also(body)]
    await assistants.replace(
        request.db, request.project, assistant.id, old=old, new=body, also=also
    )
    resources.announce(request.db, made.statements)
    return reply(body)


async def delete(request: Request) -> Response:
    """DELETE /assistants/{assistant_id}"""
    assistant_id = _id(request)
    await assistants.delete(request.db, request.project, assistant_id, now=request.now)
    return deleted_reply(assistant_id, "assistant.deleted")


def _id(request: Request) -> str:
    return check_id(request.path_params["assistant_id"], "asst", param="assistant_id")
