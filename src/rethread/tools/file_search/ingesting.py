"""The files that this process reads at the same time: claimed some at once, each by itself.

Nothing here depends on a wake-up: one that is lost costs a second. What is cut off goes back
into the queue, and the next reader goes on where this one got to.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from rethread.errors import RethreadError
from rethread.store import ingestions
from rethread.store.ingestions import Reading, Wanted
from rethread.store.wakeups import Wakeup
from rethread.tools.file_search.ingest import Library, ingest

logger = logging.getLogger("rethread.files")

LOOK_EVERY_SECONDS: Final = 1.0
REST_AFTER_FAILURE_SECONDS: Final = 1.0


class Ingesting:
    """Reads up to `most` files at once; more of them than there are processes, so none idles."""

    def __init__(self, library: Library, *, server: str, most: int) -> None:
        self._library = library
        self._server = server
        self._most = most
        self._under_way: set[asyncio.Task[None]] = set()
        self._was_full = False  # when somebody was to be let in
        self._is_leaving = False

    async def run(self) -> None:
        """Claim and read until cancelled."""
        with self._library.db.listen(ingestions.TOPIC) as wakeup:
            while True:
                try:
                    await self._claim(wakeup)
                except Exception as problem:
                    _log_failure("claim of files failed", problem)
                    await asyncio.sleep(REST_AFTER_FAILURE_SECONDS)
                await wakeup.wait(timeout_seconds=LOOK_EVERY_SECONDS)

    def begin_to_leave(self) -> None:
        """Begin with no file any more."""
        self._is_leaving = True

    async def stop(self) -> None:
        """Hand back what is under way; it is read on by whoever claims it next."""
        self._is_leaving = True
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _claim(self, wakeup: Wakeup) -> None:
        """Take what there is room for.

        Half of the places have to be free, so that a claim brings many; what is urgent takes any.
        """
        while not self._is_leaving:
            free = self._most - len(self._under_way)
            self._was_full = free == 0
            if free == 0:
                return
            claimed = await ingestions.claim(
                self._library.db,
                server=self._server,
                most=free,
                urgent_only=free < self._most // 2,
            )
            self._begin(claimed, wakeup)
            if len(claimed) < free:
                return

    def _begin(self, claimed: Sequence[Reading], wakeup: Wakeup) -> None:
        if claimed:
            looking = asyncio.create_task(ingestions.wanted(self._library.db, claimed))
            for reading in claimed:
                task = asyncio.create_task(self._read(reading, looking, wakeup))
                self._under_way.add(task)

    async def _read(
        self, reading: Reading, looking: "asyncio.Task[dict[int, Wanted]]", wakeup: Wakeup
    ) -> None:
        """Read a file; if that breaks off for whatever reason, it goes back to the queue."""
        try:
            await ingest(self._library, reading, looking)
        except asyncio.CancelledError:
            with suppress(RethreadError):  # a database that is away learns it by our silence
                await ingestions.release(self._library.db, reading)
            raise
        except Exception as problem:
            # Nothing that may have gone wrong with one file shall end the others.
            _log_failure("reading a file failed", problem)
            await self._give_back(reading)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._under_way.discard(task)
            # To look for what is urgent at the end of each file would cost as much as to write it.
            if self._was_full or len(self._under_way) <= self._most // 2:
                wakeup.wake(from_afar=False)

    async def _give_back(self, reading: Reading) -> None:
        """Put a file back into the queue, however long the store takes to be writable again."""
        while True:
            await asyncio.sleep(REST_AFTER_FAILURE_SECONDS)
            with suppress(Exception):
                await ingestions.release(self._library.db, reading, after_crash=True)
                return


def _log_failure(event: str, problem: Exception) -> None:
    """Whatever it was: without its loop the server would take files and read none."""
    if isinstance(problem, RethreadError):
        logger.error(event, extra={"fields": {"problem": problem.message}})
    else:
        logger.error(event, exc_info=problem)
