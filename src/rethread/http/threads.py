"""Threads, over HTTP."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import structs

from rethread.contract import check_id
from rethread.contract.messages import Message, decode_message
from rethread.contract.threads import (
    CreateThread,
    ListThreads,
    ModifyThread,
    SearchResult,
    SearchThreads,
    Thread,
)
from rethread.errors import Invalid, Raced
from rethread.http.codec import (
    decode,
    deleted_reply,
    duplicate,
    encode,
    fitted,
    page_reply,
    page_request,
    query_values,
    reply,
)
from rethread.http.request import Request, Response
from rethread.runs.commands import interrupt_topic, rest_topic
from rethread.store import events, messages, search, threads
from rethread.store.words import Phrase, phrases_of, snippet
from rethread.tools.file_search import resources


async def create(request: Request) -> Response:
    """POST /threads"""
    asked = decode(request, CreateThread)
    thread, bringing = await resources.new_thread(request.owner, asked, None)
    body = encode(thread)
    first = [
        Message.new(message, thread_id=thread.id, now=request.now)
        for message in asked.messages or []
    ]
    if not await request.db.write(
        threads.adding(request.project, thread.id, body, now=request.now),
        *threads.labelling(thread.id, thread.metadata),
        *bringing,
        *(each for message in first for each in messages.appending(message, encode(message))),
        *request.also(body),
    ):
        raise Raced(f"Thread '{thread.id}' was not written.")
    resources.announce(request.db, bringing)
    return reply(body)


async def list_page(request: Request) -> Response:
    """GET /threads"""
    asked = fitted({"metadata": _deep_object(request, "metadata")}, ListThreads)
    found = await threads.page(
        request.db, request.project, page_request(request), metadata=asked.metadata
    )
    return page_reply(found)


async def search_page(request: Request) -> Response:
    """GET /threads/search"""
    phrases = phrases_of(fitted(query_values(request, ("q",)), SearchThreads).q)
    if not phrases:
        raise Invalid(
            "Invalid value for 'q': there is no word in it to search for.",
            param="q",
            code="invalid_value",
        )
    found = await search.page(request.db, request.project, phrases, page_request(request))
    # In a thread: a page of long texts would hold the loop up.
    rows = await asyncio.to_thread(_search_results, found.rows, phrases)
    return page_reply(found._replace(rows=rows))


async def retrieve(request: Request) -> Response:
    """GET /threads/{thread_id}"""
    return reply(await threads.get(request.db, request.project, thread_id_of(request)))


async def modify(request: Request) -> Response:
    """POST /threads/{thread_id}"""
    asked = decode(request, ModifyThread)
    made = await resources.prepared(request.owner.of_thread(), asked.tool_resources)
    old = await threads.get(request.db, request.project, thread_id_of(request))
    thread = msgspec.json.decode(old, type=Thread).modified(
        structs.replace(asked, tool_resources=made.asked)
    )
    body = encode(thread)
    labelling = threads.labelling(thread.id, thread.metadata, anew=True)
    labels = labelling if asked.metadata is not None else []
    also = [*labels, *made.statements, *request.also(body)]
    await threads.replace(request.db, request.project, thread.id, old=old, new=body, also=also)
    resources.announce(request.db, made.statements)
    return reply(body)


async def delete(request: Request) -> Response:
    """DELETE /threads/{thread_id}: its run is stopped, and whoever listens to it is told."""
    thread_id = thread_id_of(request)
    run_id = await threads.delete(request.db, request.project, thread_id)
    if run_id is not None:
        for topic in (interrupt_topic(run_id), rest_topic(run_id), events.topic(run_id)):
            request.db.notify(topic)
    return deleted_reply(thread_id, "thread.deleted")


def thread_id_of(request: Request) -> str:
    """The thread that a path names."""
    return check_id(request.path_params["thread_id"], "thread", param="thread_id")


def _search_results(
    rows: Sequence[tuple[str, bytes]], phrases: Sequence[Phrase]
) -> list[tuple[str, bytes]]:
    found = [decode_message(body) for _, body in rows]
    results = (
        SearchResult(
            id=message.id,
            thread_id=message.thread_id,
            snippet=snippet(search.text_of(message), phrases),
            message=message,
        )
        for message in found
    )
    return [(result.id, encode(result)) for result in results]


def _deep_object(request: Request, name: str) -> dict[str, Any] | None:
    """An object in a query, as SDKs write it: `name[key]=value` for each member."""
    members: dict[str, Any] = {}
    for given, value in request.query():
        if given == name and value:
            raise Invalid(
                f"Invalid type for '{name}': expected an object, but got a string instead.",
                param=name,
                code="invalid_type",
            )
        if given.startswith(f"{name}[") and given.endswith("]"):
            key, is_nested, _ = given[len(name) + 1 : -1].partition("][")
            if key in members:
                raise duplicate(given)
            members[key] = {} if is_nested else value
    return members or None
