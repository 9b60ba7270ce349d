"""A run's event log as server-sent events. Only a listener: it starts nothing, stops nothing."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from rethread.contract.events import KEEP_ALIVE, render_done
from rethread.contract.steps import IS_SEARCH, shown_body
from rethread.errors import Invalid, shortened
from rethread.http.codec import query_values
from rethread.http.request import Request, Services, Stream, StreamPlace
from rethread.store import steps
from rethread.store.events import check_kept

HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold tokens back
)
STEP_ENDED: Final = re.compile(
    rb"(id: \d+\nevent: thread\.run\.step\.(?:completed|failed|cancelled|expired)\ndata: )"
    rb'{"id":"(\w+)"'
)
NUMBER: Final = re.compile(r"[0-9]{1,100}\Z")
MAX_NUMBER: Final = 2**63 - 1  # the largest that databases have; no log comes near


def starting_after(request: Request) -> int:
    """The number of the event behind which a client wants to begin; 0 is the start."""
    name, value = "starting_after", query_values(request, ("starting_after",)).get("starting_after")
    if value is None:
        # As browsers' EventSource sends it; a parameter is somebody's own wish, and wins.
        name, value = "Last-Event-ID", request.header(b"last-event-id")
    if not value:
        return 0
    if not NUMBER.match(value):
        raise Invalid(
            f"Invalid value for '{name}': expected a whole number >= 0, but got "
            f"'{shortened(value)}' instead.",
            param=name,
            code="invalid_value",
        )
    return min(int(value), MAX_NUMBER)


def follow(
    services: Services,
    thread_id: str,
    run_id: str,
    *,
    after: int,
    past_rests: bool = False,
    with_content: bool = False,
) -> Stream:
    """The run's events past a number until it rests, then `done`.

    It ends with the first rest, or `past_rests` where the run rests now. What searches have found
    is shown `with_content`, or by file and score alone.
    """
    place = StreamPlace(thread_id, run_id, after, with_content)
    return Stream(_frames(services, place, past_rests=past_rests), place, HEADERS)


async def _frames(
    services: Services, place: StreamPlace, *, past_rests: bool
) -> AsyncGenerator[bytes]:
    last = place.after
    rests = False
    records = services.log.follow(
        place.thread_id,
        place.run_id,
        after=place.after,
        silence_seconds=services.options.keep_alive_seconds,
        past_rests=past_rests,
    )
    async with aclosing(records):
        async for record in records:
            if record is None:
                yield KEEP_ALIVE
                continue
            if record.first > last + 1:
                rests = False
                break
            last, rests = record.last, record.rests
            body = record.body
            if place.with_content and IS_SEARCH in body:
                body = await _with_content(services, place.thread_id, body)
            if rests and not past_rests:  # in one piece with its last event: one packet
                yield body + render_done(last)
                return
            yield body
    if not rests:
        # Forgotten while it was read: whoever listens must not take that for the end.
        await check_kept(services.db, place.thread_id, place.run_id)
    yield render_done(last)


async def _with_content(services: Services, thread_id: str, body: bytes) -> bytes:
    """A record in which the steps that have ended show what they have found."""
    frames = body.split(b"\n\n")
    for place, frame in enumerate(frames):
        ended = STEP_ENDED.match(frame)
        if ended and IS_SEARCH in frame:
            stored = await steps.of_thread(services.db, thread_id, ended[2].decode())
            if stored is not None:
                frames[place] = ended[1] + shown_body(stored, with_content=True)
    return b"\n\n".join(frames)
