"""What a signal does: the first one stops the server when its runs are done, the second at once.

Not what stopping is: the web server and the workers know that of themselves.
"""

import asyncio
import logging
import multiprocessing
import signal
import time

from rethread.http.server import Server
from rethread.supervisor import HURRY
from rethread.workers import Workers

logger = logging.getLogger("rethread")


class Stopping:
    """Has the first signal stop the server when its runs are done, the second one at once."""

    def __init__(self, server: Server, workers: Workers, *, grace_seconds: float) -> None:
        self._server = server
        self._workers = workers
        self._grace_seconds = grace_seconds
        self._until: float | None = None
        loop = asyncio.get_running_loop()
        supervisor = multiprocessing.parent_process()
        if supervisor is None:
            loop.add_signal_handler(signal.SIGTERM, self._heed)
            loop.add_signal_handler(signal.SIGINT, self._heed)
        else:
            # Whoever stops a service may tell all its processes, and the supervisor passes that
            # on: it counts once. A process that has lost its supervisor goes too.
            loop.add_signal_handler(signal.SIGTERM, self._begin)
            loop.add_signal_handler(HURRY, self._hurry)
            loop.add_reader(supervisor.sentinel, self._heed_end, supervisor.sentinel)

    async def stop_workers(self) -> None:
        """Return when the runs are done, handed back after the grace, or after a second signal."""
        left = (self._until or 0.0) - time.monotonic()
        await self._workers.stop(grace_seconds=max(0.0, left))

    def _heed_end(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        self._begin()

    def _heed(self) -> None:
        if self._until is None:
            self._begin()
        else:
            self._hurry()

    def _hurry(self) -> None:
        self._server.hurry()
        self._workers.hurry()

    def _begin(self) -> None:
        if self._until is not None:
            return
        self._until = time.monotonic() + self._grace_seconds
        self._server.should_exit = True
        self._workers.begin_to_leave()
        # Other servers go on with them while the last requests here are answered.
        asyncio.get_running_loop().call_later(self._grace_seconds, self._workers.hurry)
        fields = {"runs": self._workers.driving, "grace_seconds": self._grace_seconds}
        logger.info("stopping, at once on a second signal", extra={"fields": fields})
