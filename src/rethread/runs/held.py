"""The run that a driver holds: as it stands on disk, how it moves, and what interrupts it.

What it is moved by, and when, is the driver's to say. After each refusal it is read again, so
that what is shown of it is never older than what is on disk.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

import msgspec

from rethread.contract.events import Event
from rethread.contract.runs import Run
from rethread.runs.commands import rest_topic
from rethread.runs.lifecycle import AT_REST, TERMINAL
from rethread.runs.recorder import RUN_EVENTS, Recorder, Replaced
from rethread.store import leases, runs
from rethread.store.database import Database, Statement
from rethread.store.leases import Lease
from rethread.store.wakeups import Wakeup

Interruption = Literal["cancelled", "expired"]


class HeldRun:
    """One run under one lease."""

    def __init__(
        self,
        db: Database,
        lease: Lease,
        recorder: Recorder,
        body: bytes,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._db = db
        self._lease = lease
        self._recorder = recorder
        self._body = body
        self._clock = clock
        self.run = msgspec.json.decode(body, type=Run)

    async def commit(self, run: Run, events: Sequence[Event], *also: Statement) -> bool:
        """Write the run's new status with these events; False if it has moved meanwhile."""
        body = msgspec.json.encode(run)
        rested_at = self.now() if run.status in TERMINAL else None
        statements = [runs.replacing(run, old=self._body, new=body, rested_at=rested_at), *also]
        if run.status in TERMINAL:
            statements.append(runs.freeing_thread(run.thread_id, run.id))
        if run.status in AT_REST:
            statements.append(leases.finishing(self._lease))
        if not await self._recorder.commit(
            [*events, Event(RUN_EVENTS[run.status], run)], *statements
        ):
            return False
        self.run, self._body = run, body
        self._db.notify(rest_topic(run.id))
        return True

    async def reload(self) -> None:
        """Read the run again after a refusal; Replaced if it is not the run that has moved."""
        before = self._body
        await self.look_for_interruption()
        if self._body == before:
            raise Replaced

    async def look_for_interruption(self) -> Interruption | None:
        """What has interrupted it since, by what is on disk; Replaced if it is gone."""
        stored = await runs.to_drive(self._db, self.run.thread_id, self.run.id)
        if stored is None:
            raise Replaced
        self._body = stored.body
        self.run = msgspec.json.decode(stored.body, type=Run)
        return self.interruption()

    def interruption(self) -> Interruption | None:
        """What has interrupted it, as far as is known here."""
        if self.run.status == "cancelling":
            return "cancelled"
        return "expired" if self.seconds_left() <= 0 else None

    async def unless_interrupted(
        self, work: Coroutine[Any, Any, None], wakeup: Wakeup
    ) -> Interruption | None:
        """Do the work; what has cut it short, or None if it is done."""
        working = asyncio.create_task(work)
        try:
            while True:
                waking = asyncio.create_task(wakeup.wait(timeout_seconds=self.seconds_left()))
                await asyncio.wait({working, waking}, return_when=asyncio.FIRST_COMPLETED)
                is_woken = not waking.cancel() and waking.result()
                if working.done():
                    if is_woken:
                        wakeup.wake(from_afar=False)  # what is done next has to hear it
                    await working
                    return None
                if interruption := await self.look_for_interruption():
                    return interruption
        finally:
            working.cancel()
            # What it breaks off with after an interruption is nobody's concern.
            await asyncio.gather(working, return_exceptions=True)

    def seconds_left(self) -> float:
        """Of the run's own time."""
        assert self.run.expires_at is not None
        return self.run.expires_at - self._clock()

    def now(self) -> int:
        """The time in whole seconds, as objects show it."""
        return int(self._clock())
