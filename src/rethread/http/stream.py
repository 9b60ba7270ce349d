"""A run's event log as server-sent events. Only a listener: it starts nothing, stops nothing."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from rethread.contract.events import KEEP_ALIVE, render_done
from rethread.http.request import Services, Stream, StreamPlace

HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold tokens back
)


def follow(services: Services, thread_id: str, run_id: str, *, after: int) -> Stream:
    """The run's events past a number until it rests, then `done`."""
    place = StreamPlace(thread_id, run_id, after)
    return Stream(_frames(services, place), place, HEADERS)


async def _frames(services: Services, place: StreamPlace) -> AsyncGenerator[bytes]:
    last = place.after
    records = services.log.follow(
        place.thread_id,
        place.run_id,
        after=place.after,
        silence_seconds=services.options.keep_alive_seconds,
    )
    async with aclosing(records):
        async for record in records:
            if record is None:
                yield KEEP_ALIVE
                continue
            last = record.last
            if record.rests:  # in one piece with its last event: one packet, one wake-up
                yield record.body + render_done(last)
                return
            yield record.body
    yield render_done(last)
