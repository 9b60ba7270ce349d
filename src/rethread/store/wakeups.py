"""Wake-ups: `notify` a topic, and whoever listens to it in this process looks again.

A wake-up carries nothing. It may come for no reason, so a listener reads the store to learn
what is so; and it is never lost between two waits of one listener.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Wakeup:
    """One listener's side of a topic."""

    def __init__(self) -> None:
        self.is_from_afar = False  # another process has written: what memory holds is not all
        self._is_woken = False
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self, *, timeout_seconds: float | None = None) -> bool:
        """True once the topic was notified since the last wait, False when time ran out."""
        # A future and a timer: every token of every stream waits here, and an Event within
        # asyncio.timeout costs three times as much.
        if not self._is_woken:
            loop = asyncio.get_running_loop()
            waiting = self._waiting = loop.create_future()
            timer = None
            if timeout_seconds is not None:
                timer = loop.call_later(max(0.0, timeout_seconds), _end, waiting)
            try:
                await waiting
            finally:
                self._waiting = None
                if timer is not None:
                    timer.cancel()
        was_woken, self._is_woken = self._is_woken, False
        return was_woken

    def wake(self, *, from_afar: bool) -> None:
        """Let the wait end."""
        self._is_woken = True
        self.is_from_afar = self.is_from_afar or from_afar
        if self._waiting is not None:
            _end(self._waiting)


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Wakeups:
    """The topics of one process; to be used on its event loop only."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[Wakeup]] = defaultdict(set)

    def notify(self, topic: str, *, from_afar: bool = False) -> None:
        """Wake everybody who listens to the topic now."""
        for wakeup in self._listeners.get(topic, ()):
            wakeup.wake(from_afar=from_afar)

    def notify_all(self) -> None:
        """Wake everybody: something may have been missed."""
        for topic in self._listeners:
            self.notify(topic, from_afar=True)

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
