"""A held run: what interrupts it is heard, whatever is being done at that moment."""

import asyncio

from rethread.runs.held import HeldRun
from rethread.runs.recorder import Recorder
from rethread.store.events import EventLog
from rethread.store.sqlite import Sqlite
from rethread.store.wakeups import Wakeup
from tests.objects import NOW, claimed, stored_run


async def test_who_is_woken_as_one_piece_of_work_ends_is_awake_for_the_next(
    sqlite: Sqlite,
) -> None:
    log = EventLog(sqlite)
    started = await stored_run(sqlite, log)
    lease = await claimed(sqlite)
    recorder = Recorder(log, lease, last_number=2)
    held = HeldRun(sqlite, lease, recorder, started.body, clock=lambda: float(NOW))
    wakeup = Wakeup()

    async def search() -> None:
        await asyncio.sleep(0)  # until somebody waits for an interruption
        wakeup.wake(from_afar=False)

    assert await held.unless_interrupted(search(), wakeup) is None
    assert await wakeup.wait(timeout_seconds=0.1)
