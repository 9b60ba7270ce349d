"""Reads as much of a thread as the model is shown, from its newest end."""

from collections.abc import Iterator
from typing import Final

import msgspec

from rethread.contract.messages import Message, decode_message
from rethread.contract.steps import Step
from rethread.runs.window import Window
from rethread.store import messages, steps
from rethread.store.database import Database
from rethread.store.pages import NOWHERE_ABOVE

# Messages read at a time: one page answers most runs; a wide window takes fewer, larger ones.
FIRST_PAGE: Final = 50
LARGEST_PAGE: Final = 800


async def fill(db: Database, thread_id: str, window: Window) -> None:
    """Take the thread's messages and tool calls into the window until it is full.

    Of a long thread, the first message is kept and what is dropped is dropped behind it.
    """
    before = NOWHERE_ABOVE
    limit = FIRST_PAGE
    while not window.is_full:
        page = await messages.older(db, thread_id, before=before, limit=limit)
        is_last = len(page) < limit
        first = 0 if is_last else page[-1][0]
        called = await steps.between(db, thread_id, first=first, before=before)
        if before == NOWHERE_ABOVE and not is_last:
            oldest = await messages.oldest(db, thread_id)
            window.keep_first(decode_message(oldest))
        for item in _newest_first(page, called):
            window.take(item)
        if is_last:
            break
        before = first
        limit = min(limit * 2, LARGEST_PAGE)


def _newest_first(
    page: list[tuple[int, bytes]], called: list[tuple[int, bytes]]
) -> Iterator[Message | Step]:
    """Messages and steps in one order: a step stands behind the message at its position."""
    waiting = iter(called)
    step = next(waiting, None)
    for number, body in page:
        while step is not None and step[0] >= number:
            yield msgspec.json.decode(step[1], type=Step)
            step = next(waiting, None)
        yield decode_message(body)
    while step is not None:
        yield msgspec.json.decode(step[1], type=Step)
        step = next(waiting, None)
