"""Turns: so many at a time have one; of those who wait, the urgent ones come first.

Among equals, who came first.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turns:
    """A semaphore with two queues."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._urgent = deque[asyncio.Future[None]]()
        self._others = deque[asyncio.Future[None]]()

    @asynccontextmanager
    async def one(self, *, is_urgent: bool) -> AsyncGenerator[None]:
        """Wait for a turn, and have it."""
        await self.take(is_urgent=is_urgent)
        try:
            yield
        finally:
            self._give_back()

    async def take(self, *, is_urgent: bool) -> None:
        """Wait for a turn, and keep it for ever."""
        if self._free:
            self._free -= 1
            return
        waiting = asyncio.get_running_loop().create_future()
        (self._urgent if is_urgent else self._others).append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():  # the turn came at the same moment
                self._give_back()
            raise

    def _give_back(self) -> None:
        for queue in (self._urgent, self._others):
            while queue:
                waiting = queue.popleft()
                if not waiting.done():
                    waiting.set_result(None)
                    return
        self._free += 1
