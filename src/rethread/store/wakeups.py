"""Wake-ups within this process: `notify` a topic, and whoever listens to it looks again.

A wake-up carries nothing. It may come for no reason, so a listener reads the store to learn
what is so; and it is never lost between two waits of one listener.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class Wakeup:
    """One listener's side of a topic."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self, *, timeout_seconds: float | None = None) -> bool:
        """True once the topic was notified since the last wait, False when time ran out."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def wake(self) -> Self:
        """Let the wait end."""
        self._event.set()
        return self


class Wakeups:
    """The topics of one process; to be used on its event loop only."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[Wakeup]] = defaultdict(set)

    def notify(self, topic: str) -> None:
        """Wake everybody who listens to the topic now."""
        for wakeup in self._listeners.get(topic, ()):
            wakeup.wake()

    @contextmanager
    def listen(self, topic: str) -> Iterator[Wakeup]:
        """Listen from here on; read the store after this, not before."""
        wakeup = Wakeup()
        self._listeners[topic].add(wakeup)
        try:
            yield wakeup
        finally:
            listeners = self._listeners[topic]
            listeners.discard(wakeup)
            if not listeners:
                del self._listeners[topic]
