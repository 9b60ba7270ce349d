"""Those who are about to write wait for each other a moment, so that they share one commit.

What SQLite's index of words does at each commit costs more than all else of a small file, and for
ten of them it is hardly more than for one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LONGEST_WAIT_SECONDS: Final = 0.02


class Gathering:
    """Half of those who take part go together; who is alone waits for nobody."""

    def __init__(self) -> None:
        self._parts = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._end: asyncio.TimerHandle | None = None

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        """Be expected to come."""
        self._parts += 1
        try:
            yield
        finally:
            self._parts -= 1
            self._go_if_enough()

    async def come_together(self) -> None:
        """Return at the same moment as others, and soon."""
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        self._waiting.append(waiting)
        if self._end is None:
            self._end = loop.call_later(LONGEST_WAIT_SECONDS, self._go)
        self._go_if_enough()
        await waiting

    def _go_if_enough(self) -> None:
        if len(self._waiting) * 2 >= self._parts:
            self._go()

    def _go(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
