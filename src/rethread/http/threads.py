"""Threads, over HTTP."""

import msgspec

from rethread.contract import check_id
from rethread.contract.messages import Message
from rethread.contract.threads import CreateThread, ModifyThread, Thread
from rethread.errors import Raced
from rethread.http.codec import decode, deleted_reply, encode, reply
from rethread.http.request import Request, Response
from rethread.runs.commands import interrupt_topic, rest_topic
from rethread.store import events, messages, threads


async def create(request: Request) -> Response:
    """POST /threads"""
    asked = decode(request, CreateThread)
    thread = Thread.new(asked, now=request.now)
    body = encode(thread)
    first = [
        Message.new(message, thread_id=thread.id, now=request.now)
        for message in asked.messages or []
    ]
    if not await request.db.write(
        threads.adding(
            request.project, thread.id, body, now=request.now, fingerprint=request.fingerprint
        ),
        *(messages.appending(message, encode(message)) for message in first),
        *request.also(body),
    ):
        raise Raced(f"Thread '{thread.id}' was not written.")
    return reply(body)


async def retrieve(request: Request) -> Response:
    """GET /threads/{thread_id}"""
    return reply(await threads.get(request.db, request.project, thread_id_of(request)))


async def modify(request: Request) -> Response:
    """POST /threads/{thread_id}"""
    asked = decode(request, ModifyThread)
    old = await threads.get(request.db, request.project, thread_id_of(request))
    thread = msgspec.json.decode(old, type=Thread).modified(asked)
    body = encode(thread)
    await threads.replace(
        request.db, request.project, thread.id, old=old, new=body, also=request.also(body)
    )
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
