"""Puts a run's events on disk, and with them the rows that they speak of.

Events are stored before they are heard. A token does not cost a commit: what arrives while
one append is under way is merged and becomes the next.
"""

import asyncio
from typing import Final

import msgspec

from rethread.contract.events import Event, EventName, render
from rethread.contract.messages import Message
from rethread.contract.runs import RunStatus
from rethread.contract.steps import Step
from rethread.runs.merging import merged
from rethread.store import messages, steps
from rethread.store.database import Statement
from rethread.store.events import EventLog, Record
from rethread.store.leases import Lease

EVENTS_AT_ONCE: Final = 32  # a record is what every listener holds one of

RUN_EVENTS: Final[dict[RunStatus, EventName]] = {
    "in_progress": "thread.run.in_progress",
    "requires_action": "thread.run.requires_action",
    "cancelling": "thread.run.cancelling",
    "cancelled": "thread.run.cancelled",
    "completed": "thread.run.completed",
    "incomplete": "thread.run.incomplete",
    "failed": "thread.run.failed",
    "expired": "thread.run.expired",
}


class Replaced(Exception):
    """The run is not ours any more: another drives it, or its thread was deleted."""


class Recorder:
    """Appends to one run's log for as long as its lease holds."""

    def __init__(self, log: EventLog, lease: Lease, *, last_number: int) -> None:
        self._log = log
        self._lease = lease
        self._last_number = last_number
        self._pending: list[Event] = []
        self._flushing: asyncio.Task[None] | None = None

    def record(self, events: list[Event]) -> None:
        """Have the events appended soon; Replaced if an earlier append was refused."""
        self._pending += events
        if self._flushing is not None and self._flushing.done():
            self._flushing.result()
            self._flushing = None
        if self._flushing is None and self._pending:
            self._flushing = asyncio.create_task(self._flush())
            self._flushing.add_done_callback(_take_note)

    async def commit(self, events: list[Event], *also: Statement) -> bool:
        """Append what waits and these events as one, with `also`; False if that was refused.

        After a refusal nothing has changed, so the same events may be committed again.
        """
        await self.settle()
        return await self._append([*self._pending, *events], *also)

    async def settle(self) -> None:
        """Return once everything recorded is on disk; Replaced if it was refused."""
        if self._flushing is not None:
            # Whoever stops waiting must not stop the write: it would be on disk, but unknown here.
            await asyncio.shield(self._flushing)
            self._flushing = None

    async def _flush(self) -> None:
        while self._pending:
            waiting, self._pending = merged(self._pending), []
            for start in range(0, len(waiting), EVENTS_AT_ONCE):
                if not await self._append(waiting[start : start + EVENTS_AT_ONCE]):
                    raise Replaced

    async def _append(self, events: list[Event], *also: Statement) -> bool:
        first = self._last_number + 1
        numbered = enumerate(events, first)
        body = b"".join(render(event, number) for number, event in numbered)
        record = Record(first, self._last_number + len(events), body)
        rows = [statement for event in events for statement in rows_of(event)]
        fence = self._lease.fence
        appended = await self._log.append(*self._lease[:2], record, *rows, *also, fence=fence)
        if appended:
            self._last_number = record.last
        return appended


def _take_note(flushing: asyncio.Task[None]) -> None:
    """A driver that leaves its run does not ask how its last append went: no error to log."""
    if not flushing.cancelled():
        flushing.exception()


def rows_of(event: Event) -> list[Statement]:
    """What an event changes in the tables of messages and steps."""
    payload = event.payload
    match event.name:
        case "thread.message.created":
            assert isinstance(payload, Message)
            return messages.appending(payload, msgspec.json.encode(payload))
        case "thread.message.completed" | "thread.message.incomplete":
            assert isinstance(payload, Message)
            return messages.finishing(payload, msgspec.json.encode(payload))
        case "thread.run.step.created":
            assert isinstance(payload, Step)
            return [steps.adding(payload, msgspec.json.encode(payload))]
        case (
            "thread.run.step.completed"
            | "thread.run.step.failed"
            | "thread.run.step.cancelled"
            | "thread.run.step.expired"
        ):
            assert isinstance(payload, Step)
            return [steps.replacing(payload, msgspec.json.encode(payload))]
        case _:
            return []
