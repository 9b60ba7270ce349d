"""Runs and their steps, over HTTP."""

import msgspec

from rethread.contract import check_id
from rethread.contract.runs import (
    CancelRun,
    CreateRun,
    CreateThreadAndRun,
    ModifyRun,
    Run,
    RunOptions,
    SubmitToolOutputs,
)
from rethread.contract.steps import shown_body
from rethread.errors import Conflict
from rethread.http.codec import (
    decode,
    encode,
    includes_content,
    page_reply,
    page_request,
    reply,
)
from rethread.http.polling import POLL_AFTER, held
from rethread.http.request import Reply, Request, Response
from rethread.http.stream import follow, starting_after
from rethread.http.threads import thread_id_of
from rethread.runs import commands
from rethread.runs.commands import Started, rest_topic
from rethread.runs.lifecycle import AT_REST
from rethread.store import events, runs, steps


async def create(request: Request) -> Response:
    """POST /threads/{thread_id}/runs"""
    asked = decode(request, CreateRun)
    with_content = includes_content(request)
    started = await commands.create(
        request.db,
        request.services.log,
        request.asking,
        thread_id_of(request),
        asked,
        expires_at=_expires_at(request),
        also=request.also_started(is_stream=bool(asked.stream), with_content=with_content),
        dispatch=request.services.dispatch,
    )
    return _started_response(request, asked, started, with_content=with_content)


async def create_thread_and_run(request: Request) -> Response:
    """POST /threads/runs"""
    asked = decode(request, CreateThreadAndRun)
    started = await commands.create_thread_and_run(
        request.db,
        request.services.log,
        request.asking,
        asked,
        expires_at=_expires_at(request),
        also=request.also_started(is_stream=bool(asked.stream)),
        dispatch=request.services.dispatch,
    )
    return _started_response(request, asked, started)


async def list_page(request: Request) -> Response:
    """GET /threads/{thread_id}/runs"""
    thread_id = thread_id_of(request)
    found = await runs.page(request.db, request.project, thread_id, page_request(request))
    return page_reply(found)


async def retrieve(request: Request) -> Response:
    """GET /threads/{thread_id}/runs/{run_id}

    A poll helper says that it is one; its request is held until the run rests, or for a while.
    """
    thread_id, run_id = _ids(request)
    body = await held(
        request,
        rest_topic(run_id),
        lambda: runs.get(request.db, request.project, thread_id, run_id),
        is_at_rest=lambda body: _status(body) in AT_REST,
    )
    return _run_reply(body)


async def modify(request: Request) -> Response:
    """POST /threads/{thread_id}/runs/{run_id}: only at rest."""
    asked = decode(request, ModifyRun)
    old = await runs.get(request.db, request.project, *_ids(request))
    run = msgspec.json.decode(old, type=Run)
    if run.status not in AT_REST:
        raise Conflict(f"Cannot update run with status '{run.status}'.")
    if asked.metadata is not None:
        run = msgspec.structs.replace(run, metadata=asked.metadata)
    body = encode(run)
    await runs.modify(request.db, run, old=old, new=body, also=request.also(body))
    return _run_reply(body)


async def cancel(request: Request) -> Response:
    """POST /threads/{thread_id}/runs/{run_id}/cancel"""
    decode(request, CancelRun)
    body = await commands.cancel(
        request.db, request.asking, *_ids(request), also=request.also_started(is_stream=False)
    )
    return _run_reply(body)


async def submit_tool_outputs(request: Request) -> Response:
    """POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs"""
    asked = decode(request, SubmitToolOutputs)
    started = await commands.submit_tool_outputs(
        request.db,
        request.services.log,
        request.asking,
        *_ids(request),
        asked,
        also=request.also_started(is_stream=bool(asked.stream)),
        dispatch=request.services.dispatch,
    )
    return _started_response(request, asked, started)


async def follow_events(request: Request) -> Response:
    """GET /threads/{thread_id}/runs/{run_id}/events: from the first one on, or behind any."""
    after = starting_after(request)
    with_content = includes_content(request)
    thread_id, run_id = _ids(request)
    await runs.get(request.db, request.project, thread_id, run_id)
    await events.check_kept(request.db, thread_id, run_id)
    return follow(
        request.services,
        thread_id,
        run_id,
        after=after,
        past_rests=True,
        with_content=with_content,
    )


async def list_steps(request: Request) -> Response:
    """GET /threads/{thread_id}/runs/{run_id}/steps"""
    with_content = includes_content(request)
    thread_id, run_id = _ids(request)
    await runs.get(request.db, request.project, thread_id, run_id)
    found = await steps.page(request.db, thread_id, run_id, page_request(request))
    rows = [(id, shown_body(body, with_content=with_content)) for id, body in found.rows]
    return page_reply(found._replace(rows=rows))


async def retrieve_step(request: Request) -> Response:
    """GET /threads/{thread_id}/runs/{run_id}/steps/{step_id}"""
    with_content = includes_content(request)
    thread_id, run_id = _ids(request)
    step_id = check_id(request.path_params["step_id"], "step", param="step_id")
    await runs.get(request.db, request.project, thread_id, run_id)
    body = await steps.get(request.db, request.project, thread_id, run_id, step_id)
    return reply(shown_body(body, with_content=with_content))


def reply_again(body: bytes) -> Reply:
    """The answer that a body was: if it shows a run, with the header that it had."""
    is_run = _shown_decoder.decode(body).object == "thread.run"
    return _run_reply(body) if is_run else Reply(body)


def _started_response(
    request: Request,
    asked: RunOptions | SubmitToolOutputs,
    started: Started,
    *,
    with_content: bool = False,
) -> Response:
    run = started.run
    if asked.stream:
        place = run.thread_id, run.id
        return follow(request.services, *place, after=started.after, with_content=with_content)
    return _run_reply(started.body)


def _run_reply(body: bytes) -> Reply:
    return Reply(body, headers=() if _status(body) in AT_REST else (POLL_AFTER,))


class _Shown(msgspec.Struct):
    object: str = ""
    status: str = ""


_shown_decoder = msgspec.json.Decoder(_Shown)


def _status(body: bytes) -> str:
    return _shown_decoder.decode(body).status


def _expires_at(request: Request) -> int:
    return request.now + request.services.options.run_expiry_seconds


def _ids(request: Request) -> tuple[str, str]:
    run_id = check_id(request.path_params["run_id"], "run", param="run_id")
    return thread_id_of(request), run_id
